/**
 * One allocation from its enrolment to its report.
 *
 * Three things go on at once: the work, the events on their way, and a heartbeat that the
 * orchestrator holds open and answers when the work must stop. An orchestrator that is away is
 * waited for, the work going on; one that stays away ends it.
 */
import type { AgentSpec, Report, VerifySpec } from "../orchestrator/contract/worker.ts";
import type { Agent } from "./agents/agent.ts";
import { type AllowanceKeeper, createAllowanceKeeper } from "./allowance-keeper.ts";
import { type Client, createClient } from "./client.ts";
import { type Clock, pause } from "./clock.ts";
import type { Config, RunAs } from "./config.ts";
import { Fenced, messageOf, OrchestratorAway, RequestRefused } from "./faults.ts";
import type { Install, Job } from "./job.ts";
import { createWatch } from "./limits.ts";
import { createOutbox, type Outbox } from "./outbox.ts";
import { closedFolder, makeRooms } from "./rooms.ts";
import type { Stop } from "./stop.ts";
import { isUserActive } from "./survivors.ts";

const HEARTBEAT_WAIT_MS = 20_000;
/** Between two beats, so that an orchestrator that does not hold them open is not flooded. */
const HEARTBEAT_PAUSE_MS = 200;
const HEARTBEAT_PAUSE_STOPPED_MS = 2_000;

export interface WorkerDeps {
  readonly clock: Clock;
  readonly findAgent: (name: string) => Agent | null;
  readonly install: Install;
  readonly newSessionId: () => string;
  readonly log: (message: string, fields: Record<string, unknown>) => void;
  readonly graceMs: number;
}

/** How it ended; `abandoned`: nobody was told, and another allocation must take the trial over. */
export type WorkerEnd = "reported" | "fenced" | "abandoned";

/** Runs the one allocation that the enrolment token stands for. */
export async function runWorker(deps: WorkerDeps, config: Config, stop: Stop): Promise<WorkerEnd> {
  const { clock, log } = deps;
  const client = createClient(clock, config);
  const done = new AbortController();
  const outbox = createOutbox(clock, client.events);
  const allowanceKeeper = createAllowanceKeeper(clock, outbox);
  let beating: Promise<void> = Promise.resolve();
  try {
    const { spec } = await client.enrol(config.enrolmentToken, stop.signal);
    log("enrolled", { trial_id: spec.trial_id, allocation_id: spec.allocation_id });
    beating = beat(client, { stop, allowanceKeeper }, done.signal);
    const job = await prepare(deps, config, { client, outbox, stop, allowanceKeeper, spec });
    outbox.emit("worker.step", { step: "enrolled", detail: spec.purpose });
    const report = await work(job, deps);
    if (report === null || isAlone(stop))
      return stop.reason() === "fenced" ? "fenced" : "abandoned";
    await client.report(report);
    log("reported", { trial_id: spec.trial_id, purpose: spec.purpose });
    return "reported";
  } catch (error) {
    if (error instanceof Fenced || stop.reason() === "fenced") return "fenced";
    log("ended without a report", { error: messageOf(error) });
    if (error instanceof OrchestratorAway || error instanceof RequestRefused) return "abandoned";
    if (stop.signal.aborted) return "abandoned";
    throw error;
  } finally {
    done.abort();
    await beating;
  }
}

/** Whether there is nobody left to report to. */
function isAlone(stop: Stop): boolean {
  return stop.reason() === "fenced" || stop.reason() === "orphaned";
}

async function work(
  job: Job<AgentSpec | VerifySpec>,
  { findAgent }: WorkerDeps,
): Promise<Report | null> {
  const { spec } = job;
  // A worker has one purpose: it loads what that takes, and starts sooner.
  if (spec.purpose === "verify") {
    const { verify } = await import("./verify.ts");
    return verify({ ...job, spec });
  }
  const { runAgent } = await import("./run-agent.ts");
  return runAgent({ ...job, spec }, findAgent(spec.agent));
}

async function prepare<Spec>(
  { clock, install, newSessionId, graceMs }: WorkerDeps,
  { allocationDir, agentsDir, hiddenDirs, runAs: wanted, path, limits }: Config,
  given: Pick<Job<Spec>, "client" | "outbox" | "stop" | "allowanceKeeper" | "spec">,
): Promise<Job<Spec>> {
  const { outbox } = given;
  const runAs = await usable(wanted, [allocationDir, agentsDir, path.split(":")[0] ?? "/"], outbox);
  // Seen before anything of ours runs: whoever runs as this user later belongs to us.
  const exclusiveUid = runAs === null || isUserActive(runAs.uid) ? null : runAs.uid;
  const rooms = await makeRooms(allocationDir, runAs);
  const watch = createWatch(limits, allocationDir);
  const seclusion = { hidden: hiddenDirs, kept: [agentsDir] };
  const host = { runAs, exclusiveUid, watch, path, seclusion };
  const own = { clock, rooms, install, newSessionId, graceMs, ...host };
  return { ...given, ...own, tolerant };

  async function tolerant(doIt: () => Promise<void>): Promise<void> {
    try {
      await doIt();
    } catch (error) {
      if (!(error instanceof RequestRefused)) throw error;
      outbox.emit("trial.note", { level: "warn", message: error.message });
    }
  }
}

/** The user that was asked for, unless it cannot reach what it must run. */
async function usable(
  wanted: RunAs | null,
  paths: readonly string[],
  outbox: Outbox,
): Promise<RunAs | null> {
  if (wanted === null) return null;
  const closed = await closedFolder(wanted, paths);
  if (closed === null) return wanted;
  const message =
    `The agent runs as the orchestrator's own user: user ${wanted.uid} cannot pass through ` +
    `${closed} (give others the x permission on it, or move the data folder)`;
  outbox.emit("trial.note", { level: "warn", message });
  return null;
}

/** Asks for directives until `done`; never throws. */
async function beat(
  client: Client,
  { stop, allowanceKeeper }: { stop: Stop; allowanceKeeper: AllowanceKeeper },
  done: AbortSignal,
): Promise<void> {
  while (!done.aborted) {
    try {
      const directive = await client.heartbeat(HEARTBEAT_WAIT_MS, done);
      if (directive.action === "stop") stop.request(directive.reason);
      else if (directive.allowance !== undefined) await allowanceKeeper.tell(directive.allowance);
    } catch (error) {
      if (done.aborted) return;
      // A refusal other than fencing (a revoked token, say) also leaves nobody to work for.
      stop.request(error instanceof Fenced ? "fenced" : "orphaned");
      return;
    }
    await pause(stop.signal.aborted ? HEARTBEAT_PAUSE_STOPPED_MS : HEARTBEAT_PAUSE_MS, done);
  }
}
