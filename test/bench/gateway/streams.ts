/** P3: streams paced at 50 tokens a second. */
import { absentOf, type Bench, requestsDirect, requestsTo, runningOf, weigh } from "./bench.ts";
import { median, percentile, print, printBar, printTable, rounded, spreadOf } from "./figures.ts";
import { spread } from "./load.ts";
import { chatBodies } from "./requests.ts";

/** Each begins in its own moment of this time. */
const OVER_MS = 1_000;
const TOKENS_PER_SECOND = 50;
const LIMITS = { ratio: 1.8, streams: 600, firstMs: 20 };
/** It starves at this many: its figures would be of its queue. */
const LEFT_OUT = ["litellm"];

interface Cost {
  chunkUs: number[];
  frames: number[];
  p50: number[];
  p99: number[];
  failure: string;
}

export async function measureStreams(bench: Bench): Promise<void> {
  const bodies = chatBodies(64, { bytes: 2_048, isStream: true });
  const load = { count: bench.streams, overMs: OVER_MS };
  const costs = new Map<string, Cost>();
  const direct: Cost = { chunkUs: [], frames: [], p50: [], p99: [], failure: "" };
  for (let round = 0; round <= Math.min(bench.rounds, 3); round++) {
    const straight = await spread(bench.upstreamPort, requestsDirect(bench, bodies), load);
    if (round > 0) {
      direct.p50.push(median(straight.firstMs));
      direct.p99.push(percentile(straight.firstMs, 0.99));
      direct.frames.push(straight.frames / straight.answers);
    }
    for (const contender of runningOf(bench)) {
      const { name, process } = contender;
      if (LEFT_OUT.includes(name)) continue;
      const cost = costs.get(name) ?? { chunkUs: [], frames: [], p50: [], p99: [], failure: "" };
      costs.set(name, cost);
      const requests = requestsTo(contender, bodies);
      const { result, cpuUs } = await weigh(bench, contender, () =>
        spread(process.port, requests, load),
      );
      cost.failure ||= result.failure;
      if (round === 0 || result.answers === 0) continue;
      cost.chunkUs.push(cpuUs / (straight.frames / straight.answers) / result.answers);
      cost.frames.push(result.frames / result.answers);
      cost.p50.push(median(result.firstMs));
      cost.p99.push(percentile(result.firstMs, 0.99));
    }
  }
  if (!bench.isJson) printStreams(bench, costs, direct);
  bars(bench, costs, direct);
}

function printStreams(bench: Bench, costs: ReadonlyMap<string, Cost>, direct: Cost): void {
  const base = median(costs.get("nginx")?.chunkUs ?? []);
  print(`P3: ${bench.streams} streams at ${TOKENS_PER_SECOND} tokens/s`);
  const line = (name: string, cost: Cost) => [
    name,
    spreadOf(cost.chunkUs),
    cost.chunkUs.length === 0 ? "" : String(rounded(median(cost.chunkUs) / base)),
    cost.chunkUs.length === 0 ? "" : String(streamsPerCore(cost)),
    String(rounded(median(cost.frames))),
    spreadOf(cost.p50),
    spreadOf(cost.p99),
    cost.failure.slice(0, 50),
  ];
  printTable(
    ["", "CPU µs/chunk", "× nginx", "streams/core", "frames", "first p50", "first p99", "failed"],
    [line("direct", direct), ...[...costs].map(([name, cost]) => line(name, cost))],
  );
  print("");
}

function streamsPerCore({ chunkUs }: Cost): number {
  return Math.floor(1e6 / TOKENS_PER_SECOND / median(chunkUs));
}

function bars(bench: Bench, costs: ReadonlyMap<string, Cost>, direct: Cost): void {
  const ours = costs.get("autocode");
  if (ours === undefined) return;
  const base = median(costs.get("nginx")?.chunkUs ?? []);
  const absent = Object.fromEntries(
    [...absentOf(bench), ...LEFT_OUT].map((name) => [name, "absent"]),
  );
  const of = (read: (cost: Cost) => number) => ({
    ...Object.fromEntries([...costs].map(([name, cost]) => [name, rounded(read(cost))])),
    ...absent,
  });
  const added = (cost: Cost) => median(cost.p99) - median(direct.p99);
  const lost = (cost: Cost) => median(direct.frames) - median(cost.frames);
  const at = (unit: string, read: (cost: Cost) => number, limit: number, isLeast = false) =>
    printBar(
      {
        ...{ bar: "P3", value: read(ours), unit, limit, peers: of(read) },
        is: isLeast ? "at least" : "at most",
      },
      bench.isJson,
    );
  at("× nginx, CPU for a chunk", (cost) => median(cost.chunkUs) / base, LIMITS.ratio);
  at("streams a core", streamsPerCore, LIMITS.streams, true);
  at("chunks of a stream that were joined", (cost) => Math.max(0, lost(cost)), 0);
  at("ms to the first token over direct, p99", added, LIMITS.firstMs);
}
