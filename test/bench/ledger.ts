/**
 * Bench: reserve + settle pairs on one hot budget inside a project's and a day's, on a server of
 * its own with disk flushes on (P6); and what a hold costs as history grows (P7).
 *
 * The peer is pgbench with the same two statements on the same rows. It and ours run in turns, in
 * one run; medians of the rounds are told. One caller is compared with one of pgbench, which sends
 * the single statements from C; and, for whoever asks what a statement costs at all, with a durable
 * insert of one row through our driver.
 *
 *     node test/bench/ledger.ts [--json] [--seconds=3] [--rounds=3] [--callers=1,16,32,64,256]
 *       [--rows=10000,100000]       (the full P7: --rows=10000,100000,1000000,10000000, and 12 GB)
 */
import { parseArgs } from "node:util";
import { sql } from "drizzle-orm";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestEmbedded, openTestFolder } from "../support/embedded.ts";
import { measureHistory } from "./ledger/history.ts";
import { openPath, pairOf } from "./ledger/paths.ts";
import { type Figures, findPgbench, percentiles, runPgbench } from "./ledger/pgbench.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    callers: { type: "string", default: "1,16,32,64,256" },
    rows: { type: "string", default: "10000,100000" },
  },
});
const SECONDS = Number(values.seconds);
const ROUNDS = Number(values.rounds);
/** How many transfers there are already, each a database. Empty: P7 is left out. */
const HISTORIES = numbers(values.rows);
const CALLERS = numbers(values.callers);
/** The ratios to pgbench that faults.md asks for (P6), at as many callers. */
const RATIO_MIN = new Map([
  [32, 5],
  [256, 40],
]);
const SINGLE_MAX = 1.5;
const GROWTH_MAX = 1.1;

const ids = createIds(systemClock, systemRandom);
await using folder = await openTestFolder();
await using database = await openTestEmbedded(folder.path, {
  max_connections: "300",
  maintenance_work_mem: "512MB",
});
const ledger = createLedger(database, systemClock);
const hot = await openPath(ledger, ids);
const warm = await openPath(ledger, ids);
await Promise.all(Array.from({ length: 200 }, () => pairOf(ledger, ids, warm)));
await database.sql.execute(sql`create table bench_row (id text primary key)`);
const pgbench = await findPgbench();

const print = (line: string) => process.stdout.write(`${line}\n`);
if (!values.json) {
  print("                ours                        pgbench, same statements");
  print("callers   pairs/s   p50 ms    p99 ms   pairs/s   p50 ms    p99 ms   ours / pgbench");
}
for (const callers of CALLERS) await measurePairs(callers);
await auditLedger(database);
if (HISTORIES.length > 0) await measureGrowth();

async function measurePairs(callers: number): Promise<void> {
  const ours: Figures[] = [];
  const peer: Figures[] = [];
  const least: Figures[] = [];
  // One caller's latency is soon known, and what else the machine does changes it most.
  const isAlone = callers === 1;
  for (let round = 0; round < (isAlone ? 4 * ROUNDS : ROUNDS); round++) {
    ours.push(await measure(callers, isAlone ? 1 : SECONDS, () => pairOf(ledger, ids, hot)));
    if (isAlone) least.push(await measure(1, 1, insertOne));
    if (pgbench === null) continue;
    // So many that wait for one row finish less than one a second each.
    const seconds = isAlone ? 1 : callers > 100 ? 4 * SECONDS : SECONDS;
    const load = { url: database.url, callers, seconds, path: hot };
    peer.push(await runPgbench(pgbench, load));
  }
  const [us, them] = [median(ours), peer.length === 0 ? null : median(peer)];
  const ratio = them === null ? null : us.perSecond / them.perSecond;
  if (!values.json) {
    const cells = [String(callers).padEnd(8), ...figureCells(us), ...figureCells(them)];
    print([...cells, ratio === null ? "absent" : `${ratio.toFixed(1)} ×`.padStart(9)].join(" "));
  }
  const peers = {
    ours_per_second: rounded(us.perSecond),
    ours_p50_ms: rounded(us.p50Ms),
    ours_p99_ms: rounded(us.p99Ms),
    pgbench_per_second: them === null ? "absent" : rounded(them.perSecond),
    pgbench_p99_ms: them === null ? "absent" : rounded(them.p99Ms),
  };
  if (callers === 1) {
    const value = them === null ? null : us.p50Ms / them.p50Ms;
    const isWithin = value !== null && value <= SINGLE_MAX;
    // A pair is two requests.
    const told = { ...peers, times_an_insert: rounded(us.p50Ms / 2 / median(least).p50Ms) };
    tellBar("P6", value, "× a single statement of pgbench, 1 caller", SINGLE_MAX, isWithin, told);
    return;
  }
  const limit = RATIO_MIN.get(callers);
  if (limit === undefined) return;
  tellBar("P6", ratio, `× pgbench, ${callers} callers`, limit, (ratio ?? 0) >= limit, peers);
}

async function insertOne(): Promise<void> {
  await database.sql.execute(sql`insert into bench_row values (${ids.next("log")})`);
}

async function measureGrowth(): Promise<void> {
  const options = { url: database.url, histories: HISTORIES, rounds: 2 * ROUNDS, seconds: SECONDS };
  const found = await measureHistory(options);
  if (!values.json) print("\ntransfers before   one hold, p50 ms   pairs/s of 64 callers");
  for (const { rows, holdMs, perSecond } of values.json ? [] : found) {
    const cells = [String(rows).padStart(16), holdMs.toFixed(3).padStart(18)];
    print([...cells, perSecond.toFixed(0).padStart(23)].join(" "));
  }
  const [first] = found;
  if (first === undefined) return;
  const value = Math.max(...found.map(({ holdMs }) => holdMs)) / first.holdMs;
  const most = HISTORIES.at(-1);
  const unit = `× a hold after ${first.rows} transfers, the dearest up to ${most}`;
  const peers = Object.fromEntries(found.map(({ rows, holdMs }) => [rows, rounded(holdMs)]));
  tellBar("P7", value, unit, GROWTH_MAX, value <= GROWTH_MAX, peers);
}

/** Pairs a second of so many callers, each at its next when it is done. */
async function measure(
  callers: number,
  forSeconds: number,
  once: () => Promise<void>,
): Promise<Figures> {
  const startMs = performance.now();
  const endMs = startMs + forSeconds * 1_000;
  const tookMs: number[] = [];
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() < endMs) {
        const beforeMs = performance.now();
        await once();
        tookMs.push(performance.now() - beforeMs);
      }
    }),
  );
  const seconds = (performance.now() - startMs) / 1_000;
  return { perSecond: tookMs.length / seconds, ...percentiles(tookMs) };
}

function median(figures: readonly Figures[]): Figures {
  const of = (read: (one: Figures) => number) => percentiles(figures.map(read)).p50Ms;
  return {
    perSecond: of(({ perSecond }) => perSecond),
    p50Ms: of(({ p50Ms }) => p50Ms),
    p99Ms: of(({ p99Ms }) => p99Ms),
  };
}

function figureCells(figures: Figures | null): string[] {
  if (figures === null) return ["absent".padStart(27)];
  const { perSecond, p50Ms, p99Ms } = figures;
  return [
    perSecond.toFixed(0).padStart(8),
    p50Ms.toFixed(2).padStart(9),
    p99Ms.toFixed(2).padStart(9),
  ];
}

function numbers(text: string): number[] {
  return text
    .split(",")
    .filter((part) => part !== "")
    .map(Number);
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

function tellBar(
  bar: string,
  value: number | null,
  unit: string,
  limit: number,
  pass: boolean,
  peers: Record<string, unknown>,
): void {
  const told = value === null ? null : rounded(value);
  if (values.json) print(JSON.stringify({ bar, value: told, unit, limit, pass, peers }));
  else {
    const also = peers["times_an_insert"];
    const besides = also === undefined ? "" : `; ${also} × one durable insert`;
    const verdict = pass ? "pass" : "miss";
    print(`${bar}: ${told ?? "absent"} ${unit} (limit ${limit}): ${verdict}${besides}`);
  }
}
