/**
 * Goal: `seq` follows the order of commits, so that a reader polling "after seq" misses nothing;
 * and a worker's batch that is sent again is stored once.
 *
 * Method: writers on connections of their own whose transactions overlap on purpose, and a reader
 * that looks all the while.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { WorkerEvent } from "../../../orchestrator/contract/events.ts";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { appendEvent, appendWorkerEvents } from "../../../orchestrator/trials/events.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const AT = "2026-11-21T12:00:00Z";
const WRITERS = 8;
const ROUNDS = 12;

test("a reader polling after the last seq misses nothing", async () => {
  await using life = await openTrialLife({});
  await using other = await openPostgresDatabase({
    url: life.world.database.url,
    log: createLog("error"),
  });
  const trials = [await life.create(), await life.create()];
  const random = seededRandom(3);
  let isWriting = true;

  const writers = Array.from({ length: WRITERS }, async (_, writer) => {
    const { sql: db } = writer % 2 === 0 ? life.world.database : other;
    for (let round = 0; round < ROUNDS; round++) {
      const message = `${writer}/${round}`;
      const trial = trials[random.below(trials.length)];
      assert.ok(trial !== undefined);
      // What a step does around its event: without the lock, a later seq would commit first.
      await db.transaction(async (transaction) => {
        await appendEvent(transaction, trial, "trial.note", { level: "info", message }, AT);
        await transaction.execute(sql`select pg_sleep(${random.below(6) / 1000})`);
      });
    }
  });
  const seen: number[] = [];
  const read = async () => {
    const page = await life.trials.events(null, seen.at(-1) ?? 0, 5);
    seen.push(...page.map(({ seq }) => seq));
    return page.length;
  };
  const reader = (async () => {
    while (isWriting) await read();
    while ((await read()) > 0);
  })();
  await Promise.all(writers);
  isWriting = false;
  await reader;

  const all = await rows<{ seq: string }>(other.sql, sql`select seq from event order by seq`);
  assert.equal(all.length, trials.length + WRITERS * ROUNDS);
  assert.deepEqual(
    seen,
    all.map(({ seq }) => Number(seq)),
  );
  assert.equal(await life.trials.latestSeq(), seen.at(-1));
});

test("a batch that is sent again, or overlaps the one before, is stored once", async () => {
  await using life = await openTrialLife({});
  const trialId = await life.create();
  await life.engine.advance();
  const { allocationId } = life.scheduler.newest(trialId).placement;
  const batch = (cursors: number[]) =>
    cursors.map((cursor): WorkerEvent => {
      return { cursor, type: "agent.message", at: AT, data: { text: String(cursor) } };
    });
  const send = (cursors: number[]) =>
    appendWorkerEvents(life.db.sql, { allocationId, trialId }, batch(cursors));

  assert.equal(await send([1, 2, 3]), 3);
  assert.equal(await send([1, 2, 3]), 3);
  assert.deepEqual(await Promise.all([send([3, 4, 5]), send([2, 3, 4, 5])]), [5, 5]);
  assert.equal(await send([1]), 5, "the cursor never goes back");
  const stored = (await life.trials.events(trialId, 0, 100)).filter(
    ({ type }) => type === "agent.message",
  );
  assert.deepEqual(
    stored.map(({ data }) => data["text"]),
    ["1", "2", "3", "4", "5"],
  );
});
