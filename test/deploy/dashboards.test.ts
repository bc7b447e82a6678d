/**
 * Goal: Grafana's dashboard asks for series that somebody has, and Prometheus for metrics that the
 * relay has.
 * Method: names are looked up in our own source, in vLLM's list of metrics, and in Compose's file.
 */
import assert from "node:assert/strict";
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { parse } from "yaml";

const ROOT = join(import.meta.dirname, "../..");
const read = (path: string) => readFile(join(ROOT, path), "utf8");

/** Of vLLM 0.32's /metrics, as it was seen. */
const OF_VLLM = [
  "vllm:generation_tokens_total",
  "vllm:inter_token_latency_seconds",
  "vllm:kv_cache_usage_perc",
  "vllm:num_requests_running",
  "vllm:num_requests_waiting",
  "vllm:prefix_cache_hits_total",
  "vllm:prefix_cache_queries_total",
  "vllm:prompt_tokens_total",
  "vllm:time_to_first_token_seconds",
];

interface Panel {
  id: number;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: { expr: string }[];
}

test("Each series of the dashboard is one that vLLM or we have", async () => {
  const text = await read("deploy/compose/grafana/dashboards/autocode.json");
  const { panels } = JSON.parse(text) as { panels: Panel[] };
  const expressions = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
  const names = expressions.flatMap((each) => each.match(/\b(vllm:|autocode_)\w+/g) ?? []);
  const series = [...new Set(names.map((name) => name.replace(/_bucket$/, "")))].sort();
  const ofVllm = series.filter((name) => name.startsWith("vllm:"));
  assert.deepEqual(ofVllm, OF_VLLM);

  const files = ["proxy/gateway/metrics.ts", "orchestrator/doctor/doctor.ts"];
  const source = (await Promise.all(files.map(read))).join("\n");
  const ours = series.filter((name) => name.startsWith("autocode_"));
  assert.ok(ours.length >= 4);
  for (const name of ours) {
    assert.ok(source.includes(name.replace("autocode_gateway_", "")), name);
  }
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  assert.equal(new Set(panels.map(({ gridPos: { x, y } }) => `${x} ${y}`)).size, panels.length);
});

test("vLLM's names are those of the installed one", async (t) => {
  const [folder] = await Array.fromAsync(
    glob(".engines/vllm/lib/python*/site-packages/vllm/v1/metrics", { cwd: ROOT }),
  );
  if (folder === undefined) {
    t.skip("vLLM is not installed: npm run engines vllm");
    return;
  }
  const source = await read(join(folder, "loggers.py"));
  // A counter's name gets its _total where it is written out.
  const missing = OF_VLLM.filter((name) => !source.includes(`"${name.replace(/_total$/, "")}"`));
  assert.deepEqual(missing, []);
});

test("Each of Prometheus' jobs is a path of the relay", async () => {
  const { scrape_configs: jobs } = parse(await read("deploy/compose/prometheus.yml")) as {
    scrape_configs: { metrics_path: string; static_configs: { targets: string[] }[] }[];
  };
  const { services } = parse(await read("docker-compose.gpu.yml"), { merge: true }) as {
    services: Record<string, { command: string[] }>;
  };
  const [, , where, ...sources] = services["metrics-relay"]?.command ?? [];
  assert.deepEqual(
    jobs.map(({ metrics_path: path }) => path.slice(1)),
    sources.map((each) => each.split("=")[0]),
  );
  const targets = jobs.flatMap(({ static_configs }) => static_configs.flatMap((e) => e.targets));
  assert.deepEqual(new Set(targets), new Set([where]));
});
