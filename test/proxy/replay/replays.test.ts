/**
 * Goal: replays of several trials do not mix, and of very many, or very large ones, those unused
 * are begun again.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { KeyId, TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createReplays } from "../../../proxy/replay/replays.ts";
import { cassetteOf } from "../../support/cassettes.ts";

const KEY = "key_1" as KeyId;
const ASKED = { method: "POST", path: "/v1/chat/completions", body: '{"m":1}' };

function open() {
  let reads = 0;
  const replays = createReplays({
    sourceOf: async (id) => (id.startsWith("trial") ? ("source" as TrialId) : null),
    cassetteOf: async () => {
      reads += 1;
      return cassetteOf([{ body: { m: 1 } }]);
    },
    onDiverged: async () => {},
  });
  return { replays, reads: () => reads };
}

test("each trial has its own run, and its record is read once", async () => {
  const { replays, reads } = open();
  const [one, two] = ["trial_1", "trial_2"] as TrialId[];
  for (const id of [one, two]) {
    assert.ok(id !== undefined);
    assert.equal((await replays.ask(id, KEY, ASKED)).outcome, "played");
    assert.equal((await replays.ask(id, KEY, ASKED)).outcome, "diverged");
  }
  assert.equal(reads(), 2);
});

test("a bounded number is remembered", async () => {
  const { replays } = open();
  const ids = Array.from({ length: 65 }, (_, index) => `trial_${index}` as TrialId);
  for (const id of ids) await replays.ask(id, KEY, ASKED);
  assert.equal((await replays.ask(ids.at(-1) as TrialId, KEY, ASKED)).outcome, "diverged");
  assert.equal((await replays.ask(ids[0] as TrialId, KEY, ASKED)).outcome, "played");
});

test("the names of models come from the run's record, which is read once", async () => {
  let reads = 0;
  const replays = createReplays({
    sourceOf: async () => "source" as TrialId,
    cassetteOf: async () => {
      reads += 1;
      return cassetteOf([{ body: { model: "small" } }, { body: { model: "large" } }]);
    },
    onDiverged: async () => {},
  });
  const id = "trial_1" as TrialId;
  const ask = { ...ASKED, body: '{"model":"small"}' };
  for (const _ of [1, 2]) assert.deepEqual(await replays.modelsOf(id), ["small", "large"]);
  assert.equal((await replays.ask(id, KEY, ask)).outcome, "played");
  assert.deepEqual(await replays.modelsOf(id), ["small", "large"]);
  assert.equal((await replays.ask(id, KEY, ask)).outcome, "diverged", "the same run");
  assert.equal(reads, 1);
});

test("a run that is used is not forgotten for newer ones", async () => {
  const { replays } = open();
  const ids = Array.from({ length: 65 }, (_, index) => `trial_${index}` as TrialId);
  const [first, second, ...others] = ids as [TrialId, TrialId, ...TrialId[]];
  assert.equal((await replays.ask(first, KEY, ASKED)).outcome, "played");
  assert.equal((await replays.ask(second, KEY, ASKED)).outcome, "played");
  for (const id of others) {
    await replays.ask(id, KEY, ASKED);
    assert.equal((await replays.ask(first, KEY, ASKED)).outcome, "diverged");
  }
  assert.equal((await replays.ask(second, KEY, ASKED)).outcome, "played", "begun again");
});

test("records that are large are forgotten by what they take, those unused first", async () => {
  const answers: Record<string, string> = {
    small: "s".repeat(100_000),
    other: "o".repeat(100_000),
    // Two bytes a letter.
    wide: "й".repeat(100_000),
    huge: "h".repeat(1_000_000),
  };
  const reads: string[] = [];
  const replays = createReplays(
    {
      sourceOf: async (id) => id,
      cassetteOf: async (id) => {
        reads.push(id);
        return cassetteOf([{ body: { m: 1 }, answer: answers[id] ?? "" }]);
      },
      onDiverged: async () => {},
    },
    { heldBytesMax: 320_000 },
  );
  const isPlayed = async (id: string) =>
    (await replays.ask(id as TrialId, KEY, ASKED)).outcome === "played";
  for (const id of ["small", "other"]) assert.ok(await isPlayed(id));
  assert.equal(await isPlayed("small"), false, "both have room");
  assert.ok(await isPlayed("wide"));
  assert.equal(await isPlayed("small"), false, "it was used after the other");
  assert.ok(await isPlayed("other"), "begun again");
  assert.ok(await isPlayed("huge"));
  assert.equal(await isPlayed("huge"), false, "the last one has room whatever it takes");
  assert.ok(await isPlayed("small"), "begun again");
  assert.deepEqual(reads, ["small", "other", "wide", "other", "huge", "small"]);
});

test("a record that could not be read is read again", async () => {
  let isGone = true;
  const replays = createReplays({
    sourceOf: async () => "source" as TrialId,
    cassetteOf: async () => {
      if (isGone) throw new Error("the store is away");
      return cassetteOf([{ body: { m: 1 } }]);
    },
    onDiverged: async () => {},
  });
  const id = "trial_1" as TrialId;
  await assert.rejects(replays.ask(id, KEY, ASKED), /the store is away/);
  isGone = false;
  assert.equal((await replays.ask(id, KEY, ASKED)).outcome, "played");
});

test("a trial that is none has no record", async () => {
  const { replays } = open();
  await assert.rejects(replays.ask("other" as TrialId, KEY, ASKED), /other is no replay/);
});
