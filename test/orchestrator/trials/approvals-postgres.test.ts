/**
 * Goal: a person's answer counts once, and only for what the person saw: money moves with the
 * trial or not at all (S17: replayed, raced, changed, answered by the other side).
 *
 * Method: trials paused for want of money over a real database, as the engine does it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { Approval } from "../../../orchestrator/contract/approvals.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import type { Problem } from "../../../orchestrator/problem.ts";
import type { AccountId, ApprovalId, TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createApprovals } from "../../../orchestrator/trials/approvals-postgres.ts";
import { auditLedger } from "../../support/audit.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const REQUIRED_NANOS = 3_000_000n;
const LIMIT_NANOS = 1_000_000n;
const SUGGESTED_NANOS = 10_000_000n;

type Lives = Awaited<ReturnType<typeof openTrialLife>>;

async function openPaused() {
  const life = await openTrialLife({});
  const { db, projects, ids, world } = life;
  const ledgerIn = (tx: Parameters<typeof createLedger>[0]) => createLedger(tx, world.clock);
  const approvals = createApprovals({ db, ledgerIn, projects, clock: world.clock, ids });
  return { ...life, approvals, pauseOne: () => pauseOne(life) };
}

/** A trial that the gateway refused its first call. */
async function pauseOne(life: Lives): Promise<{ id: TrialId; budget: AccountId }> {
  const id = await life.create();
  await life.engine.advance();
  const token = await life.enrol(id);
  await life.engine.advance();
  const budget = await life.ledger.findAccount("budget", `trial/${id}`);
  assert.ok(budget !== null);
  await life.events.exhausted(id, {
    budget,
    requiredNanos: REQUIRED_NANOS,
    availableNanos: LIMIT_NANOS,
  });
  await life.reportAgent(token, "budget");
  life.scheduler.newest(id).status = "complete";
  await life.engine.advance();
  assert.equal((await life.trials.get(id)).state, "paused");
  return { id, budget };
}

async function openOne({ approvals }: Awaited<ReturnType<typeof openPaused>>, trialId: TrialId) {
  const [approval] = await approvals.list({ state: "open", trialId });
  assert.ok(approval !== undefined);
  return { approval, id: approval.id as ApprovalId, hash: approval.content_sha256 };
}

async function topUps(life: Lives, budget: AccountId): Promise<string[]> {
  const found = await rows<{ amount_nanos: string }>(
    life.db.sql,
    sql`select amount_nanos from transfer where credit_account_id = ${budget} and reason = 'topup'
      order by created_at, id`,
  );
  return found.map((row) => row.amount_nanos);
}

test("what is asked: what it cost, what it lacks, what it will take, what was kept", async () => {
  await using life = await openPaused();
  const { id, budget } = await life.pauseOne();
  const { approval } = await openOne(life, id);
  const { id: _id, content_sha256, created_at: _at, ...asked } = approval;
  assert.match(content_sha256, /^[0-9a-f]{64}$/);
  assert.deepEqual(asked, {
    trial_id: id,
    project: "p",
    kind: "budget",
    state: "open",
    facts: {
      currency: "CAD",
      limit_nanos: String(LIMIT_NANOS),
      spent_nanos: "0",
      shortage: {
        level: "trial",
        account_id: budget,
        unit: "CAD",
        required_nanos: String(REQUIRED_NANOS),
        available_nanos: String(LIMIT_NANOS),
      },
      forecast: null,
      suggested_nanos: String(SUGGESTED_NANOS),
      checkpoint: {
        files_changed: 0,
        lines_added: 0,
        lines_removed: 0,
        completed_phases: [],
        has_session: false,
      },
    },
    egress: null,
    reason: null,
    topped_up_nanos: null,
    resolved_at: null,
  });
  assert.equal((await life.trials.get(id)).approval_id, approval.id);
  assert.deepEqual(await life.approvals.get(approval.id as ApprovalId), approval);
  const other = life.ids.next("approval");
  await assert.rejects(life.approvals.get(other), { code: "not_found" });
});

test("approved: the budget grows and the trial goes on, once for all repeats", async () => {
  await using life = await openPaused();
  const { id: trialId, budget } = await life.pauseOne();
  const { id, hash } = await openOne(life, trialId);
  const answer = { content_sha256: hash };
  const answers = await Promise.all([1, 2, 3, 4].map(() => life.approvals.approve(id, answer)));
  answers.push(await life.approvals.approve(id, answer));
  assert.deepEqual(
    answers.map(({ state, topped_up_nanos }) => [state, topped_up_nanos]),
    answers.map(() => ["granted", String(SUGGESTED_NANOS)]),
  );
  assert.deepEqual(await topUps(life, budget), [String(SUGGESTED_NANOS)]);
  const trial = await life.trials.get(trialId);
  assert.deepEqual([trial.state, trial.tries, trial.approval_id], ["queued", 0, null]);
  const amount = { ...answer, amount_nanos: "5000000" };
  await assert.rejects(life.approvals.approve(id, amount), { code: "conflict" });
  const no = { ...answer, reason: "no" };
  await assert.rejects(life.approvals.reject(id, no), { code: "conflict" });
  await life.engine.advance();
  assert.equal((await life.trials.get(trialId)).state, "placed");
  await auditLedger(life.world.database);
});

test("an answer does not wait for events of its trial, whose lock it needs", {
  timeout: 30_000,
}, async () => {
  await using life = await openPaused();
  const { id: trialId } = await life.pauseOne();
  const { id, hash } = await openOne(life, trialId);
  await life.db.sql.transaction(async (transaction) => {
    // What an uncommitted event or call holds of the rows that it refers to.
    await transaction.execute(sql`select from trial where id = ${trialId} for key share`);
    await transaction.execute(sql`select from project for key share`);
    const { state } = await life.approvals.approve(id, { content_sha256: hash });
    assert.equal(state, "granted");
  });
});

test("rejected: the trial is cancelled with the reason, and nothing moves", async () => {
  await using life = await openPaused();
  const { id: trialId, budget } = await life.pauseOne();
  const { id, hash } = await openOne(life, trialId);
  const answer = { content_sha256: hash, reason: "too dear for what it does" };
  const rejected = await life.approvals.reject(id, answer);
  assert.deepEqual([rejected.state, rejected.reason], ["rejected", answer.reason]);
  assert.deepEqual(await life.approvals.reject(id, answer), rejected);
  const trial = await life.trials.get(trialId);
  assert.deepEqual([trial.state, trial.reason], ["cancelled", `rejected: ${answer.reason}`]);
  assert.deepEqual(await topUps(life, budget), []);
  await assert.rejects(life.approvals.approve(id, answer), { code: "conflict" });
});

test("approve and reject at once: one outcome, whoever comes first", async () => {
  await using life = await openPaused();
  const outcomes = new Set<string>();
  for (let round = 0; round < 12; round++) {
    const { id: trialId, budget } = await life.pauseOne();
    const { id, hash } = await openOne(life, trialId);
    const approve = () => life.approvals.approve(id, { content_sha256: hash });
    const reject = () => life.approvals.reject(id, { content_sha256: hash, reason: "no" });
    const raced = round % 2 === 0 ? [approve, reject, approve] : [reject, approve, reject];
    const [first, ...others] = raced.map((answer) => () => answer());
    const begun = [first?.()];
    begun[0]?.catch(() => {});
    // A longer start each time: so that each of them comes first, whichever has less to do.
    for (let ahead = 0; ahead < round; ahead++) await life.db.sql.execute(sql`select 1`);
    // However slow that is, in the last rounds it has come first.
    if (round >= 10) await Promise.allSettled(begun);
    begun.push(...others.map((answer) => answer()));
    const settled = await Promise.allSettled(begun);
    const { state } = await life.approvals.get(id);
    for (const result of settled) {
      if (result.status === "fulfilled") assert.equal((result.value as Approval).state, state);
      else assert.equal((result.reason as Problem).code, "conflict");
    }
    const trial = await life.trials.get(trialId);
    assert.equal(trial.state, state === "granted" ? "queued" : "cancelled");
    await life.trials.cancel(trialId);
    assert.equal((await topUps(life, budget)).length, state === "granted" ? 1 : 0);
    outcomes.add(state);
  }
  assert.deepEqual([...outcomes].sort(), ["granted", "rejected"]);
});

test("an answer is about what was seen: other content, another approval, an end in between", async () => {
  await using life = await openPaused();
  const { id: trialId, budget } = await life.pauseOne();
  const { id, hash } = await openOne(life, trialId);
  const { id: otherTrial } = await life.pauseOne();
  const other = await openOne(life, otherTrial);
  await assert.rejects(life.approvals.approve(id, { content_sha256: other.hash }), {
    code: "conflict",
    message: /^content_sha256: the approval asks for something else/,
  });
  await life.db.sql.execute(sql`
    update approval set facts = jsonb_set(facts, '{suggested_nanos}', '"99000000000"')
    where id = ${id}`);
  for (const answer of ["approve", "reject"] as const) {
    const body = { content_sha256: hash, reason: "seen before the change" };
    await assert.rejects(life.approvals[answer](id, body), { code: "conflict" });
  }
  assert.equal((await life.trials.get(trialId)).state, "paused");
  assert.deepEqual(await topUps(life, budget), []);

  await life.trials.cancel(otherTrial);
  assert.equal((await life.approvals.get(other.id)).state, "superseded");
  const late = { content_sha256: other.hash };
  await assert.rejects(life.approvals.approve(other.id, late), { code: "conflict" });
});

test("an amount that does not help moves nothing", async () => {
  await using life = await openPaused();
  const { id: trialId, budget } = await life.pauseOne();
  const { id, hash } = await openOne(life, trialId);
  const little = { content_sha256: hash, amount_nanos: "1999999" };
  await assert.rejects(life.approvals.approve(id, little), {
    code: "budget_exceeded",
    message: /0\.000000001 CAD short of the next call/,
  });
  assert.deepEqual(await topUps(life, budget), []);
  assert.equal((await life.approvals.get(id)).state, "open");
  const enough = { content_sha256: hash, amount_nanos: "2000000" };
  assert.equal((await life.approvals.approve(id, enough)).topped_up_nanos, "2000000");
});

test("a person's own top-up and resume answers it as well", async () => {
  await using life = await openPaused();
  const { id: trialId, budget } = await life.pauseOne();
  const { id } = await openOne(life, trialId);
  const from = await life.ledger.findAccount("funding", "organisation/CAD");
  assert.ok(from !== null);
  const amountNanos = REQUIRED_NANOS - LIMIT_NANOS;
  const funding = { from, to: budget, amountNanos, reason: "topup" };
  await life.ledger.fund({ id: life.ids.next("transfer"), ...funding });
  await life.trials.resume(trialId);
  const { state, topped_up_nanos } = await life.approvals.get(id);
  assert.deepEqual([state, topped_up_nanos], ["granted", null]);
  assert.deepEqual(await life.approvals.list({ state: "open", project: "p" }), []);
});
