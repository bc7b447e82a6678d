/**
 * Goal: each day is compared once with what each provider counted, later when it failed; a
 * difference beyond the tolerance is told until it is a week old.
 *
 * Method: real calls of a real gateway; providers and an engine as HTTP servers that answer by
 * their published schemas. No real provider was asked.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { rfc3339, systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { createReconciler } from "../../../orchestrator/traffic/reconciliation.ts";
import type { UsageCount, UsageCounts } from "../../../orchestrator/traffic/usage-counts.ts";
import { eventually } from "../../support/eventually.ts";
import { openTestGateway } from "../../support/gateway.ts";

const DAY_MS = 86_400_000;

function counts(
  provider: string,
  answer: () => UsageCount[] | null,
  fault: string | null = null,
): UsageCounts {
  return { provider, counts: async () => answer(), fault: async () => fault };
}

async function open(sources: readonly UsageCounts[]) {
  const gateway = await openTestGateway();
  const clock = { ms: systemClock.now(), now: () => clock.ms };
  const log = createLog("silent");
  const { database: db } = gateway;
  const reconciler = createReconciler({ db, sources: async () => sources, clock, log });
  return {
    gateway,
    clock,
    reconciler,
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };
}

test("a day is compared with each provider's count; one that fails spoils no other", async () => {
  let counted: UsageCount[] = [];
  await using t = await open([
    counts("broken", () => {
      throw new Problem("upstream_failed", "broken: usage, 500: no");
    }),
    counts("keyless", () => null, "there is no admin key"),
    counts("test", () => counted),
  ]);
  for (const _ of [1, 2]) assert.equal((await t.gateway.chat()).status, 200);
  const look = () =>
    rows<{ model: string; calls: number; input: number; output: number }>(
      t.gateway.database.sql,
      sql`select model, count(*)::int as calls,
          sum(input_tokens + cache_read_tokens + cache_write_tokens)::int as input,
          sum(output_tokens)::int as output from call group by model`,
    );
  // Their rows are written behind their answers.
  const [used] = await eventually(look, ([first]) => first?.calls === 2);
  assert.ok(used !== undefined && used.input > 0);
  counted = [{ model: used.model, inputTokens: used.input, outputTokens: used.output }];
  const day = rfc3339(t.clock.ms).slice(0, 10);
  const report = await t.reconciler.reconcile(day);
  assert.deepEqual(report.sources, [
    { provider: "broken", fault: "broken: usage, 500: no" },
    { provider: "keyless", fault: "there is no admin key" },
    { provider: "test", fault: null },
  ]);
  assert.deepEqual(report.rows, [
    {
      ...{ day, provider: "test", model: used.model, is_matched: true },
      ...{ our_input_tokens: used.input, our_output_tokens: used.output },
      ...{ their_input_tokens: used.input, their_output_tokens: used.output },
      detail: "2 calls of ours: they agree",
      compared_at: rfc3339(t.clock.ms),
    },
  ]);
  assert.match(await t.reconciler.metrics(), /mismatches 0\n$/);
  assert.equal((await t.reconciler.describe()).status, "ok");

  // Later they count more: the row is of the newest comparison.
  counted = [{ model: used.model, inputTokens: used.input + 5_000, outputTokens: used.output }];
  const [row] = (await t.reconciler.reconcile(day)).rows;
  assert.equal(row?.is_matched, false);
  assert.match(row?.detail ?? "", /they counted 5000 input tokens more/);
  assert.match(await t.reconciler.metrics(), /mismatches 1\n$/);
  assert.equal((await t.reconciler.describe()).status, "warn");
  assert.deepEqual((await t.reconciler.read()).rows.length, 1);
  t.clock.ms += 9 * DAY_MS;
  assert.match(await t.reconciler.metrics(), /mismatches 0\n$/);
});

test("the duty compares a day that is over, once", async () => {
  let asked = 0;
  await using t = await open([
    counts("test", () => {
      asked += 1;
      return [{ model: "m", inputTokens: 1, outputTokens: 1 }];
    }),
  ]);
  t.clock.ms = Date.UTC(2026, 10, 21, 3, 59);
  assert.deepEqual(await t.reconciler.task.activate(), { compared: 7, failed: 0 });
  assert.equal((await t.reconciler.read()).rows[0]?.day, "2026-11-19");
  t.clock.ms = Date.UTC(2026, 10, 21, 4, 1);
  assert.deepEqual(await t.reconciler.task.activate(), { compared: 1, failed: 0 });
  assert.equal((await t.reconciler.read()).rows[0]?.day, "2026-11-20");
  const before = asked;
  assert.deepEqual(await t.reconciler.task.activate(), { compared: 0, failed: 0 });
  assert.equal(asked, before);
});

test("a report that failed or was missed is made up, of its provider alone", async () => {
  let isBroken = true;
  const asked: string[] = [];
  const flaky: UsageCounts = {
    provider: "flaky",
    counts: async (day) => {
      asked.push(day);
      if (isBroken) throw new Problem("upstream_failed", "flaky: usage, 500: no");
      return [{ model: "m", inputTokens: 1, outputTokens: 1 }];
    },
    fault: async () => null,
  };
  let asksOfGood = 0;
  await using t = await open([
    flaky,
    counts("good", () => {
      asksOfGood += 1;
      return [{ model: "m", inputTokens: 1, outputTokens: 1 }];
    }),
  ]);
  t.clock.ms = Date.UTC(2026, 10, 21, 12);
  // A person's question of a day that is not over does not stand for its comparison.
  await t.reconciler.reconcile("2026-11-21");
  asked.length = 0;
  assert.deepEqual(await t.reconciler.task.activate(), { compared: 7, failed: 1 });
  assert.deepEqual(asked, ["2026-11-20"], "one that fails is not asked for each day");
  isBroken = false;
  t.clock.ms += 2 * DAY_MS;
  const before = asksOfGood;
  assert.deepEqual(await t.reconciler.task.activate(), { compared: 9, failed: 0 });
  assert.deepEqual([asked.length - 1, asksOfGood - before], [7, 2]);
  assert.deepEqual(await t.reconciler.task.activate(), { compared: 0, failed: 0 });
});

test("a provider that counted nothing is not asked for the same day again", async () => {
  let asked = 0;
  await using t = await open([
    counts("idle", () => {
      asked += 1;
      return [];
    }),
  ]);
  for (const _ of [1, 2]) {
    assert.deepEqual(await t.reconciler.task.activate(), { compared: 0, failed: 0 });
  }
  assert.equal(asked, 7);
});

test("a day that has not begun, or is none, is refused", async () => {
  await using t = await open([]);
  const tomorrow = rfc3339(t.clock.ms + 2 * DAY_MS).slice(0, 10);
  for (const day of [tomorrow, "2026-13-01"]) {
    await assert.rejects(t.reconciler.reconcile(day), /day: .* is no day that has begun/);
  }
});
