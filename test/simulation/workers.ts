/**
 * A scheduler whose workers are little scripts, drawn from the seed. Like real ones they outlive
 * the orchestrator: what they could not deliver is sent again to its next life.
 */
import { Readable } from "node:stream";
import type { AgentOutcome, Report } from "../../orchestrator/contract/worker.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import { Problem } from "../../orchestrator/problem.ts";
import type { AllocationId, TransferId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import type {
  AllocationStatus,
  Placement,
  Scheduler,
} from "../../orchestrator/scheduler/scheduler.ts";
import type { Session } from "../../orchestrator/trials/worker-sessions.ts";
import type { Life } from "./world.ts";

export interface Tally {
  enrolled: number;
  calls: number;
  refusedCalls: number;
  /** Calls that met a provider whose quota is used up. */
  quotas: number;
  /** Answers of people, whom a kill may interrupt. */
  approvals: number;
  rejections: number;
  reports: number;
  vanished: number;
  /** Late words of workers that had been given up, all refused. */
  fenced: number;
  killedLives: number;
}

export type Workers = ReturnType<typeof createWorkers>;

/** What becomes of a worker, drawn or told. */
export interface WorkerFate {
  callsLeft: number;
  /** How it ends: a report, or silence; a silent one may speak once it was given up. */
  ending: "report" | "vanish" | "vanish_and_return";
  outcome: AgentOutcome;
  verdict: "passed" | "failed" | "error";
  /** Its first call meets a provider whose quota is used up. */
  meetsQuota: boolean;
}

interface Worker extends WorkerFate {
  placement: Placement;
  status: AllocationStatus;
  token: string | null;
  key: string | null;
  purpose: "agent" | "verify" | null;
  cursor: number;
  call: { id: TransferId; settleId: TransferId; isReserved: boolean } | null;
}

export function newTally(): Tally {
  return {
    enrolled: 0,
    calls: 0,
    refusedCalls: 0,
    quotas: 0,
    approvals: 0,
    rejections: 0,
    reports: 0,
    vanished: 0,
    fenced: 0,
    killedLives: 0,
  };
}

const drawn = (): Partial<WorkerFate> => ({});
const CALL_NANOS = 1_000n;
const CALL_COST_NANOS = 700n;

/** @param fateOf of the nth worker that is placed, from 0 on; drawn where it says nothing. */
export function createWorkers(
  random: Random,
  tally: Tally,
  fateOf: (nth: number) => Partial<WorkerFate> = drawn,
) {
  const workers = new Map<AllocationId, Worker>();
  /** Settlements that were asked for, and those whose answer came. */
  const asked = new Set<TransferId>();
  const acknowledged = new Set<TransferId>();
  const scheduler: Scheduler = {
    name: "simulated",
    place: async (placement) => {
      if (!workers.has(placement.allocationId)) {
        workers.set(placement.allocationId, drawWorker(placement));
      }
    },
    status: async (id) => workers.get(id)?.status ?? null,
    stop: async (id) => {
      const worker = workers.get(id);
      if (worker?.status === "running") worker.status = "failed";
    },
    capacity: async () => 4,
    hosts: async () => [],
    drain: async () => {},
    logs: async () => null,
    onEnd: () => ({ [Symbol.dispose]: () => {} }),
    [Symbol.asyncDispose]: async () => {},
  };
  return { scheduler, act, asked, acknowledged, all: () => [...workers.values()] };

  function drawWorker(placement: Placement): Worker {
    const fate = random.below(10);
    const outcomes = ["finished", "finished", "finished", "wall_clock", "crash"] as const;
    const verdicts = ["passed", "passed", "failed", "error"] as const;
    return {
      placement,
      status: "running",
      token: null,
      key: null,
      purpose: null,
      cursor: 0,
      callsLeft: random.below(4),
      call: null,
      meetsQuota: false,
      ending: fate === 0 ? "vanish" : fate === 1 ? "vanish_and_return" : "report",
      outcome: outcomes[random.below(outcomes.length)] ?? "finished",
      verdict: verdicts[random.below(verdicts.length)] ?? "passed",
      ...fateOf(workers.size),
    };
  }

  /** Each worker does one thing; a dead orchestrator makes it try the same again later. */
  async function act(life: Life): Promise<void> {
    for (const worker of workers.values()) {
      if (life.db.isDead()) return;
      try {
        if (worker.status === "running") await step(life, worker);
        else if (worker.ending === "vanish_and_return") await speakLate(life, worker);
      } catch (error) {
        if (life.db.isDead()) return;
        if (!(error instanceof Problem)) throw error;
        // Fenced, or its enrolment's answer was lost with the process: a worker ends then.
        if (error.code === "fenced") tally.fenced += 1;
        worker.status = "failed";
      }
    }
  }

  async function step(life: Life, worker: Worker): Promise<void> {
    if (worker.token === null) return enrol(life, worker);
    const session = await life.sessions.authenticate(worker.token);
    const directive = await life.sessions.heartbeat(session, 0);
    if (directive.action === "stop") {
      const { reason } = directive;
      const outcome = reason === "budget" || reason === "quota" ? reason : "killed";
      return report(life, worker, session, outcome);
    }
    if (worker.purpose === "agent" && (worker.callsLeft > 0 || worker.call !== null)) {
      return callModel(life, worker);
    }
    if (worker.ending !== "report") {
      worker.status = "lost";
      tally.vanished += 1;
      return;
    }
    await report(life, worker, session, worker.outcome);
  }

  async function enrol(life: Life, worker: Worker): Promise<void> {
    const { allocation_token, spec } = await life.sessions.enrol(worker.placement.enrolmentToken);
    worker.token = allocation_token;
    worker.purpose = spec.purpose;
    worker.key = spec.purpose === "agent" ? spec.virtual_key : null;
    tally.enrolled += 1;
  }

  /** Reserve, then settle: as the gateway does, with ids that are kept for the retries. */
  async function callModel(life: Life, worker: Worker): Promise<void> {
    const found = await life.keys.find(worker.key ?? "");
    if (found.outcome !== "granted") throw new Problem("unauthenticated", found.outcome);
    const { grant } = found;
    if (
      worker.call === null &&
      (worker.meetsQuota || (fateOf === drawn && random.below(12) === 0))
    ) {
      return meetQuota(life, worker);
    }
    worker.call ??= {
      id: life.ids.next("transfer"),
      settleId: life.ids.next("transfer"),
      isReserved: false,
    };
    if (!worker.call.isReserved) {
      const { outcome } = await life.ledger.reserve({
        id: worker.call.id,
        budget: grant.budget,
        within: grant.enclosing,
        spend: grant.spend,
        amountNanos: CALL_NANOS,
        timeoutMs: 3_600_000,
      });
      if (outcome === "insufficient_funds") return refuse(life, worker, grant);
      worker.call.isReserved = true;
      return;
    }
    const { id: pendingId, settleId: id } = worker.call;
    asked.add(id);
    await life.ledger.settle({ id, pendingId, amountNanos: CALL_COST_NANOS });
    acknowledged.add(id);
    worker.call = null;
    worker.callsLeft -= 1;
    tally.calls += 1;
  }

  /** It is back at once: what is of interest is how the trial goes on by itself. */
  async function meetQuota(life: Life, worker: Worker): Promise<void> {
    const trialId = worker.placement.trialId as TrialId;
    await life.events.quotaExhausted(trialId, { provider: "simulated", untilMs: 0 });
    worker.meetsQuota = false;
    tally.quotas += 1;
  }

  async function refuse(life: Life, worker: Worker, grant: Grant): Promise<void> {
    const budget = grant.budget;
    const money = { budget, requiredNanos: CALL_NANOS, availableNanos: 0n };
    await life.events.exhausted(worker.placement.trialId as TrialId, money);
    worker.call = null;
    worker.callsLeft = 0;
    tally.refusedCalls += 1;
  }

  async function report(
    life: Life,
    worker: Worker,
    session: Session,
    outcome: AgentOutcome,
  ): Promise<void> {
    const events = [
      { cursor: 1, type: "worker.step", at: "2026-11-21T12:00:00Z", data: { step: "collected" } },
    ] as const;
    worker.cursor = await life.sessions.appendEvents(session, [...events]);
    const patch = Readable.from([Buffer.from("a patch\n")]);
    await life.sessions.appendArtefact(session, "changes.patch", 0, patch);
    await life.sessions.report(session, makeReport(worker, outcome));
    worker.status = "complete";
    tally.reports += 1;
  }

  /** It was given up for lost; whatever it still says must change nothing. */
  async function speakLate(life: Life, worker: Worker): Promise<void> {
    worker.ending = "vanish";
    if (worker.token === null) return;
    const session = await life.sessions.authenticate(worker.token);
    await life.sessions.report(session, makeReport(worker, "finished"));
  }
}

function makeReport(worker: Worker, outcome: AgentOutcome): Report {
  if (worker.purpose === "verify") {
    return {
      purpose: "verify",
      verdict: worker.verdict,
      detail: "simulated",
      reward: null,
      tests_passed: null,
      tests_failed: null,
      flags: [],
      duration_ms: 1,
    };
  }
  return {
    purpose: "agent",
    outcome,
    detail: "simulated",
    agent_version: null,
    completed_phases: [],
    plan_text: null,
    diff: { files_changed: 0, lines_added: 0, lines_removed: 0, touched_test_files: [] },
    survivors_killed: 0,
  };
}
