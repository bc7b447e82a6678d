/**
 * Goal (R5): wherever between two commits the orchestrator is killed, a trial ends in exactly one
 * terminal state, by one allocation that counts, and is paid for once.
 *
 * Method: routes through the state machine, each with workers whose fate is told. Of each route one
 * run after another dies at its next database operation, before or after that took effect, and a
 * new orchestrator finishes the trial. Database, ledger, engine, enrolment, sessions, approvals and
 * keys are the real ones. CI takes every eleventh operation; ROUNDS=20 takes all, twenty times.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { after, test } from "node:test";
import { sql } from "drizzle-orm";
import type { TrialState } from "../../orchestrator/contract/trials.ts";
import { readNanos, rows } from "../../orchestrator/db/rows.ts";
import type { AccountId, ApprovalId, TransferId, TrialId } from "../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { isTerminal } from "../../orchestrator/trials/trial.ts";
import { auditLedger } from "../support/audit.ts";
import { writeTaskFolder } from "../support/trial-world.ts";
import { createWorkers, newTally, type WorkerFate } from "./workers.ts";
import { type Life, openWorld, waitForLeases } from "./world.ts";

interface Route {
  ends: TrialState;
  /** Enough for every call, unless given. */
  limitNanos?: string;
  isCancelled?: boolean;
  /** Of the nth allocation, as long as nobody is killed: a kill may cost it its enrolment. */
  fates: readonly Partial<WorkerFate>[];
}

const NEVER = Number.MAX_SAFE_INTEGER;
const ROUNDS = Number(process.env["ROUNDS"] ?? 0);
/** Operations from one kill to the next. */
const STRIDE = ROUNDS > 0 ? 1 : 11;
const TURNS_MAX = 300;
const STEPS_MIN = 12;
const COST_NANOS = 700n;
const WELL: WorkerFate = {
  callsLeft: 2,
  ending: "report",
  outcome: "finished",
  verdict: "passed",
  meetsQuota: false,
};
const ROUTES: Readonly<Record<string, Route>> = {
  "passes its tests": { ends: "succeeded", fates: [] },
  "fails its tests": { ends: "failed", fates: [{}, { verdict: "failed" }] },
  "its agent crashes once": { ends: "succeeded", fates: [{ outcome: "crash" }] },
  "its worker vanishes and returns": {
    ends: "succeeded",
    fates: [{ ending: "vanish_and_return" }],
  },
  "its verifier vanishes": { ends: "succeeded", fates: [{}, { ending: "vanish" }] },
  "its tests cannot run": { ends: "errored", fates: [{}, { verdict: "error" }] },
  "its budget is gone and topped up": { ends: "succeeded", limitNanos: "1200", fates: [] },
  "its provider's quota is used up": { ends: "succeeded", fates: [{ meetsQuota: true }] },
  "it is cancelled": { ends: "cancelled", isCancelled: true, fates: [] },
};

/** How many died in which step, over all routes. */
const deaths = new Map<string, number>();

const world = await openWorld(1);
after(() => world[Symbol.asyncDispose]());
await applyProject(open(NEVER, false, createFated({ ends: "succeeded", fates: [] })));

for (const [at, [name, route]] of Object.entries(ROUTES).entries()) {
  test(`a kill between any two commits of a trial: ${name}`, async (t) => {
    let runs = 0;
    for (let round = 0; round < Math.max(1, ROUNDS); round++) {
      for (let operations = 1 + (at % STRIDE); ; operations += STRIDE) {
        runs += 1;
        const isAppliedAtDeath = (runs + round) % 2 === 0;
        const hasDied = await runTrial(route, { operations, isAppliedAtDeath });
        if (!hasDied) break;
      }
    }
    await auditLedger(world.database);
    t.diagnostic(`${runs} kills`);
  });
}

test("the kills met every step of a trial", (t) => {
  t.diagnostic(JSON.stringify(Object.fromEntries([...deaths].toSorted())));
  assert.ok(deaths.size >= STEPS_MIN, `only ${deaths.size} steps: ${[...deaths.keys()]}`);
  if (ROUNDS < 20) return;
  for (const [step, count] of deaths) assert.ok(count >= 20, `${step}: only ${count}`);
});

function createFated(route: Route) {
  const fateOf = (nth: number) => ({ ...WELL, ...route.fates[nth] });
  return createWorkers(seededRandom(1), newTally(), fateOf);
}

type Workers = ReturnType<typeof createFated>;

function open(operations: number, isAppliedAtDeath: boolean, workers: Workers): Life {
  return world.open({ operations, isAppliedAtDeath, scheduler: workers.scheduler });
}

/** One trial, whose orchestrator dies after so many operations; false: it had ended before. */
async function runTrial(
  route: Route,
  { operations, isAppliedAtDeath }: { operations: number; isAppliedAtDeath: boolean },
): Promise<boolean> {
  const workers = createFated(route);
  const reliable = open(NEVER, false, workers);
  const cell = { project: "simulated", agent: "aider", pair: "any", task: "task" };
  const limit_nanos = route.limitNanos ?? "100000";
  const id = (await reliable.trials.create({ ...cell, limit_nanos })).id as TrialId;
  const mortal = open(operations, isAppliedAtDeath, workers);
  await drive(mortal, reliable, { id, route, workers });
  const hasDied = mortal.db.isDead();
  if (hasDied) {
    const step = await stepOf(reliable, id);
    deaths.set(step, (deaths.get(step) ?? 0) + 1);
    await waitForLeases(world.database);
    await drive(reliable, reliable, { id, route, workers });
  }
  // Whoever was given up speaks once more, after the end.
  await workers.act(reliable);
  await check(reliable, id, { route, workers, hasDied });
  return hasDied;
}

interface Run {
  id: TrialId;
  route: Route;
  workers: Workers;
}

/** Until the trial has ended or the process is dead; `reader` sees both. */
async function drive(life: Life, reader: Life, { id, route, workers }: Run): Promise<void> {
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    for (const act of [() => life.engine.advance(), () => workers.act(life), person]) {
      await act().catch((error: unknown) => {
        if (!life.db.isDead()) throw error;
      });
      if (life.db.isDead()) return;
    }
    if (isTerminal(await stateOf(reader, id))) return;
  }
  assert.fail(`${id} is ${await stateOf(reader, id)} after ${TURNS_MAX} turns`);

  async function person(): Promise<void> {
    const state = await stateOf(reader, id);
    if (route.isCancelled === true && state === "running") await life.trials.cancel(id);
    const [asked] = state === "paused" ? await life.approvals.list({ state: "open" }) : [];
    if (asked === undefined) return;
    const { content_sha256 } = asked;
    await life.approvals.approve(asked.id as ApprovalId, { content_sha256, amount_nanos: "50000" });
  }
}

async function stateOf(life: Life, id: TrialId): Promise<TrialState> {
  const [trial] = await rows<{ state: TrialState }>(
    life.db.sql,
    sql`select state from trial where id = ${id}`,
  );
  assert.ok(trial !== undefined);
  return trial.state;
}

/** Where in its life a trial stands: its state, and how far the allocation of that state is. */
async function stepOf(life: Life, id: TrialId): Promise<string> {
  const [found] = await rows<{ step: string }>(
    life.db.sql,
    sql`select concat_ws(' ', state,
        case when state in ('placed', 'running', 'verifying') then purpose
          when state = 'paused' and resume_at is not null then 'quota'
          when state = 'queued' and trial.fence > 0 then 'again' end,
        case when state not in ('placed', 'running', 'verifying') then null
          when reported_at is not null then 'reported'
          when enrolled_at is not null then 'enrolled' end,
        case when cancel_requested then 'cancelling' end) as step
      from trial left join allocation on allocation.id = allocation_id
      where trial.id = ${id}`,
  );
  return found?.step ?? "";
}

async function check(
  life: Life,
  id: TrialId,
  { route, workers, hasDied }: { route: Route; workers: Workers; hasDied: boolean },
): Promise<void> {
  const trial = await life.trials.get(id);
  // A kill may cost the fated allocation its enrolment: then the next one's fate decides.
  const possible: TrialState[] = hasDied ? ["succeeded", "failed", "errored"] : [];
  assert.ok([route.ends, ...possible].includes(trial.state), `${trial.state}: ${trial.reason}`);
  const events = await life.trials.events(id, 0, 1_000);
  const states = events.filter(({ type }) => type === "trial.state").map(({ data }) => data);
  assert.equal(states.filter(({ to }) => isTerminal(to as TrialState)).length, 1);
  for (const [at, { from }] of states.entries()) {
    assert.equal(from, at === 0 ? null : states[at - 1]?.["to"], "a chain of states");
  }
  await checkAllocations(life, id, workers);
  await checkPayment(life, id, workers);
}

/** One counts at a time, in the order of the fences; each was placed once, and none is left. */
async function checkAllocations(life: Life, id: TrialId, workers: Workers): Promise<void> {
  const found = await rows<{
    id: string;
    fence: number;
    is_over: boolean;
    is_current: boolean;
    overlaps: boolean;
  }>(
    life.db.sql,
    sql`select id, fence, ended_at is not null as is_over,
        id = (select allocation_id from trial where id = ${id}) as is_current,
        coalesce(created_at < lag(ended_at) over (order by fence), false) as overlaps
      from allocation where trial_id = ${id} order by fence`,
  );
  assert.deepEqual(
    found.map(({ fence }) => fence),
    found.map((_, at) => at + 1),
    "a fence each",
  );
  assert.ok(found.every(({ is_over, overlaps }) => is_over && !overlaps));
  assert.ok(found.every(({ is_current }, at) => is_current === (at === found.length - 1)));
  const placed = workers.all().map(({ placement }) => placement.allocationId);
  assert.equal(new Set(placed).size, placed.length);
  for (const allocationId of placed) assert.ok(found.some((one) => one.id === allocationId));
}

/** Its limit was funded once; what it paid is what its workers settled, each once. */
async function checkPayment(life: Life, id: TrialId, workers: Workers): Promise<void> {
  const account = (await life.ledger.findAccount("budget", `trial/${id}`)) as AccountId;
  const found = await rows<{ id: TransferId; kind: string; reason: string; amount: string }>(
    life.db.sql,
    sql`select id, kind, reason, amount_nanos as amount from transfer
      where debit_account_id = ${account} or credit_account_id = ${account}`,
  );
  assert.equal(found.filter(({ reason }) => reason === "limit").length, 1, "funded once");
  const posts = found.filter(({ kind }) => kind === "post");
  assert.ok(posts.every((post) => workers.asked.has(post.id)));
  const posted = new Set(posts.map((post) => post.id));
  for (const settleId of workers.acknowledged) assert.ok(posted.has(settleId), "paid and lost");
  const spentNanos = posts.reduce((sum, { amount }) => sum + readNanos(amount), 0n);
  assert.equal(spentNanos, COST_NANOS * BigInt(posted.size), "each call paid once");
  assert.equal((await life.ledger.balance(account))?.spentNanos, spentNanos);
  const alive = await rows(
    life.db.sql,
    sql`select id from virtual_key where trial_id = ${id} and revoked_at is null`,
  );
  assert.deepEqual(alive, [], "a key outlived its trial");
}

async function applyProject(life: Life): Promise<void> {
  const folder = await writeTaskFolder();
  try {
    await life.projects.apply({
      file_name: "autocode.yaml",
      folder,
      file_text: [
        "project: simulated",
        "currency: CAD",
        "budget: { total: 1000, per_trial: 0.001 }",
        "tasks: [task]",
        "limits: { concurrency: 3, retries: 1 }",
      ].join("\n"),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}
