/**
 * An orchestrator's services over a real database, with a scheduler whose allocations do what a
 * test says: for what only a certain order of events shows.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentOutcome, Report } from "../../orchestrator/contract/worker.ts";
import type { AllocationId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type {
  AllocationStatus,
  Placement,
  Scheduler,
} from "../../orchestrator/scheduler/scheduler.ts";
import { type Life, openWorld } from "../simulation/world.ts";

export interface Placed {
  placement: Placement;
  status: AllocationStatus;
}

/** Runs what it is given at once; a test says how each goes on. */
export function createScriptedScheduler(slots: number) {
  const placed = new Map<AllocationId, Placed>();
  const scheduler: Scheduler = {
    name: "scripted",
    place: async (placement) => {
      placed.set(placement.allocationId, { placement, status: "running" });
    },
    status: async (id) => placed.get(id)?.status ?? null,
    stop: async (id) => {
      const found = placed.get(id);
      if (found !== undefined) found.status = "failed";
    },
    capacity: async () => {
      const waiting = [...placed.values()].filter(
        ({ status }) => status === "running" || status === "pending",
      );
      return Math.max(0, slots - waiting.length);
    },
    hosts: async () => [],
    drain: async () => {},
    logs: async () => null,
    onEnd: () => ({ [Symbol.dispose]: () => {} }),
    [Symbol.asyncDispose]: async () => {},
  };
  return { scheduler, newest, all: () => [...placed.values()] };

  function newest(trialId: TrialId): Placed {
    const found = [...placed.values()].findLast(({ placement }) => placement.trialId === trialId);
    if (found === undefined) throw new Error("the trial was not placed");
    return found;
  }
}

/** One life with a project `p` and its task `task`. */
export async function openTrialLife({
  slots = 4,
  staleMs,
  limits = "{}",
}: {
  slots?: number;
  staleMs?: number;
  limits?: string;
}) {
  const world = await openWorld(1);
  const script = createScriptedScheduler(slots);
  const life: Life = world.open({
    operations: Number.MAX_SAFE_INTEGER,
    isAppliedAtDeath: false,
    scheduler: script.scheduler,
    concurrency: 4,
    ...(staleMs === undefined ? {} : { staleMs }),
  });
  await applyProject(life, limits);
  return { ...life, world, script, create, enrol, reportAgent, [Symbol.asyncDispose]: close };

  async function create(): Promise<TrialId> {
    const cell = { project: "p", agent: "aider", pair: "any", task: "task" };
    return (await life.trials.create(cell)).id as TrialId;
  }

  /** Enrols the trial's newest allocation; its token. */
  async function enrol(trialId: TrialId): Promise<string> {
    const { placement } = script.newest(trialId);
    return (await life.sessions.enrol(placement.enrolmentToken)).allocation_token;
  }

  async function reportAgent(token: string, outcome: AgentOutcome): Promise<void> {
    await life.sessions.report(await life.sessions.authenticate(token), agentReport(outcome));
  }

  async function close(): Promise<void> {
    await world[Symbol.asyncDispose]();
  }
}

export function agentReport(outcome: AgentOutcome): Report {
  return {
    purpose: "agent",
    outcome,
    detail: "scripted",
    agent_version: null,
    completed_phases: [],
    plan_text: null,
    diff: { files_changed: 0, lines_added: 0, lines_removed: 0, touched_test_files: [] },
    survivors_killed: 0,
  };
}

async function applyProject(life: Life, limits: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-task-"));
  try {
    await mkdir(join(folder, "task/tests"), { recursive: true });
    await mkdir(join(folder, "task/environment"), { recursive: true });
    await writeFile(join(folder, "task/task.toml"), "[agent]\ntimeout_sec = 60\n");
    await writeFile(join(folder, "task/instruction.md"), "Do it.\n");
    await writeFile(join(folder, "task/tests/test.sh"), "exit 0\n");
    await writeFile(join(folder, "task/environment/a.txt"), "a\n");
    await life.projects.apply({
      file_name: "autocode.yaml",
      folder,
      file_text: [
        "project: p",
        "currency: CAD",
        "budget: { total: 1, per_trial: 0.001 }",
        "tasks: [task]",
        `limits: ${limits}`,
      ].join("\n"),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}
