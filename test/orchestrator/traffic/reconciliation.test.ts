/**
 * Goal: each day is compared once with what each provider counted, also when one of them fails; a
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
  const reconciler = createReconciler({ db: gateway.database, sources, clock, log });
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
  assert.deepEqual(await t.reconciler.task.activate(), { day: "2026-11-19", compared: 1 });
  t.clock.ms = Date.UTC(2026, 10, 21, 4, 1);
  assert.deepEqual(await t.reconciler.task.activate(), { day: "2026-11-20", compared: 1 });
  const before = asked;
  assert.deepEqual(await t.reconciler.task.activate(), { day: "2026-11-20", compared: 0 });
  assert.equal(asked, before);
});

test("a day that has not begun, or is none, is refused", async () => {
  await using t = await open([]);
  const tomorrow = rfc3339(t.clock.ms + 2 * DAY_MS).slice(0, 10);
  for (const day of [tomorrow, "2026-13-01"]) {
    await assert.rejects(t.reconciler.reconcile(day), /day: .* is no day that has begun/);
  }
});
