/**
 * Goal: the application that we render for Ray Serve is one that Ray runs: both models of a pair,
 * each an engine of its own, behind one ingress, and our gateway before it, which settles by their
 * own counters: `npm run test:ray`.
 *
 * Method: Ray itself with vLLM on processors and two tiny models, in a network of its own, since it
 * listens on every interface and asks for no key. Slow, and 10 GB of memory.
 */
import assert from "node:assert/strict";
import { readdir, readFile, readlink } from "node:fs/promises";
import test from "node:test";
import { request } from "undici";
import { parse } from "yaml";
import type { ModelCard } from "../../models/card.ts";
import { rayConfig } from "../../models/serving/ray-config.ts";
import { gatewayTo } from "../models/serving/engine/gateway.ts";
import { eventually } from "../support/eventually.ts";
import { modelPlan, pairPlan } from "../support/model-plan.ts";
import {
  RAY_DASHBOARD as DASHBOARD,
  RAY_METRICS_PORT as METRICS_PORT,
  startRay,
  TINY_WEIGHTS as TINY,
  whyNoRay,
} from "../support/ray-server.ts";
import { TINY_CARD } from "../support/vllm.ts";

const PORT = 18_000;
/** Idle it takes three minutes. */
const RUNNING_MS = 1_200_000;
const THINKING_CARD: ModelCard = {
  ...TINY_CARD,
  name: "tiny-thinking",
  quantisations: TINY_CARD.quantisations.map((one) => ({ ...one, repository: "autocode/other" })),
  toolParser: null,
};
/** What the rendered application calls it: its name at the hub. */
const nameOf = ({ quantisations: [best] }: ModelCard) => best?.repository ?? "";
const CARDS = new Map([TINY_CARD, THINKING_CARD].map((card) => [card.name, card]));
const skip = whyNoRay();

interface Applications {
  applications: Record<
    string,
    { status: string; message: string; deployments: Record<string, { status: string }> }
  >;
}

test("a rendered pair runs on Ray Serve, and is paid by its counters", { skip }, async (t) => {
  const started = performance.now();
  const seconds = () => Math.round((performance.now() - started) / 1000);
  await using ray = await startRay();
  t.diagnostic(`Ray answers after ${seconds()} s`);
  await deploy();
  const isRunning = async () => (await ray.orEnded(status()))?.status === "RUNNING";
  await eventually(isRunning, Boolean, RUNNING_MS);
  t.diagnostic(`both engines run after ${seconds()} s, with ${await memoryGib()} GiB`);

  const ingress = { url: `http://127.0.0.1:${PORT}` };
  for (const card of CARDS.values()) {
    await t.test(`${card.name}, whole and streamed, is settled as it counted`, async () => {
      const isThinking = card.toolParser === null;
      await using world = await gatewayTo(ingress, { model: { upstreamName: nameOf(card) } });
      const before = await counted(nameOf(card));
      for (const stream of [false, true]) {
        const kwargs = { chat_template_kwargs: { enable_thinking: isThinking } };
        const body = { max_tokens: 16, ignore_eos: true, stream, ...kwargs };
        const response = await world.chat(body);
        const text = await response.text();
        assert.equal(response.status, 200, text);
        assert.match(text, isThinking ? /"reasoning":"/ : /"content":"/);
      }
      const calls = await world.calls();
      const sum = (column: string) =>
        calls.reduce((total, call) => total + Number(call[column]), 0);
      assert.deepEqual(
        calls.map(({ is_estimated, error }) => [is_estimated, error]),
        [
          [false, null],
          [false, null],
        ],
      );
      assert.equal(sum("output_tokens"), 32);
      const input = ["input_tokens", "cache_read_tokens", "cache_write_tokens"]
        .map(sum)
        .reduce((total, count) => total + count, 0);
      // Ray collects its workers' figures every few seconds.
      await eventually(
        async () => {
          const now = await counted(nameOf(card));
          return [now.input - before.input, now.output - before.output];
        },
        ([inputNow, outputNow]) => inputNow === input && outputNow === 32,
        60_000,
      );
    });
  }

  await t.test("a model that is not there is our fault, and costs nothing", async () => {
    await using world = await gatewayTo(ingress, { model: { upstreamName: "another" } });
    const response = await world.chat({ max_tokens: 8 });
    assert.equal(response.status, 502, await response.text());
    assert.equal((await world.quiet(world.budget)).spentNanos, 0n);
  });
});

/** As rendered, but for what a random model on a few cores needs to answer soon. */
async function deploy(): Promise<void> {
  const common = { gpus: [], max_sequences: 8, context_tokens: 8192 };
  const memory = [{ part: "kv_cache" as const, bytes: 2 ** 30 }];
  const plan = pairPlan({
    pair: "tiny",
    models: [TINY_CARD, THINKING_CARD].map((card) => modelPlan(card, { ...common, memory })) as [
      ReturnType<typeof modelPlan>,
      ReturnType<typeof modelPlan>,
    ],
  });
  const weightsDirs = new Map([...CARDS.keys()].map((name) => [name, TINY]));
  const options = { weightsDirs, host: "127.0.0.1", port: PORT, replicasMax: 1 };
  const config = parse(rayConfig(plan, CARDS, options)) as {
    applications: { args: { llm_configs: { engine_kwargs: Record<string, unknown> }[] } }[];
  };
  for (const { args } of config.applications) {
    for (const { engine_kwargs } of args.llm_configs) engine_kwargs["enforce_eager"] = true;
  }
  // Not `fetch`: Ray takes the headers that it adds for a browser's, and refuses.
  const response = await request(`${DASHBOARD}/api/serve/applications/`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(config),
  });
  assert.equal(response.statusCode, 200, await response.body.text());
}

/** Null until Ray knows it. @throws AssertionError with Ray's words when it was given up. */
async function status() {
  const response = await fetch(`${DASHBOARD}/api/serve/applications/`);
  if (!response.ok) return null;
  const found = ((await response.json()) as Applications).applications["tiny"];
  if (found === undefined) return null;
  assert.notEqual(found.status, "DEPLOY_FAILED", found.message);
  return found;
}

/** Of the engine of this model, as Ray exports them: `ray_vllm_…`. */
async function counted(model: string): Promise<{ input: number; output: number }> {
  const text = await (await fetch(`http://127.0.0.1:${METRICS_PORT}/metrics`)).text();
  const sum = (kind: string) =>
    text
      .split("\n")
      .filter((line) => line.startsWith(`ray_vllm_${kind}_tokens_total{`))
      .filter((line) => line.includes(`model_name="${model}"`))
      .reduce((total, line) => total + Number(line.split(" ").at(-1)), 0);
  return { input: sum("prompt"), output: sum("generation") };
}

/** Of Ray and its engines, what they share counted once. */
async function memoryGib(): Promise<string> {
  const networkOf = (pid: string) => readlink(`/proc/${pid}/ns/net`).catch(() => "");
  const own = await networkOf("self");
  let kib = 0;
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    if ((await networkOf(pid)) !== own) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "latin1").catch(() => "");
    if (!/ray|vllm/i.test(command)) continue;
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "latin1").catch(() => "");
    kib += Number(/^Pss: +(\d+)/m.exec(rollup)?.[1] ?? 0);
  }
  return (kib / 2 ** 20).toFixed(1);
}
