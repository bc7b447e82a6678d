/**
 * Goal: a trial goes on where it was: after a lost worker and a pause at its newest checkpoint,
 * after a failure of its agent's own where that try began; and a fork begins with what it was
 * forked from.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { ResumePoint } from "../../../orchestrator/contract/checkpoints.ts";
import type { AgentSpec } from "../../../orchestrator/contract/worker.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import type { Session } from "../../../orchestrator/trials/worker-sessions.ts";
import { keepCheckpoint } from "../../support/checkpoints.ts";
import { openTrialLife } from "../../support/trial-life.ts";

type TrialLife = Awaited<ReturnType<typeof openTrialLife>>;

const RESUME: ResumePoint = {
  completed_phases: ["plan"],
  plan_text: "the plan",
  session: { id: "session-1", phase: "execute" },
};

/** Enrols the trial's newest allocation: what it is told, and its session. */
async function enrol(life: TrialLife, id: TrialId): Promise<{ spec: AgentSpec; session: Session }> {
  const { placement } = life.scheduler.newest(id);
  const { spec, allocation_token: token } = await life.sessions.enrol(placement.enrolmentToken);
  assert.ok(spec.purpose === "agent");
  return { spec, session: await life.sessions.authenticate(token) };
}

/** Lets the engine act until the trial has a new allocation. */
async function advance(life: TrialLife): Promise<void> {
  await life.engine.advance();
  await life.world.database.sql.execute(sql`update trial set not_before = null`);
  await life.engine.advance();
}

async function start(life: TrialLife) {
  const id = await life.create();
  await life.engine.advance();
  return { id, ...(await enrol(life, id)) };
}

test("a lost worker's trial goes on at its newest checkpoint, elsewhere", async () => {
  await using life = await openTrialLife({});
  const { id, spec, session } = await start(life);
  assert.equal(spec.resume, undefined);
  await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  const kept = await keepCheckpoint(life.checkpoints, session, 2, { a: "2" }, { resume: RESUME });
  life.scheduler.newest(id).status = "lost";
  await advance(life);
  const again = await enrol(life, id);
  assert.deepEqual(again.spec.resume, {
    ...RESUME,
    checkpoint: { id: kept.id, manifest_sha256: kept.manifest_sha256 },
  });
  const retries = (await life.trials.events(id, 0, 100)).filter(
    ({ type }) => type === "trial.retry",
  );
  assert.deepEqual(
    retries.map(({ data }) => [data["failure_class"], data["checkpoint_id"]]),
    [["worker_lost", kept.id]],
  );
  assert.equal((await life.trials.get(id)).tries, 2);

  // Lost once more before it kept anything: there again.
  life.scheduler.newest(id).status = "lost";
  await advance(life);
  const third = await enrol(life, id);
  assert.equal(third.spec.resume?.checkpoint?.id, kept.id);
  const grown = await keepCheckpoint(life.checkpoints, third.session, 1, { a: "3" });
  assert.equal(grown.parent_id, kept.id);
});

test("a worker that is lost before its first checkpoint begins anew", async () => {
  await using life = await openTrialLife({});
  const { id } = await start(life);
  life.scheduler.newest(id).status = "lost";
  await advance(life);
  assert.equal((await enrol(life, id)).spec.resume, undefined);
});

test("a worker that was told to end hands over; an agent that failed begins again", async () => {
  await using life = await openTrialLife({ limits: "{ retries: 5 }" });
  const { id, session } = await start(life);
  const kept = await keepCheckpoint(life.checkpoints, session, 1, { a: "1" }, { cause: "pause" });
  await life.sessions.report(session, { ...report("killed"), completed_phases: ["plan"] });
  await advance(life);
  const again = await enrol(life, id);
  assert.equal(again.spec.resume?.checkpoint?.id, kept.id);

  await keepCheckpoint(life.checkpoints, again.session, 1, { a: "2" }, { cause: "end" });
  await life.sessions.report(again.session, report("crash"));
  await advance(life);
  const third = await enrol(life, id);
  assert.equal(third.spec.resume?.checkpoint?.id, kept.id, "where the failed try began");
});

test("a paused trial goes on at the checkpoint of its pause; without one, with its plan", async () => {
  await using life = await openTrialLife({});
  const one = await start(life);
  const point = { cause: "pause", resume: RESUME } as const;
  const kept = await keepCheckpoint(life.checkpoints, one.session, 1, { a: "1" }, point);
  await life.sessions.report(one.session, report("quota"));
  const two = await start(life);
  const said = { ...report("quota"), completed_phases: ["plan" as const], plan_text: "its plan" };
  await life.sessions.report(two.session, said);
  await life.engine.advance();
  for (const { id } of [one, two]) {
    assert.equal((await life.trials.get(id)).state, "paused");
    await life.trials.resume(id);
  }
  await advance(life);
  const resumed = (await enrol(life, one.id)).spec.resume;
  assert.deepEqual([resumed?.checkpoint?.id, resumed?.session], [kept.id, RESUME.session]);
  assert.deepEqual((await enrol(life, two.id)).spec.resume, {
    completed_phases: ["plan"],
    plan_text: "its plan",
  });
});

test("a fork begins with its parent's checkpoint, under a budget of its own", async () => {
  await using life = await openTrialLife({ slots: 8 });
  const { id, session } = await start(life);
  const early = await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  const late = await keepCheckpoint(life.checkpoints, session, 2, { a: "2" }, { resume: RESUME });

  const newest = await life.trials.fork(id, {});
  const parent = await life.trials.get(id);
  assert.deepEqual(
    [newest.forked_from, newest.agent, newest.pair, newest.seed, newest.task, newest.state],
    [late.id, parent.agent, parent.pair, parent.seed, parent.task, "queued"],
  );
  const other = await life.trials.fork(id, {
    checkpoint_id: late.id,
    agent: "codex",
    limit_nanos: "500000",
    priority: 7,
  });
  const past = await life.trials.fork(id, { checkpoint_id: early.id });
  await advance(life);

  const own = await enrol(life, newest.id as TrialId);
  assert.deepEqual(own.spec.resume?.session, RESUME.session);
  const foreign = await enrol(life, other.id as TrialId);
  assert.equal(foreign.spec.agent, "codex");
  assert.deepEqual(foreign.spec.resume, {
    completed_phases: ["plan"],
    plan_text: "the plan",
    checkpoint: { id: late.id, manifest_sha256: late.manifest_sha256 },
  });
  const shown = await life.trials.get(other.id as TrialId);
  assert.deepEqual([shown.priority, shown.budget?.funded_nanos], [7, "500000"]);

  // What it makes grows from there; what it grew from is not forgotten.
  const grown = await keepCheckpoint(life.checkpoints, own.session, 1, { a: "fork" });
  assert.equal(grown.parent_id, late.id);
  for (let sequence = 3; sequence < 9; sequence++) {
    await keepCheckpoint(life.checkpoints, session, sequence, { a: `${sequence}` });
  }
  const tree = await life.checkpoints.tree(other.id as TrialId);
  assert.deepEqual(
    tree.trials.map((each) => [each.id, each.forked_from]),
    [
      [id, null],
      [newest.id, late.id],
      [other.id, late.id],
      [past.id, early.id],
    ],
  );
  const kept = tree.checkpoints.map((checkpoint) => checkpoint.id);
  assert.ok(kept.includes(early.id) && kept.includes(late.id), "forks began there");
  assert.ok(kept.length < 9, "others were forgotten");

  // A fork that loses its worker before it kept anything begins where it was forked from.
  life.scheduler.newest(past.id as TrialId).status = "lost";
  await advance(life);
  const again = await enrol(life, past.id as TrialId);
  assert.equal(again.spec.resume?.checkpoint?.id, early.id);
});

test("a fork of nothing, of another trial's checkpoint, or for an unknown agent is refused", async () => {
  await using life = await openTrialLife({});
  const { id, session } = await start(life);
  await assert.rejects(life.trials.fork(id, {}), { code: "conflict" });
  const { id: kept } = await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  const other = await start(life);
  for (const checkpoint_id of [kept, "none", "checkpoint_0", life.ids.next("checkpoint")]) {
    const asked = life.trials.fork(other.id, { checkpoint_id });
    await assert.rejects(asked, { code: "not_found", message: /^checkpoint_id: / });
  }
  await assert.rejects(life.trials.fork(id, { agent: "nobody" }), /^Problem: agent: unknown agent/);
  await assert.rejects(life.trials.fork(life.ids.next("trial"), {}), { code: "not_found" });
  const all = await life.trials.list({ limit: 10 });
  assert.equal(all.length, 2, "no trial was made of these");
});

function report(outcome: "killed" | "crash" | "quota") {
  return {
    purpose: "agent" as const,
    outcome,
    detail: outcome,
    agent_version: null,
    completed_phases: [] as ("plan" | "execute")[],
    plan_text: null as string | null,
    diff: { files_changed: 0, lines_added: 0, lines_removed: 0, touched_test_files: [] },
    survivors_killed: 0,
  };
}
