/**
 * Approvals in Postgres. An answer is one transaction over the trial, the approval and the ledger,
 * and takes the trial's lock first, as the engine does: of two answers the first one stands.
 *
 * Invariant: a granted approval's money moved and its trial was queued; a rejected one's trial has
 * ended and nothing moved.
 */
import { createHash } from "node:crypto";
import { type SQL, sql } from "drizzle-orm";
import { Value } from "typebox/value";
import { type Approval, ApprovalFacts, type Approve, type Reject } from "../contract/approvals.ts";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { NANOS_MAX, type Nanos } from "../money.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type ApprovalId, derivedId, type Ids, type TrialId } from "../runtime/ids.ts";
import type { ApprovalFilter, Approvals } from "./approvals.ts";
import { grantRules, readFacts } from "./egress-proposals.ts";
import { isToday, openDay, type ResumeDependencies, stillShort } from "./resume.ts";
import { findTrial } from "./rows.ts";
import { lastShortage, type Shortage } from "./shortage.ts";
import { createTransitions, queueAgain } from "./transitions.ts";

export interface ApprovalsDependencies {
  db: Database;
  /** The ledger inside a transaction. */
  ledgerIn: (transaction: { sql: Sql }) => Pick<Ledger, "balance" | "findAccount" | "fund">;
  projects: ResumeDependencies["projects"];
  clock: Clock;
  ids: Ids;
}

const LIST_MAX = 500;

type ApprovalRow = {
  id: ApprovalId;
  trial_id: TrialId;
  project: string;
  kind: Approval["kind"];
  state: Approval["state"];
  facts: unknown;
  reason: string | null;
  topped_up_nanos: string | null;
  created_at: string;
  resolved_at: string | null;
};

export function createApprovals(dependencies: ApprovalsDependencies): Approvals {
  const { db } = dependencies;
  return {
    list,
    get: async (id) => toApproval(await need(db.sql, id)),
    approve: async (id, answer) => {
      const { kind } = await need(db.sql, id);
      if (kind === "egress_rule") return approveRules(dependencies, id, answer);
      return approve(dependencies, id, answer);
    },
    reject: (id, answer) => reject(dependencies, id, answer),
  };

  async function list({ state, project, trialId }: ApprovalFilter): Promise<Approval[]> {
    const conditions = [sql`true`];
    if (state !== undefined) conditions.push(sql`approval.state = ${state}`);
    if (project !== undefined) conditions.push(sql`project.name = ${project}`);
    if (trialId !== undefined) conditions.push(sql`approval.trial_id = ${trialId}`);
    return (await read(db.sql, sql.join(conditions, sql` and `))).map(toApproval);
  }
}

async function approve(
  { db, ledgerIn, projects, clock }: ApprovalsDependencies,
  id: ApprovalId,
  answer: Approve,
): Promise<Approval> {
  const { trial_id: trialId } = await need(db.sql, id);
  const today = await openDay(projects, await lastShortage(db.sql, trialId));
  await db.sql.transaction(async (transaction) => {
    const row = await lock(transaction, trialId, id);
    const shortage = await lastShortage(transaction, trialId);
    const amountNanos = amountOf(answer, toApproval(row), shortage, clock);
    const isRepeat =
      row.state === "granted" && row.topped_up_nanos === String(amountNanos) && fits(row, answer);
    if (isRepeat) return;
    refuseUnlessOpen(row, answer);
    const ledger = ledgerIn({ sql: transaction });
    if (amountNanos > 0n) await topUp(transaction, ledger, { id, trialId, shortage, amountNanos });
    const detail = shortage === null ? null : await stillShort({ ledger, clock }, shortage, today);
    if (detail !== null) throw new Problem("budget_exceeded", detail);
    const at = rfc3339(clock.now());
    if (!(await queueAgain(transaction, trialId, at))) throw notPaused(trialId);
    await transaction.execute(sql`
      update approval set state = 'granted', topped_up_nanos = ${String(amountNanos)},
        resolved_at = ${at}
      where id = ${id}`);
  });
  return toApproval(await need(db.sql, id));
}

/** The rules stand in the policy and the approval is granted: both or neither, once. */
async function approveRules(
  { db, clock }: ApprovalsDependencies,
  id: ApprovalId,
  answer: Approve,
): Promise<Approval> {
  if (answer.amount_nanos !== undefined) {
    throw new Problem(
      "invalid_request",
      "amount_nanos: rules of egress cost nothing; leave it out",
    );
  }
  const { trial_id: trialId } = await need(db.sql, id);
  await db.sql.transaction(async (transaction) => {
    const row = await lock(transaction, trialId, id);
    if (row.state === "granted" && fits(row, answer)) return;
    refuseUnlessOpen(row, answer);
    const facts = readFacts(row.facts);
    if (facts === null) throw new Error(`an approval of rules without them: ${id}`);
    const at = rfc3339(clock.now());
    await grantRules(transaction, trialId, facts, at);
    await transaction.execute(sql`
      update approval set state = 'granted', resolved_at = ${at} where id = ${id}`);
  });
  return toApproval(await need(db.sql, id));
}

async function reject(
  { db, clock, ids }: ApprovalsDependencies,
  id: ApprovalId,
  answer: Reject,
): Promise<Approval> {
  const { trial_id: trialId } = await need(db.sql, id);
  await db.sql.transaction(async (transaction) => {
    const row = await lock(transaction, trialId, id);
    const isRepeat = row.state === "rejected" && row.reason === answer.reason && fits(row, answer);
    if (isRepeat) return;
    refuseUnlessOpen(row, answer);
    await transaction.execute(sql`
      update approval set state = 'rejected', reason = ${answer.reason},
        resolved_at = ${rfc3339(clock.now())}
      where id = ${id}`);
    // The trial went on without what it was refused, and may.
    if (row.kind === "egress_rule") return;
    const trial = await findTrial(transaction, trialId);
    if (trial?.state !== "paused") throw notPaused(trialId);
    const ending = { to: "cancelled", verdict: null, reward: null, flags: trial.flags } as const;
    const reason = `rejected: ${answer.reason}`;
    await createTransitions({ sql: transaction }, clock, ids).end(trial, { ...ending, reason });
  });
  return toApproval(await need(db.sql, id));
}

/** What moves: the amount that was said, else the one suggested; nothing to a day that is over. */
function amountOf(
  { amount_nanos: wanted }: Approve,
  { facts }: Approval,
  shortage: Shortage | null,
  clock: Clock,
): Nanos {
  if (shortage !== null && !isToday(shortage, clock)) return 0n;
  const amount = BigInt(wanted ?? facts?.suggested_nanos ?? "0");
  if (amount > NANOS_MAX) {
    throw new Problem("invalid_request", `amount_nanos: ${amount} is too much`);
  }
  return amount;
}

async function topUp(
  transaction: Sql,
  ledger: Pick<Ledger, "findAccount" | "fund">,
  {
    id,
    trialId,
    shortage,
    amountNanos,
  }: { id: ApprovalId; trialId: TrialId; shortage: Shortage | null; amountNanos: Nanos },
): Promise<void> {
  const trial = await findTrial(transaction, trialId);
  const to = shortage?.account ?? trial?.account_id ?? null;
  if (to === null) throw new Error("a paused trial without a budget");
  const [unit] = await rows<{ currency: string }>(
    transaction,
    sql`select currency from account where id = ${to}`,
  );
  const from = await ledger.findAccount("funding", `organisation/${unit?.currency}`);
  if (from === null) throw new Error("a budget without a funding account");
  const transfer = derivedId("transfer", "approval", id);
  const { outcome } = await ledger.fund({ id: transfer, from, to, amountNanos, reason: "topup" });
  if (outcome !== "funded") throw new Error(`an open approval's top-up: ${outcome}`);
}

/**
 * The trial first: the engine, and an answer that came at the same time, wait for this one. Not
 * `for update`: whoever appends an event of the trial would wait for it too, with the lock on all
 * events in hand, which this transaction needs next.
 */
async function lock(transaction: Sql, trialId: TrialId, id: ApprovalId): Promise<ApprovalRow> {
  await transaction.execute(sql`select id from trial where id = ${trialId} for no key update`);
  return need(transaction, id);
}

function refuseUnlessOpen(row: ApprovalRow, answer: { content_sha256: string }): void {
  if (row.state !== "open") {
    throw new Problem("conflict", `The approval is ${row.state}; it can be answered once`);
  }
  if (fits(row, answer)) return;
  throw new Problem(
    "conflict",
    "content_sha256: the approval asks for something else; look at it again and answer that",
  );
}

function fits(row: ApprovalRow, { content_sha256 }: { content_sha256: string }): boolean {
  return contentHash(row) === content_sha256;
}

function notPaused(trialId: TrialId): Problem {
  return new Problem("conflict", `The trial ${trialId} is no longer paused`);
}

async function need(db: Sql, id: ApprovalId): Promise<ApprovalRow> {
  const [row] = await read(db, sql`approval.id = ${id}`);
  if (row === undefined) throw new Problem("not_found", `There is no approval ${id}`);
  return row;
}

function read(db: Sql, condition: SQL): Promise<ApprovalRow[]> {
  return rows<ApprovalRow>(
    db,
    sql`select approval.*, project.name as project
      from approval
      join trial on trial.id = approval.trial_id
      join project on project.id = trial.project_id
      where ${condition}
      order by approval.created_at, approval.id limit ${LIST_MAX}`,
  );
}

function toApproval(row: ApprovalRow): Approval {
  return {
    id: row.id,
    trial_id: row.trial_id,
    project: row.project,
    kind: row.kind,
    state: row.state,
    facts: Value.Check(ApprovalFacts, row.facts) ? row.facts : null,
    egress: row.kind === "egress_rule" ? readFacts(row.facts) : null,
    content_sha256: contentHash(row),
    reason: row.reason,
    topped_up_nanos: row.topped_up_nanos,
    created_at: rfc3339(readTime(row.created_at)),
    resolved_at: row.resolved_at === null ? null : rfc3339(readTime(row.resolved_at)),
  };
}

/** Of the question alone, whatever order its facts are read in. */
function contentHash({ id, trial_id, kind, facts }: ApprovalRow): string {
  const text = JSON.stringify([id, trial_id, kind, sorted(facts)]);
  return createHash("sha256").update(text).digest("hex");
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, part]) => [key, sorted(part)] as const);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
