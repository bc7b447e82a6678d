/**
 * Goal: a provider whose quota is used up costs a trial time and nothing else: it is stopped and
 * kept like one without money, and goes on by itself when the quota is back.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { keepCheckpoint } from "../../support/checkpoints.ts";
import { openTrialLife } from "../../support/trial-life.ts";
import { agentReport } from "../../support/trial-world.ts";

type Life = Awaited<ReturnType<typeof openTrialLife>>;

const HOUR_MS = 3_600_000;

async function startOne(life: Life): Promise<{ id: TrialId; token: string }> {
  const id = await life.create();
  await life.engine.advance();
  const token = await life.enrol(id);
  await life.engine.advance();
  return { id, token };
}

/** By the database's clock, which the engine waits by; the world's own is behind it. */
async function anHourOn(life: Life): Promise<number> {
  const [now] = await rows<{ ms: string }>(
    life.db.sql,
    sql`select (extract(epoch from clock_timestamp()) * 1000)::bigint as ms`,
  );
  return Number(now?.ms) + HOUR_MS;
}

async function makeDue(life: Life, id: TrialId): Promise<void> {
  await life.db.sql.execute(sql`
    update trial set resume_at = clock_timestamp() - interval '1 second' where id = ${id}`);
}

test("it is stopped, paused until then, and resumed by the engine with all its tries", async () => {
  await using life = await openTrialLife({});
  const { id, token } = await startOne(life);
  const untilMs = await anHourOn(life);
  const until = new Date(untilMs).toISOString();
  const told = { provider: "openai", untilMs };
  await life.events.quotaExhausted(id, told);
  await life.events.quotaExhausted(id, { ...told, untilMs: untilMs - 1 });
  const session = await life.sessions.authenticate(token);
  assert.deepEqual(await life.sessions.heartbeat(session, 0), { action: "stop", reason: "quota" });
  assert.equal((await life.trials.get(id)).resume_at, null, "it runs still");

  const kept = { id: "session-1", phase: "execute" } as const;
  const point = { completed_phases: [], plan_text: null, session: kept };
  await keepCheckpoint(life.checkpoints, session, 1, {}, { cause: "pause", resume: point });
  await life.sessions.report(session, agentReport("quota"));
  await life.engine.advance();
  const paused = await life.trials.get(id);
  assert.deepEqual(
    [paused.state, paused.resume_at, paused.approval_id, paused.reason],
    ["paused", until, null, `provider quota until ${until}`],
  );
  const events = await life.trials.events(id, 0, 100);
  const quota = events.filter(({ type }) => type === "quota.exhausted");
  assert.deepEqual(
    quota.map(({ data }) => data),
    [{ provider: "openai", until }],
  );

  await life.engine.advance();
  assert.equal((await life.trials.get(id)).state, "paused", "not before its time");
  await makeDue(life, id);
  await life.engine.advance();
  const again = await life.trials.get(id);
  assert.deepEqual([again.state, again.tries, again.resume_at], ["placed", 1, null]);
  const { spec } = await life.sessions.enrol(life.scheduler.newest(id).placement.enrolmentToken);
  assert.ok(spec.purpose === "agent");
  assert.deepEqual(spec.resume?.session, kept);
});

test("a person may resume it before, and cancel it at any time", async () => {
  await using life = await openTrialLife({});
  const far = { provider: "openai", untilMs: (await anHourOn(life)) + 10_000 * 24 * HOUR_MS };
  const [one, two] = [await startOne(life), await startOne(life)];
  for (const { id, token } of [one, two]) {
    await life.events.quotaExhausted(id, far);
    await life.reportAgent(token, "model_error");
  }
  await life.engine.advance();
  const [first, second] = [await life.trials.get(one.id), await life.trials.get(two.id)];
  assert.deepEqual([first.state, second.state], ["paused", "paused"]);
  const aheadMs = Date.parse(first.resume_at ?? "") - (await anHourOn(life));
  assert.ok(aheadMs < 7 * 24 * HOUR_MS, "what a provider states is bounded");
  assert.equal((await life.trials.resume(one.id)).state, "queued");
  const cancelled = await life.trials.cancel(two.id);
  assert.deepEqual([cancelled.state, cancelled.resume_at], ["cancelled", null]);
});

test("a worker that is lost then is not tried against a provider that answers nobody", async () => {
  await using life = await openTrialLife({});
  const { id } = await startOne(life);
  const untilMs = await anHourOn(life);
  await life.events.quotaExhausted(id, { provider: "openai", untilMs });
  life.scheduler.newest(id).status = "lost";
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).state, "paused");
});

test("an agent that finished all the same is judged, and its quota forgotten", async () => {
  await using life = await openTrialLife({});
  const { id, token } = await startOne(life);
  const untilMs = await anHourOn(life);
  await life.events.quotaExhausted(id, { provider: "openai", untilMs });
  await life.reportAgent(token, "finished");
  await life.engine.advance();
  const trial = await life.trials.get(id);
  assert.deepEqual([trial.state, trial.resume_at], ["verifying", null]);
});

test("without money too it waits for a person", async () => {
  await using life = await openTrialLife({});
  const { id, token } = await startOne(life);
  const budget = await life.ledger.findAccount("budget", `trial/${id}`);
  assert.ok(budget !== null);
  await life.events.quotaExhausted(id, { provider: "openai", untilMs: 0 });
  await life.events.exhausted(id, { budget, requiredNanos: 2n, availableNanos: 1n });
  await life.reportAgent(token, "budget");
  for (let round = 0; round < 3; round++) await life.engine.advance();
  const trial = await life.trials.get(id);
  assert.deepEqual([trial.state, trial.resume_at], ["paused", null]);
  assert.notEqual(trial.approval_id, null);
});
