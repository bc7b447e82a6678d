/**
 * Bench: our gateway, with keys, budgets and a durable reservation and settlement for each call,
 * beside what others run in its place, before one and the same upstream, in turns, in one run.
 *
 * What repeats on a busy machine is CPU time for a request as a ratio to nginx in the same run;
 * latencies are told, with their rate. Each gateway is pinned to one core, load and upstream to
 * another. PostgreSQL's CPU is told apart.
 *
 *     npm run engines -- bench       installs the peers that can be had
 *     node test/bench/gateway.ts [--json] [--only=P1,P2] [--rounds=3] [--seconds=4] [--rate=1000]
 *       [--streams=200] [--peers=nginx,undici,portkey,litellm]
 */
import { execFileSync } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { execPath } from "node:process";
import { parseArgs } from "node:util";
import { openTestEmbedded, openTestFolder } from "../support/embedded.ts";
import type { Bench, Contender } from "./gateway/bench.ts";
import { print } from "./gateway/figures.ts";
import { measureCpu, measureLatency, measurePrompt } from "./gateway/measure.ts";
import { measureMemory } from "./gateway/memory.ts";
import { issueKeys, startOurs } from "./gateway/ours.ts";
import { PEERS } from "./gateway/peers.ts";
import { prioritise, startMeasured } from "./gateway/processes.ts";
import { measureStreams } from "./gateway/streams.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    only: { type: "string", default: "P1,P2,P3,P4,P5" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "4" },
    rate: { type: "string", default: "1000" },
    streams: { type: "string", default: "200" },
    peers: { type: "string", default: PEERS.map(({ name }) => name).join(",") },
  },
});
const GATEWAY_CPU = 1;
const LOAD_CPU = 0;
/** A key may have 32 calls running. */
const KEYS = 48;

execFileSync("taskset", ["-cp", String(LOAD_CPU), String(process.pid)], { stdio: "ignore" });
await using folder = await openTestFolder();
await using database = await openTestEmbedded(join(folder.path, "postgres"));
for (const pid of [process.pid, database.serverPid()]) await prioritise(pid);
await using upstream = await startMeasured(execPath, {
  args: [join(import.meta.dirname, "gateway/upstream.ts"), "100", "20"],
  cpu: LOAD_CPU,
  port: null,
});
const keys = await issueKeys(database, KEYS);
await using running = new AsyncDisposableStack();
const contenders: Contender[] = [];
for (const peer of PEERS) {
  if (!values.peers.split(",").includes(peer.name)) continue;
  const options = {
    upstreamPort: upstream.port,
    folder: join(folder.path, peer.name),
    cpu: GATEWAY_CPU,
  };
  await mkdir(options.folder, { recursive: true });
  try {
    const process = running.use(await peer.start(options));
    const { name, note, key } = peer;
    const keys = key === null ? null : [key];
    contenders.push({ name, note, process, headers: peer.headers(upstream.port), keys });
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).split("\n")[0];
    contenders.push({ name: peer.name, note: `absent: ${why}`, process: null });
  }
}
const ours = running.use(
  await startOurs(database, upstream.port, { cpu: GATEWAY_CPU, home: join(folder.path, "home") }),
);
const note = "key, 4 budgets, durable reserve and settle, bodies recorded";
contenders.push({ name: "autocode", note, process: ours, headers: {}, keys });

const bench: Bench = {
  isJson: values.json,
  rounds: Number(values.rounds),
  forMs: Number(values.seconds) * 1_000,
  perSecond: Number(values.rate),
  streams: Number(values.streams),
  upstreamPort: upstream.port,
  serverPid: database.serverPid(),
  contenders,
};
if (!values.json) {
  for (const { name, note } of contenders) print(`${name.padEnd(9)} ${note}`);
  print("");
}
const only = values.only.split(",");
// First, while nothing that was measured before is left in memory.
if (only.includes("P5")) await measureMemory(bench);
if (only.includes("P1")) await measureCpu(bench);
if (only.includes("P2")) await measureLatency(bench);
if (only.includes("P3")) await measureStreams(bench);
if (only.includes("P4")) await measurePrompt(bench);
if (process.env["BENCH_DEBUG"] !== undefined) print(ours.output().slice(-3000));
