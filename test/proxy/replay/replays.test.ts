/**
 * Goal: replays of several trials do not mix; of large records those unused make room and go on
 * where they were, of very many runs the one asked longest ago is begun again, and nobody who is at
 * work is put away for another.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import type { KeyId, TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createReplays, type ReplayOptions } from "../../../proxy/replay/replays.ts";
import { cassetteOf, type ExchangeDraft } from "../../support/cassettes.ts";

const KEY = "key_1" as KeyId;
const ASKED = { method: "POST", path: "/v1/chat/completions", body: '{"m":1}' };

const MINUTE = 60_000;

/** Of each trial the record's exchanges; its time passes when it is told. */
function open(
  draftsOf: (id: TrialId) => readonly ExchangeDraft[] = () => [{ body: { m: 1 } }],
  options: ReplayOptions = {},
) {
  const reads: TrialId[] = [];
  const told: TrialId[] = [];
  const clock = { now: () => nowMs };
  let nowMs = 0;
  let readingCount = 0;
  let readingMax = 0;
  const replays = createReplays(
    {
      clock,
      sourceOf: async (id) => (id.startsWith("trial") ? id : null),
      cassetteOf: async (id) => {
        reads.push(id);
        readingMax = Math.max(readingMax, ++readingCount);
        await new Promise(setImmediate);
        readingCount -= 1;
        return cassetteOf(draftsOf(id));
      },
      onDiverged: async (id) => void told.push(id),
    },
    options,
  );
  return { replays, reads, told, ask, pass, readingMax: () => readingMax };

  /** What was answered; null: it diverged. */
  async function ask(id: string, keyId = KEY): Promise<string | null> {
    const played = await replays.ask(id as TrialId, keyId, ASKED);
    return played.outcome === "played" ? String(played.response?.body) : null;
  }

  function pass(ms: number): void {
    nowMs += ms;
  }
}

/** What `ask` is refused with while others leave no room. */
function isNoRoom(error: unknown): boolean {
  return error instanceof Problem && error.code === "unavailable" && /no room/.test(error.message);
}

test("each trial has its own run, and its record is read once", async () => {
  const { replays, reads } = open();
  const [one, two] = ["trial_1", "trial_2"] as TrialId[];
  for (const id of [one, two]) {
    assert.ok(id !== undefined);
    assert.equal((await replays.ask(id, KEY, ASKED)).outcome, "played");
    assert.equal((await replays.ask(id, KEY, ASKED)).outcome, "diverged");
  }
  assert.deepEqual(reads, [one, two]);
});

test("a bounded number is remembered, and nobody at work is forgotten for another", async () => {
  const { ask, pass, reads } = open(undefined, { runsMax: 2 });
  assert.equal(await ask("trial_1"), "{}");
  assert.equal(await ask("trial_2"), "{}");
  pass(MINUTE - 1);
  assert.equal(await ask("trial_1"), null);
  pass(1);
  assert.equal(await ask("trial_3"), "{}", "the second has not asked for a minute");
  await assert.rejects(ask("trial_2"), isNoRoom);
  assert.equal(await ask("trial_1"), null);
  pass(MINUTE);
  assert.equal(await ask("trial_2"), "{}", "begun again");
  assert.deepEqual(reads, ["trial_1", "trial_2", "trial_3", "trial_2"]);
});

test("the names of models come from the run's record, which is read once", async () => {
  let reads = 0;
  const replays = createReplays({
    clock: systemClock,
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

const LARGE = "x".repeat(100_000);
const twice = () => [
  { body: { m: 1 }, answer: `first ${LARGE}` },
  { body: { m: 1 }, answer: `second ${LARGE}` },
];

test("two that have no room together take turns, and each goes on where it was", async () => {
  const { ask, pass, reads, told } = open(twice, { heldBytesMax: 300_000 });
  const answers: string[] = [];
  for (const _ of [1, 2, 3, 4]) {
    for (const id of ["trial_1", "trial_2"]) {
      answers.push(`${id} ${(await ask(id))?.split(" ")[0] ?? "diverged"}`);
      pass(MINUTE);
    }
  }
  const turns = ["first", "second", "diverged", "diverged"];
  assert.deepEqual(
    answers,
    turns.flatMap((turn) => [`trial_1 ${turn}`, `trial_2 ${turn}`]),
  );
  assert.deepEqual(told, ["trial_1", "trial_2"]);
  assert.equal(reads.length, 8, "the record of each made room for the other's");
});

test("who is at work keeps its record; another is refused, and read only once", async () => {
  const { ask, pass, reads, replays } = open(twice, { heldBytesMax: 300_000 });
  assert.match((await ask("trial_1")) ?? "", /^first/);
  pass(MINUTE - 1);
  await assert.rejects(ask("trial_2"), isNoRoom);
  await assert.rejects(ask("trial_2"), isNoRoom);
  assert.deepEqual(await replays.modelsOf("trial_2" as TrialId), []);
  assert.match((await ask("trial_1")) ?? "", /^second/);
  assert.deepEqual(reads, ["trial_1", "trial_2"]);
  pass(MINUTE);
  assert.match((await ask("trial_2")) ?? "", /^first/);
});

test("records are read one after another, so that those that begin at once have a bound", async () => {
  const { ask, readingMax } = open(twice, { heldBytesMax: 300_000 });
  const ids = ["trial_1", "trial_2", "trial_3"];
  const asked = await Promise.allSettled(ids.map((id) => ask(id)));
  assert.deepEqual(
    asked.map((each) => each.status === "fulfilled" || isNoRoom(each.reason)),
    [true, true, true],
  );
  assert.deepEqual(
    asked.map(({ status }) => status),
    ["fulfilled", "rejected", "rejected"],
  );
  assert.equal(readingMax(), 1);
});

test("records make room by what they take, those asked longest ago first", async () => {
  const answers: Record<string, string> = {
    trial_small: "s".repeat(100_000),
    trial_other: "o".repeat(100_000),
    // Two bytes a letter.
    trial_wide: "й".repeat(100_000),
    trial_huge: "h".repeat(1_000_000),
  };
  const { ask, pass, reads } = open((id) => [{ body: { m: 1 }, answer: answers[id] ?? "" }], {
    heldBytesMax: 320_000,
  });
  const asks = ["small", "other", "small", "wide", "small", "other", "huge", "huge", "small"];
  const played: boolean[] = [];
  for (const name of asks) {
    played.push((await ask(`trial_${name}`)) !== null);
    pass(MINUTE);
  }
  const isFirst = asks.map((name, index) => asks.indexOf(name) === index);
  assert.deepEqual(played, isFirst, "each answer is played once, whatever made room");
  const read = ["small", "other", "wide", "other", "huge", "small"];
  assert.deepEqual(
    reads,
    read.map((name) => `trial_${name}`),
  );
});

test("a new key begins anew, also once its record made room", async () => {
  const { ask, pass } = open(twice, { heldBytesMax: 300_000 });
  for (const id of ["trial_1", "trial_2"]) {
    assert.match((await ask(id)) ?? "", /^first/);
    pass(MINUTE);
  }
  assert.match((await ask("trial_1", "key_2" as KeyId)) ?? "", /^first/);
});

test("a record that changed while it was replayed is not gone on with", async () => {
  let drafts = twice();
  const { ask, pass } = open(() => drafts, { heldBytesMax: 300_000 });
  for (const id of ["trial_1", "trial_2"]) {
    await ask(id);
    pass(MINUTE);
  }
  drafts = drafts.slice(1);
  await assert.rejects(ask("trial_1"), /record of trial_1 has changed while it was replayed/);
});

test("a record that could not be read is read again", async () => {
  let isGone = true;
  const replays = createReplays({
    clock: systemClock,
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
