/**
 * Goal: a replay is a trial like its source that can pay nothing and is placed with its record for
 * a gateway; what has no whole record is refused, and says what it lacks.
 *
 * Method: the real engine, sessions and ledger; records as the doors would write them.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import type { AgentSpec } from "../../../orchestrator/contract/worker.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createReplayTrials } from "../../../orchestrator/trials/replay.ts";
import { type FlowChange, flowRecord, textBody } from "../../support/flow-records.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";
import { openTrialLife } from "../../support/trial-life.ts";

async function open() {
  const life = await openTrialLife({});
  const { world, ids } = life;
  const traffic = createMemoryTraffic();
  const clock = systemClock;
  const replays = createReplayTrials({ db: world.database, traffic, clock, ids });
  return { ...life, traffic, replays, recorded, record, grantOf };

  /** A trial that has ended, with one flow. */
  async function recorded(change: FlowChange = {}): Promise<TrialId> {
    const id = await life.create();
    await life.trials.cancel(id);
    await life.engine.advance();
    await record(id, change);
    return id;
  }

  async function record(id: TrialId, change: FlowChange): Promise<void> {
    await traffic.append([flowRecord(ids, clock.now(), { trial_id: id, ...change })]);
  }

  /** What its key may spend from, and on which models. */
  async function grantOf(id: TrialId) {
    const [key] = await rows<{ grant: { models: unknown[] } }>(
      world.database.sql,
      sql`select "grant" from virtual_key where trial_id = ${id}`,
    );
    return key?.grant;
  }
}

test("a replay is as its source was, with an empty budget and a key that buys nothing", async () => {
  await using t = await open();
  const source = await t.recorded();
  const replay = await t.replays.replay(source);
  const of = await t.trials.get(source);
  const same = ["project", "task", "agent", "pair", "seed", "attempt", "priority"] as const;
  for (const field of same) assert.deepEqual(replay[field], of[field], field);
  assert.deepEqual(
    [replay.state, replay.replay_of, replay.experiment_id],
    ["queued", source, null],
  );
  assert.equal(await t.replays.sourceOf(replay.id as TrialId), source);
  assert.equal(await t.replays.sourceOf(source), null);

  const id = replay.id as TrialId;
  await t.engine.advance();
  const { placement } = t.scheduler.newest(id);
  const spec = (await t.sessions.enrol(placement.enrolmentToken)).spec as AgentSpec;
  assert.equal(spec.gateway_url, "http://127.0.0.1:2");
  assert.deepEqual((await t.grantOf(id))?.models, []);
  const { allowance } = spec;
  assert.deepEqual(
    [allowance.limit_nanos, allowance.available_nanos, allowance.percent_used],
    ["1000000", "1000000", 0],
  );
  const { budget } = await t.trials.get(id);
  assert.deepEqual([budget?.funded_nanos, budget?.available_nanos], ["0", "0"]);
});

for (const outcome of ["budget", "model_error", "crash"] as const) {
  test(`a replay whose agent ends with ${outcome} is over: there is no second try`, async () => {
    await using t = await open();
    const id = (await t.replays.replay(await t.recorded())).id as TrialId;
    await t.engine.advance();
    await t.reportAgent(await t.enrol(id), outcome);
    await t.engine.advance();
    const ended = await t.trials.get(id);
    assert.deepEqual([ended.state, ended.tries], ["errored", 1]);
  });
}

test("where it left its record is told once, and marks it", async () => {
  await using t = await open();
  const id = (await t.replays.replay(await t.recorded())).id as TrialId;
  const divergence = { position: 3, expected: "POST /a", asked: "POST /b" };
  for (const _ of [1, 2]) await t.replays.diverged(id, divergence);
  assert.deepEqual((await t.trials.get(id)).flags, ["replay_diverged"]);
  const events = await t.trials.events(id, 0, 100);
  const told = events.filter(({ type }) => type === "replay.diverged");
  assert.deepEqual(
    told.map(({ data }) => data),
    [divergence],
  );
});

test("what cannot be replayed is refused, and why", async () => {
  await using t = await open();
  const refused = (id: TrialId, code: string, why: RegExp) =>
    assert.rejects(t.replays.replay(id), (error: unknown) => {
      assert.ok(error instanceof Problem);
      assert.equal(error.code, code);
      assert.match(error.message, why);
      return true;
    });
  await refused(t.ids.next("trial"), "not_found", /There is no trial/);
  const running = await t.create();
  await refused(running, "conflict", /is queued: it has no whole record yet/);
  await t.trials.cancel(running);
  await t.engine.advance();
  await refused(running, "conflict", /nothing of it is recorded/);
  const cut = await t.recorded({ response: { body: textBody("x", "text/plain", true) } });
  await refused(cut, "conflict", /1 of its flows cannot be played: flow_.*not kept whole/);
  const source = await t.recorded();
  const replay = (await t.replays.replay(source)).id as TrialId;
  await t.trials.cancel(replay);
  await t.engine.advance();
  await refused(replay, "conflict", new RegExp(`is a replay itself: replay ${source}`));
});

test("a fork is replayed from the checkpoint that it began with", async () => {
  await using t = await open();
  const id = await t.recorded();
  const { database } = t.world;
  const parent = await t.create();
  await t.engine.advance();
  await t.enrol(parent);
  const checkpoint = t.ids.next("checkpoint");
  await database.sql.execute(sql`insert into checkpoint (id, trial_id, allocation_id, cause,
      resume, manifest_sha256, file_count, byte_count, new_byte_count, created_at)
    select ${checkpoint}, trial_id, id, 'periodic', ${JSON.stringify(BEGINNING)}::jsonb,
      repeat('0', 64), 0, 0, 0, now()
    from allocation where trial_id = ${parent}`);
  // What it paused with since is not what it began with.
  await database.sql.execute(sql`update trial set forked_from = ${checkpoint},
    resume = '{"completed_phases": ["plan"], "plan_text": "later"}' where id = ${id}`);
  const cassette = await t.replays.cassette(id);
  assert.deepEqual([cassette.exchanges.length, cassette.trial.forked_from], [1, checkpoint]);
  const began = { ...BEGINNING, checkpoint_id: checkpoint, manifest_sha256: "0".repeat(64) };
  const { session: _, ...others } = began;
  for (const agent of ["aider", "codex"]) {
    await database.sql.execute(sql`update trial set agent = ${agent} where id = ${parent}`);
    const replays = [
      await t.replays.replay(id),
      await t.trials.replayCassette({ project: "p", cassette }),
    ];
    for (const replay of replays) {
      const [row] = await rows<{ resume: object; forked_from: string }>(
        database.sql,
        sql`select resume, forked_from from trial where id = ${replay.id}`,
      );
      assert.equal(row?.forked_from, checkpoint);
      assert.deepEqual(
        row.resume,
        agent === "aider" ? began : others,
        "of another CLI: no session",
      );
    }
  }
});

const BEGINNING = {
  ...{ completed_phases: ["plan"], plan_text: "first this" },
  session: { id: "s-1", file: "session.json" },
};

test("a cassette that was taken away is brought back, and answers a trial of its like", async () => {
  await using t = await open();
  const source = await t.recorded();
  const cassette = await t.replays.cassette(source);
  const { project } = await t.trials.get(source);
  const made = await t.trials.replayCassette({ project, cassette });
  const id = made.id as TrialId;
  const of = await t.trials.get(source);
  for (const field of ["project", "task", "agent", "pair", "seed"] as const) {
    assert.deepEqual(made[field], of[field], field);
  }
  assert.equal(made.replay_of, id);
  assert.equal(await t.replays.sourceOf(id), id);
  assert.deepEqual(await t.replays.cassette(id), cassette);
  await t.engine.advance();
  await t.enrol(id);
  assert.deepEqual((await t.grantOf(id))?.models, []);
  assert.equal((await t.trials.get(id)).budget?.funded_nanos, "0");
  await t.trials.cancel(id);
  await t.engine.advance();
  await assert.rejects(t.replays.replay(id), /replays a cassette: give that file again/);
});

test("a cassette whose like is not here is refused, and nothing is left of it", async () => {
  await using t = await open();
  const source = await t.recorded();
  const cassette = await t.replays.cassette(source);
  const { project } = await t.trials.get(source);
  const bring = (trial: Partial<typeof cassette.trial>) =>
    t.trials.replayCassette({
      project,
      cassette: { ...cassette, trial: { ...cassette.trial, ...trial } },
    });
  const before = await countTrials();
  await assert.rejects(bring({ task: "elsewhere" }), /task: .*elsewhere/);
  await assert.rejects(bring({ agent: "nobody" }), /agent: .*nobody/);
  for (const forked_from of [t.ids.next("checkpoint"), "nonsense"]) {
    await assert.rejects(bring({ forked_from }), (error: unknown) => {
      assert.ok(error instanceof Problem && error.code === "conflict");
      assert.match(error.message, /was a fork, which began with .* is not kept here: replay it in/);
      return true;
    });
  }
  assert.equal(await countTrials(), before);

  async function countTrials() {
    const [found] = await rows<{ count: string }>(
      t.world.database.sql,
      sql`select count(*)::text as count from trial`,
    );
    return found?.count;
  }
});

test("a record whose bodies are too large to hold is refused", async () => {
  await using t = await open();
  const body = textBody("0123456789", "text/plain");
  const id = await t.recorded({ request: { body }, response: { body } });
  const { database: db } = t.world;
  const bounded = (bodyBytesMax: number) =>
    createReplayTrials(
      { db, traffic: t.traffic, clock: systemClock, ids: t.ids },
      { bodyBytesMax },
    );
  assert.equal((await bounded(20).cassette(id)).exchanges.length, 1);
  for (const ask of [bounded(19).replay, bounded(19).cassette]) {
    await assert.rejects(ask(id), (error: unknown) => {
      assert.ok(error instanceof Problem && error.code === "conflict");
      assert.match(error.message, /its bodies are larger than 19 bytes together/);
      return true;
    });
  }
});

test("its cassette and its script", async () => {
  await using t = await open();
  const source = await t.recorded();
  const cassette = await t.replays.cassette(source);
  assert.deepEqual(
    [cassette.trial.id, cassette.trial.agent, cassette.exchanges.length],
    [source, "aider", 1],
  );
  await assert.rejects(t.replays.script(source), /no answer of a model/);
  const answer = JSON.stringify({ choices: [{ message: { content: "Done it." } }] });
  await t.record(source, {
    door: "gateway",
    decision: { reason: "gateway" },
    request: { method: "POST", path: "/v1/chat/completions", query: null },
    response: { body: textBody(answer, "application/json") },
  });
  assert.match(
    await t.replays.script(source),
    /^match: Do it\.\nsteps:\n {2}- - say: Done it\.\n$/,
  );
});
