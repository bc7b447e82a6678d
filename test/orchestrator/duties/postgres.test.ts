/**
 * Goal: a duty has one leader; it moves when the leader is silent for a lease, at once when it is
 * handed over, and whoever was overtaken is told so by the database.
 *
 * Method: several holders on one real database, with short leases; silence is a holder whose
 * statements fail.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../../../orchestrator/db/database.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openDuties } from "../../../orchestrator/duties/postgres.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openTestDatabase } from "../../support/database.ts";
import { eventually } from "../../support/eventually.ts";

const log = createLog("silent");
const ids = createIds(systemClock, systemRandom);
const TIMES = { leaseMs: 600, renewMs: 100 };

test("of many that ask for a duty, one leads it", async () => {
  await using db = await openTestDatabase();
  const all = await Promise.all([1, 2, 3, 4].map(() => open(db)));
  const leases = await Promise.all(all.map((duties) => duties.lead("seal")));
  const leading = leases.filter((lease) => lease !== null);
  assert.equal(leading.length, 1);
  assert.equal(leading[0]?.fence, 1n);
  assert.equal(await leading[0]?.confirm(), true);
  for (const duties of all) await duties[Symbol.asyncDispose]();
});

test("a leader that renews keeps its duty and its fence beyond a lease", async () => {
  await using db = await openTestDatabase();
  await using first = await open(db);
  await using second = await open(db);
  const lease = await first.lead("seal");
  assert.equal(await second.lead("seal"), null);
  const before = await leaseEnd(db);
  await eventually(
    () => leaseEnd(db),
    (end) => end > before + 2 * TIMES.leaseMs,
  );
  assert.equal(lease?.isHeld(), true);
  assert.equal(await lease?.confirm(), true);
  assert.equal(await second.lead("seal"), null);
});

test("a silent leader is overtaken, with a higher fence, and knows it", async () => {
  await using db = await openTestDatabase();
  const link = breakable(db);
  await using first = await open(link.database);
  await using second = await open(db);
  const lease = await first.lead("seal");
  assert.ok(lease !== null);
  assert.equal(await second.lead("seal"), null);
  const gained: string[] = [];
  using _ = second.onGain((duty) => void gained.push(duty));
  link.isBroken = true;
  const next = await eventually(
    () => second.lead("seal"),
    (taken) => taken !== null,
    10 * TIMES.leaseMs,
  );
  assert.equal(next?.fence, 2n);
  assert.deepEqual(gained, ["seal"]);
  // By its own clock already, before it can ask anyone.
  assert.equal(lease.isHeld(), false);
  assert.match(
    await eventually(
      () => first.fault(),
      (fault) => fault !== null,
    ).then(String),
    /leases were last renewed .* broken/,
  );
  link.isBroken = false;
  assert.equal(await lease.confirm(), false);
  assert.equal(await next?.confirm(), true);
  await eventually(
    () => first.fault(),
    (fault) => fault === null,
  );
  assert.equal(await first.lead("seal"), null);
});

test("what is handed over is another's at once, long before the lease ends", async () => {
  await using db = await openTestDatabase();
  const long = { leaseMs: 600_000, renewMs: 200_000 };
  const first = await open(db, long);
  await using second = await open(db, long);
  const lease = await first.lead("seal");
  assert.equal(await second.lead("seal"), null);
  const gained = Promise.withResolvers<string>();
  using _ = second.onGain(gained.resolve);
  await first.handOver();
  assert.equal(await gained.promise, "seal");
  assert.equal(lease?.isHeld(), false);
  assert.equal(await first.lead("seal"), null);
  assert.equal((await second.lead("seal"))?.fence, 2n);
  await first[Symbol.asyncDispose]();
});

test("confirmed in a transaction, it stays ours until the transaction's end", async () => {
  await using db = await openTestDatabase();
  await using first = await open(db);
  await using second = await open(db);
  const lease = await first.lead("seal");
  assert.equal(await second.lead("seal"), null);
  let tookMeanwhile: unknown = "not asked";
  await db.sql.transaction(async (tx) => {
    assert.equal(await lease?.confirm(tx as unknown as Sql), true);
    const steal = db.sql.execute(sql`set lock_timeout = '200ms'; update duty set fence = 9`);
    tookMeanwhile = await steal.then(
      () => "taken",
      () => "refused",
    );
  });
  assert.equal(tookMeanwhile, "refused");
});

function open(db: Database, times = TIMES) {
  return openDuties(db, log, { holder: ids.next("process"), ...times });
}

/** The database of a process that loses its connection when told to. */
function breakable(real: Database) {
  const link = { isBroken: false, database: { ...real, sql: {} as Sql } };
  const execute: Sql["execute"] = ((statement: Parameters<Sql["execute"]>[0]) => {
    if (link.isBroken) return Promise.reject(new Error("the connection is broken"));
    return real.sql.execute(statement);
  }) as Sql["execute"];
  link.database.sql = { execute, transaction: real.sql.transaction };
  return link;
}

/** In milliseconds, by the database's clock. */
async function leaseEnd(db: Database): Promise<number> {
  const [found] = await rows<{ end: string }>(
    db.sql,
    sql`select (extract(epoch from lease_until) * 1000)::bigint::text as end from duty`,
  );
  return Number(found?.end);
}
