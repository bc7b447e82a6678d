/**
 * Bench: reserve + settle pairs a second on one hot budget inside a project's and a day's, on a
 * server of its own with disk flushes on.
 *
 * The peer does the same to the same tables the usual way: a transaction for each request (lock,
 * check, update, insert), as many at once as there are connections. Both run in turns, in one run.
 *
 *     node test/bench/ledger.ts [--json] [--seconds=3]
 */
import { parseArgs } from "node:util";
import { sql } from "drizzle-orm";
import type { Database } from "../../orchestrator/db/database.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { rfc3339, systemClock } from "../../orchestrator/runtime/clock.ts";
import { type AccountId, createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestEmbedded, openTestFolder } from "../support/embedded.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    seconds: { type: "string", default: "3" },
  },
});
const RUN_MS = Number(values.seconds) * 1_000;
/** About what a server takes by default. */
const PEER_CONNECTIONS = 90;
const HELD_NANOS = 1_000n;
const COST_NANOS = 300n;
/** The ratios that faults.md asks for (P6), against the peer at as many callers. */
const BARS = new Map([
  [32, 5],
  [256, 40],
]);

const ids = createIds(systemClock, systemRandom);
await using folder = await openTestFolder();
await using database = await openTestEmbedded(folder.path);
await using peerDatabase = await openPostgresDatabase({
  url: database.url,
  log: createLog("silent"),
  connectionsMax: PEER_CONNECTIONS,
});
const ledger = createLedger(database, systemClock);

interface Path {
  within: [AccountId, AccountId];
  budget: AccountId;
  spend: AccountId;
}

async function openPath(): Promise<Path> {
  const name = ids.next("log");
  const open = (kind: "funding" | "budget" | "spend", owner: string) =>
    ledger.open({
      id: ids.next("account"),
      kind,
      owner: `${name}/${owner}`,
      currency: "CAD",
      mustNotExceed: kind === "budget",
    });
  const funding = await open("funding", "all");
  const budgets: AccountId[] = [];
  for (const owner of ["project", "day", "trial"]) {
    const to = await open("budget", owner);
    const id = ids.next("transfer");
    await ledger.fund({ id, from: funding, to, amountNanos: 10n ** 17n, reason: "bench" });
    budgets.push(to);
  }
  const [project, day, budget] = budgets as [AccountId, AccountId, AccountId];
  return { within: [project, day], budget, spend: await open("spend", "project") };
}

async function ourPair({ within, budget, spend }: Path): Promise<void> {
  const pendingId = ids.next("transfer");
  const held = { id: pendingId, budget, within, spend, amountNanos: HELD_NANOS, timeoutMs: 60_000 };
  const reserved = await ledger.reserve(held);
  const settlement = { id: ids.next("transfer"), pendingId, amountNanos: COST_NANOS };
  const settled = await ledger.settle(settlement);
  if (reserved.outcome !== "reserved" || settled.outcome !== "settled") {
    throw new Error(`${reserved.outcome}, ${settled.outcome}`);
  }
}

/** What one writes without thinking of the hot row: correct, a transaction for each step. */
async function peerPair(db: Database, { within, budget, spend }: Path): Promise<void> {
  const budgets = sql.param([...within, budget]);
  const all = sql.param([...within, budget, spend]);
  const pendingId = ids.next("transfer");
  for (const step of ["reserve", "settle"] as const) {
    await db.sql.transaction(async (tx) => {
      await tx.execute(sql`select * from account where id = any(${all}) order by id for update`);
      const isReserve = step === "reserve";
      await tx.execute(sql`
        update account set
          debits_pending_nanos = debits_pending_nanos + ${isReserve ? HELD_NANOS : -HELD_NANOS},
          debits_posted_nanos = debits_posted_nanos + ${isReserve ? 0n : COST_NANOS}
        where id = any(${budgets})`);
      await tx.execute(sql`
        update account set
          credits_pending_nanos = credits_pending_nanos + ${isReserve ? HELD_NANOS : -HELD_NANOS},
          credits_posted_nanos = credits_posted_nanos + ${isReserve ? 0n : COST_NANOS}
        where id = ${spend}`);
      const now = systemClock.now();
      await tx.execute(sql`
        insert into transfer (id, kind, debit_account_id, within, credit_account_id, amount_nanos,
          pending_id, expires_at, reason, created_at)
        values (${isReserve ? pendingId : ids.next("transfer")}, ${isReserve ? "pending" : "post"},
          ${budget}, ${sql.param(within)}, ${spend}, ${isReserve ? HELD_NANOS : COST_NANOS},
          ${isReserve ? null : pendingId}, ${isReserve ? rfc3339(now + 60_000) : null}, 'call',
          ${rfc3339(now)})`);
    });
  }
}

/** Pairs a second, and the 99th percentile of a pair in milliseconds. */
async function measure(callers: number, pair: () => Promise<void>) {
  const endMs = performance.now() + RUN_MS;
  const tookMs: number[] = [];
  const startMs = performance.now();
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() < endMs) {
        const before = performance.now();
        await pair();
        tookMs.push(performance.now() - before);
      }
    }),
  );
  const seconds = (performance.now() - startMs) / 1_000;
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.floor(sorted.length * part)] ?? 0;
  return { perSecond: sorted.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
}

const print = (line: string) => process.stdout.write(`${line}\n`);
const round = (value: number) => Number(value.toPrecision(3));

const hot = await openPath();
const warm = await openPath();
await Promise.all(Array.from({ length: 200 }, () => ourPair(warm)));

// What a request costs at the least: one durable statement of one row.
await database.sql.execute(sql`create table bench_row (id text primary key)`);
const statement = await measure(1, async () => {
  await database.sql.execute(sql`insert into bench_row values (${ids.next("log")})`);
});

if (!values.json) {
  print(`one durable insert: ${statement.p50Ms.toFixed(2)} ms p50`);
  print("callers   pairs/s     p50 ms    p99 ms    peer pairs/s   ratio");
}
for (const callers of [1, 32, 256]) {
  const ours = await measure(callers, () => ourPair(hot));
  const peer = await measure(callers, () => peerPair(peerDatabase, hot));
  const ratio = ours.perSecond / peer.perSecond;
  if (!values.json) {
    const cells = [
      String(callers).padEnd(9),
      ours.perSecond.toFixed(0).padStart(7),
      ours.p50Ms.toFixed(2).padStart(10),
      ours.p99Ms.toFixed(2).padStart(9),
      peer.perSecond.toFixed(0).padStart(15),
      `${ratio.toFixed(1)} ×`.padStart(9),
    ];
    print(cells.join(" "));
    continue;
  }
  const peers = {
    transactions_per_second: round(peer.perSecond),
    ours_per_second: round(ours.perSecond),
    ours_p99_ms: round(ours.p99Ms),
  };
  if (callers === 1) {
    // A pair is two requests.
    const value = round(ours.p50Ms / 2 / statement.p50Ms);
    const unit = "× one durable statement, 1 caller";
    print(JSON.stringify({ bar: "P6", value, unit, limit: 1.5, pass: value <= 1.5, peers }));
    continue;
  }
  const limit = BARS.get(callers) ?? 1;
  const unit = `× single transactions, ${callers} callers`;
  const line = { bar: "P6", value: round(ratio), unit, limit, pass: ratio >= limit, peers };
  print(JSON.stringify(line));
}
await auditLedger(database);
