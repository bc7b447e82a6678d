/** P1, P2, P4: CPU for a request, added latency at a fixed rate, and long prompts. */
import {
  absentOf,
  type Bench,
  type Running,
  requestsDirect,
  requestsTo,
  runningOf,
  weigh,
} from "./bench.ts";
import { median, percentile, print, printBar, printTable, rounded, spreadOf } from "./figures.ts";
import { closedLoop, openLoop } from "./load.ts";
import { chatBodies, conversation } from "./requests.ts";

const CALLERS = 32;
/** Until the compilers are done, at the rate that a gateway on a disk has. */
const WARM_UP_MS = 5_000;
const SMALL = { bytes: 2_048, isStream: false };
const LONG = { bytes: 400 * 1_024, isStream: false };
const P1_LIMIT = 2.5;
const P2_LIMITS = { p50: 1, p99: 5 };
const P4_LIMIT = 4.5;

interface Cost {
  cpuUs: number[];
  serverUs: number[];
  perSecond: number[];
  failure: string;
}

export async function measureCpu(bench: Bench): Promise<void> {
  for (const callers of [CALLERS, 256]) {
    const costs = await costOf(bench, runningOf(bench), () => chatBodies(64, SMALL), callers);
    const title = `P1: CPU for a 2 KB JSON request, ${callers} callers`;
    if (!bench.isJson) printCosts(title, costs);
    bar(bench, "P1", costs, `× nginx, CPU for a 2 KB request, ${callers} callers`, P1_LIMIT);
  }
}

export async function measurePrompt(bench: Bench): Promise<void> {
  const shapes = [
    ["each its own", () => chatBodies(24, LONG)],
    ["one conversation that grows", () => conversation(24, LONG)],
  ] as const;
  for (const [what, bodies] of shapes) {
    const costs = await costOf(bench, runningOf(bench), bodies, 8);
    if (!bench.isJson) printCosts(`P4: CPU for a 400 KB prompt, ${what}`, costs);
    bar(bench, "P4", costs, `× nginx, CPU for a 400 KB prompt, ${what}`, P4_LIMIT);
  }
}

/** Rounds in turns, so that what else the machine does falls on all alike. */
async function costOf(
  bench: Bench,
  contenders: readonly Running[],
  bodies: () => Buffer[],
  callers: number,
): Promise<Map<string, Cost>> {
  const costs = new Map<string, Cost>();
  const sent = bodies();
  for (let round = 0; round <= bench.rounds; round++) {
    const isWarmUp = round === 0;
    for (const contender of contenders) {
      const cost = costs.get(contender.name) ?? emptyCost();
      costs.set(contender.name, cost);
      const requests = requestsTo(contender, sent);
      const forMs = isWarmUp ? WARM_UP_MS : bench.forMs;
      const { result, cpuUs, serverUs } = await weigh(bench, contender, () =>
        closedLoop(contender.process.port, requests, { callers, forMs }),
      );
      cost.failure ||= result.failure;
      if (isWarmUp || result.answers === 0) continue;
      cost.cpuUs.push(cpuUs / result.answers);
      cost.serverUs.push(serverUs / result.answers);
      cost.perSecond.push(result.answers / result.seconds);
    }
  }
  return costs;
}

function emptyCost(): Cost {
  return { cpuUs: [], serverUs: [], perSecond: [], failure: "" };
}

function printCosts(title: string, costs: ReadonlyMap<string, Cost>): void {
  const base = median(costs.get("nginx")?.cpuUs ?? []);
  print(title);
  printTable(
    ["", "CPU µs/request", "× nginx", "requests/s", "PostgreSQL µs", "failed"],
    [...costs].map(([name, cost]) => [
      name,
      spreadOf(cost.cpuUs),
      String(rounded(median(cost.cpuUs) / base)),
      String(rounded(median(cost.perSecond))),
      name === "autocode" ? spreadOf(cost.serverUs) : "",
      cost.failure.slice(0, 60),
    ]),
  );
  print("");
}

function bar(
  bench: Bench,
  name: string,
  costs: ReadonlyMap<string, Cost>,
  unit: string,
  limit: number,
): void {
  const base = median(costs.get("nginx")?.cpuUs ?? []);
  const ratios = [...costs].map(([peer, { cpuUs }]) => [peer, rounded(median(cpuUs) / base)]);
  const absent = absentOf(bench).map((peer) => [peer, "absent"]);
  const peers = { ...Object.fromEntries([...ratios, ...absent]), nginx_us: rounded(base) };
  const value = median(costs.get("autocode")?.cpuUs ?? []) / base;
  printBar({ bar: name, value, unit, limit, is: "at most", peers }, bench.isJson);
}

/** Added to what the upstream itself takes at the same rate, in the same round. */
export async function measureLatency(bench: Bench): Promise<void> {
  const bodies = chatBodies(64, SMALL);
  const rows: { name: string; rate: number; p50: number[]; p99: number[]; reached: number[] }[] =
    [];
  const direct = { p50: [] as number[], p99: [] as number[] };
  // What cannot keep up is measured at a rate that it can.
  const rates = new Map([["litellm", 50]]);
  for (let round = 0; round <= bench.rounds; round++) {
    const load = { perSecond: bench.perSecond, forMs: bench.forMs };
    const straight = await openLoop(bench.upstreamPort, requestsDirect(bench, bodies), load);
    const base = { p50: median(straight.tookMs), p99: percentile(straight.tookMs, 0.99) };
    if (round > 0) {
      direct.p50.push(base.p50);
      direct.p99.push(base.p99);
    }
    for (const contender of runningOf(bench)) {
      const { name, process } = contender;
      const perSecond = rates.get(name) ?? bench.perSecond;
      const row = rows.find((one) => one.name === name) ?? {
        ...{ name, rate: perSecond, p50: [], p99: [], reached: [] },
      };
      if (!rows.includes(row)) rows.push(row);
      const requests = requestsTo(contender, bodies);
      const result = await openLoop(process.port, requests, { ...load, perSecond });
      if (round === 0 || result.answers === 0) continue;
      row.p50.push(median(result.tookMs) - base.p50);
      row.p99.push(percentile(result.tookMs, 0.99) - base.p99);
      row.reached.push(result.answers / result.seconds);
    }
  }
  if (!bench.isJson) {
    print(`P2: added latency at ${bench.perSecond} requests/s, open loop (ms over direct)`);
    const own = `direct itself: p50 ${spreadOf(direct.p50)}, p99 ${spreadOf(direct.p99)}`;
    printTable(
      ["", "asked/s", "reached/s", "added p50", "added p99"],
      rows.map(({ name, rate, p50, p99, reached }) => [
        name,
        String(rate),
        String(rounded(median(reached))),
        spreadOf(p50),
        spreadOf(p99),
      ]),
    );
    print(`  ${own}\n`);
  }
  const ours = rows.find(({ name }) => name === "autocode");
  for (const part of ["p50", "p99"] as const) {
    const peers = {
      ...Object.fromEntries(rows.map((row) => [row.name, rounded(median(row[part]))])),
      ...Object.fromEntries(absentOf(bench).map((name) => [name, "absent"])),
      direct_ms: rounded(median(direct[part])),
      reached_per_second: rounded(median(ours?.reached ?? [])),
    };
    const unit = `ms added ${part} at ${bench.perSecond} requests/s`;
    const value = median(ours?.[part] ?? []);
    const limit = P2_LIMITS[part];
    printBar({ bar: "P2", value, unit, limit, is: "at most", peers }, bench.isJson);
  }
}
