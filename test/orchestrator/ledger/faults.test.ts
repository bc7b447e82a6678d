/**
 * Goal: whatever fails and whenever, no budget is overspent, nothing is charged twice, and no
 * answered request is lost.
 *
 * Method: the first suite puts a database in front of the ledger that breaks statements before or
 * after they ran, and transactions in the middle or after their commit (the caller cannot know
 * which), by one seed; callers repeat with the same id, as ours do. The second kills the real
 * server with SIGKILL while reservations stream in. Replay: SEED=n.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../../../orchestrator/db/database.ts";
import { isUnavailable, rows } from "../../../orchestrator/db/rows.ts";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import { type Random, seededRandom } from "../../../orchestrator/runtime/random.ts";
import { auditLedger } from "../../support/audit.ts";
import { openTestEmbedded, openTestFolder } from "../../support/embedded.ts";
import { amounts, openTestLedger } from "../../support/ledger.ts";

const SEEDS = process.env["SEED"] === undefined ? [1, 2, 3, 4] : [Number(process.env["SEED"])];

class Broken extends Error {}

/** `database`, of whose statements about one in twelve breaks, and one in four commits. */
function breaking(database: Database, random: Random, counts: Record<string, number>) {
  const breaks = (where: string, outOf = 12) => {
    if (random.below(outOf) !== 0) return;
    counts[where] = (counts[where] ?? 0) + 1;
    throw new Broken(where);
  };
  const wrap = (inner: Sql): Sql =>
    ({
      async execute(statement: Parameters<Sql["execute"]>[0]) {
        breaks("before a statement");
        const result = await inner.execute(statement);
        breaks("after a statement");
        return result;
      },
      async transaction(use: (tx: Sql) => Promise<unknown>) {
        const result = await inner.transaction((tx) => use(wrap(tx)));
        breaks("after a commit", 4);
        return result;
      },
    }) as unknown as Sql;
  return { sql: wrap(database.sql) };
}

for (const seed of SEEDS) {
  test(`callers repeat what broke, SEED=${seed}`, async () => {
    const random = seededRandom(seed);
    const counts: Record<string, number> = {};
    await using world = await openTestLedger({
      seed,
      over: (database) => breaking(database, random, counts),
    });
    const { ledger, ids, clock } = world;
    const { budget: outer } = await world.openBudget(600n);
    const inner = await Promise.all([0, 1, 2].map(() => world.openBudget(300n, [outer])));
    let spentNanos = 0n;
    let expired = 0;

    for (let step = 0; step < 30; step++) {
      await Promise.all(Array.from({ length: 1 + random.below(5) }, oneCall));
      clock.ms += random.below(400);
      expired += await untilAnswered(() => ledger.expire(100));
      await auditLedger(world.database);
    }
    clock.ms += 100_000;
    await untilAnswered(() => ledger.expire(100));
    await auditLedger(world.database);

    const held = amounts(await untilAnswered(() => ledger.balance(outer)));
    assert.equal(held.reservedNanos, 0n);
    // Every reservation was settled, released, or posted in full by expiry: nothing else spends.
    const [posted] = await rows<{ nanos: string }>(
      world.database.sql,
      sql`select coalesce(sum(amount_nanos), 0)::text as nanos from transfer
        where kind = 'post' and reason = 'call'`,
    );
    assert.equal(posted?.nanos, String(spentNanos));
    // A run in which nothing went wrong has tested nothing.
    for (const where of ["before a statement", "after a statement", "after a commit"]) {
      assert.ok((counts[where] ?? 0) > 0, `nothing broke ${where}`);
    }
    assert.ok(expired > 0, "nothing expired");

    async function oneCall(): Promise<void> {
      const one = inner[random.below(inner.length)];
      assert.ok(one !== undefined);
      const pendingId = ids.next("transfer");
      const amountNanos = BigInt(1 + random.below(60));
      const reservation = { id: pendingId, ...one, amountNanos, timeoutMs: 1_000 };
      const held = await untilAnswered(() => ledger.reserve(reservation));
      if (held.outcome === "insufficient_funds") return;
      assert.match(held.outcome, /^(already_)?reserved$/);
      const resolution = { id: ids.next("transfer"), pendingId };
      const fate = random.below(4);
      // The process died between forwarding and settling: expiry has to resolve it.
      if (fate === 0) return;
      if (fate === 1) {
        await untilAnswered(() => ledger.release(resolution));
        return;
      }
      const cost = BigInt(random.below(Number(amountNanos) + 1));
      const { outcome } = await untilAnswered(() =>
        ledger.settle({ ...resolution, amountNanos: cost }),
      );
      assert.match(outcome, /^(settled|already_resolved)$/);
      spentNanos += cost;
    }
  });
}

/** Repeats a request, whose id stays the same, until it is answered. */
async function untilAnswered<Result>(request: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error;
      if (!(cause instanceof Broken)) throw error;
    }
  }
}

test("no acknowledged reservation is lost when the server is killed", async () => {
  await using folder = await openTestFolder();
  await using database = await openTestEmbedded(folder.path);
  await using fixture = await openTestLedger({ database });
  const { ledger, ids } = fixture;
  const { budget, spend } = await fixture.openBudget(1_000_000n);
  const acknowledged: TransferId[] = [];
  let unanswered = 0;
  let isRunning = true;

  const callers = Array.from({ length: 16 }, async () => {
    while (isRunning) {
      const id = ids.next("transfer");
      const reservation = { id, budget, within: [], spend, amountNanos: 1n, timeoutMs: 60_000 };
      try {
        assert.equal((await ledger.reserve(reservation)).outcome, "reserved");
        acknowledged.push(id);
      } catch (error) {
        isRunning &&= isUnavailable(error);
        assert.ok(isUnavailable(error), String(error));
        unanswered++;
        await sleep(20);
      }
    }
  });
  for (let kill = 0; kill < 3; kill++) {
    const before = acknowledged.length;
    const pid = database.serverPid();
    // Enough that it dies in the midst of commits; then until it serves again.
    while (isRunning && acknowledged.length < before + 200) await sleep(5);
    process.kill(pid, "SIGKILL");
    while (isRunning && database.serverPid() === pid) await sleep(5);
    while (isRunning && acknowledged.length < before + 400) await sleep(5);
  }
  isRunning = false;
  await Promise.all(callers);

  const found = await rows<{ id: TransferId }>(
    database.sql,
    sql`select id from transfer where kind = 'pending'`,
  );
  const kept = new Set(found.map(({ id }) => id));
  assert.deepEqual(
    acknowledged.filter((id) => !kept.has(id)),
    [],
  );
  assert.ok(unanswered > 0, "the kills interrupted nobody");
  assert.ok(kept.size <= acknowledged.length + unanswered);
  await auditLedger(database);
});
