/**
 * Goal: what engines counted is added up by day exactly once, whoever read it and however often an
 * engine was started again, and is a source of the reconciliation.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { addCounted, countedSources, readCounted } from "../../../orchestrator/traffic/counted.ts";
import { openTestDatabase } from "../../support/database.ts";

const DAY = "2026-11-20";
const NOON_MS = Date.UTC(2026, 10, 20, 12);
// As long as a pair's name may be.
const PROVIDER = `served/p${"x".repeat(62)}/thinking`;

test("a restart begins anew, also when its counters are past the old ones already", async () => {
  await using db = await openTestDatabase();
  const add = (inputTokens: number, startedAtMs: number | null, atMs = NOON_MS) => {
    const counts = { provider: PROVIDER, model: "m", inputTokens, outputTokens: inputTokens / 10 };
    return addCounted(db, { ...counts, startedAtMs }, atMs);
  };
  // What it had counted before it was known is of no day.
  await add(1_000, 1);
  assert.equal(await readCounted(db, PROVIDER, DAY), null);
  await add(1_500, 1);
  await add(1_500, 1);
  await add(1_400, 1);
  await add(2_000, 2);
  await add(1_600, 1);
  assert.deepEqual(await readCounted(db, PROVIDER, DAY), [
    { model: "m", inputTokens: 2_500, outputTokens: 250 },
  ]);
  // Where nobody knows when it started, only a smaller count tells.
  await add(2_100, null);
  await add(50, null);
  await add(60, 3, NOON_MS + 86_400_000);
  const [source, ...others] = await countedSources(db, "served/");
  assert.deepEqual([source?.provider, others, await source?.fault()], [PROVIDER, [], null]);
  assert.deepEqual(await source?.counts(DAY), [
    { model: "m", inputTokens: 2_650, outputTokens: 265 },
  ]);
  assert.deepEqual(await source?.counts("2026-11-21"), [
    { model: "m", inputTokens: 10, outputTokens: 1 },
  ]);
  assert.deepEqual(await countedSources(db, "served_"), []);
});

test("several at once add what is new once", async () => {
  await using db = await openTestDatabase();
  const counts = { provider: PROVIDER, model: "m", outputTokens: 0, startedAtMs: 1 };
  await addCounted(db, { ...counts, inputTokens: 0 }, NOON_MS);
  const readers = Array.from({ length: 8 }, () =>
    addCounted(db, { ...counts, inputTokens: 700 }, NOON_MS),
  );
  await Promise.all(readers);
  assert.deepEqual(await readCounted(db, PROVIDER, DAY), [
    { model: "m", inputTokens: 700, outputTokens: 0 },
  ]);
});
