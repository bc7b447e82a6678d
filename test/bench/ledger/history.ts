/**
 * What a hold costs when there is much history: a database for each length, on one server, loaded
 * in bulk and then measured in turns, so that what else the machine does falls on all of them.
 */
import { sql } from "drizzle-orm";
import pg from "pg";
import type { Database } from "../../../orchestrator/db/database.ts";
import { migrate } from "../../../orchestrator/db/migrate.ts";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openPath, type Path, pairOf } from "./paths.ts";
import { percentiles } from "./pgbench.ts";

export interface HistoryFigures {
  /** Transfers that were there before. */
  rows: number;
  /** One hold (and its settlement, halved), one at a time. */
  holdMs: number;
  perSecond: number;
}

const CALLERS = 64;
const CHUNK = 500_000;
const ids = createIds(systemClock, systemRandom);

export async function measureHistory({
  url,
  histories,
  rounds,
  seconds,
}: {
  url: string;
  histories: readonly number[];
  rounds: number;
  seconds: number;
}): Promise<HistoryFigures[]> {
  const opened = [];
  for (const count of histories) {
    opened.push({ rows: count, ...(await openHistory(url, count)) });
  }
  const holds = opened.map((): number[] => []);
  const rates = opened.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, { pair }] of opened.entries()) {
      const alone = await repeat(1, seconds, pair);
      holds[index]?.push(percentiles(alone).p50Ms / 2);
      rates[index]?.push((await repeat(CALLERS, seconds, pair)).length / seconds);
    }
  }
  for (const { database } of opened) await database[Symbol.asyncDispose]();
  return opened.map((history, index) => ({
    rows: history.rows,
    holdMs: percentiles(holds[index] ?? []).p50Ms,
    perSecond: percentiles(rates[index] ?? []).p50Ms,
  }));
}

async function openHistory(url: string, count: number) {
  const name = `history_${count}`;
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  await admin.query(`create database ${name}`);
  await admin.end();
  const own = new URL(url);
  own.pathname = `/${name}`;
  const log = createLog("silent");
  const database = await openPostgresDatabase({ url: own.href, log });
  await migrate(database);
  const ledger = createLedger(database, systemClock);
  const path = await openPath(ledger, ids);
  await load(database, path, count);
  const pair = () => pairOf(ledger, ids, path);
  await repeat(CALLERS, 1, pair);
  return { database, pair };
}

/**
 * Calls of the past month, in the order they were made: of a thousand trials of the project, all
 * within the accounts that the bench goes on with. What rows refer to is not looked up for each.
 */
async function load(database: Database, path: Path, count: number): Promise<void> {
  const { within, spend } = path;
  const pairs = Math.floor(count / 2);
  await database.sql.execute(sql`
    insert into account (id, kind, owner, currency, must_not_exceed, created_at)
    select 'account_0' || lpad(to_hex(n), 25, '0'), 'budget', 'past/' || n, 'CAD', false, now()
    from generate_series(0, 999) as n`);
  // Built at once in the end: row by row they are most of the work.
  const indexes = await rows<{ name: string; definition: string }>(
    database.sql,
    sql`select indexname as name, indexdef as definition from pg_indexes
      where tablename = 'transfer' and indexname <> 'transfer_pkey'`,
  );
  for (const { name } of indexes) await database.sql.execute(sql.raw(`drop index ${name}`));
  for (let first = 0; first < pairs; first += CHUNK) {
    const last = Math.min(first + CHUNK, pairs) - 1;
    await database.sql.transaction(async (tx) => {
      await tx.execute(sql`set local session_replication_role = replica`);
      await tx.execute(sql`
        insert into transfer (id, kind, debit_account_id, within, credit_account_id, amount_nanos,
          pending_id, expires_at, expires_to, reason, created_at)
        select 'transfer_' || which || lpad(to_hex(n), 25, '0'), kind,
          'account_0' || lpad(to_hex(n % 1000), 25, '0'), ${sql.param(within)}::text[], ${spend},
          case which when 0 then 1000 else 300 end,
          case which when 1 then 'transfer_0' || lpad(to_hex(n), 25, '0') end,
          case which when 0 then at + interval '15 minutes' end,
          case which when 0 then 'post' end, 'call', at
        from generate_series(${first}::bigint, ${last}::bigint) as n,
          lateral (select now() - interval '30 days'
            + n * interval '30 days' / ${Math.max(1, pairs)}::float8 as at) as time,
          (values (0, 'pending'), (1, 'post')) as part (which, kind)
        order by n, which`);
    });
  }
  for (const { definition } of indexes) await database.sql.execute(sql.raw(definition));
  const spent = BigInt(pairs) * 300n;
  await database.sql.execute(sql`
    update account set debits_posted_nanos = debits_posted_nanos + ${spent}
    where id in (${within[0]}, ${within[1]})`);
  await database.sql.execute(sql`
    update account set credits_posted_nanos = credits_posted_nanos + ${spent}
    where id = ${spend}`);
  await database.sql.execute(sql`vacuum analyze transfer`);
  await database.sql.execute(sql`checkpoint`);
}

/** Milliseconds of each, of so many callers for so long. */
async function repeat(callers: number, seconds: number, once: () => Promise<void>) {
  const endMs = performance.now() + seconds * 1_000;
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
  return tookMs;
}
