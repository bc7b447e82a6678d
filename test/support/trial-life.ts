/**
 * An orchestrator's services over a real database, with a scheduler whose allocations do what a
 * test says: for what only a certain order of events shows.
 */
import { rm } from "node:fs/promises";
import type { AgentOutcome } from "../../orchestrator/contract/worker.ts";
import type { TrialId } from "../../orchestrator/runtime/ids.ts";
import { type Life, openWorld } from "../simulation/world.ts";
import { createTestScheduler } from "./trial-scheduler.ts";
import { agentReport, writeTaskFolder } from "./trial-world.ts";

/** One life with a project `p` and its task `task`. */
export async function openTrialLife({
  slots = 4,
  staleMs,
  limits = "{}",
  waitFor,
}: {
  slots?: number;
  staleMs?: number;
  limits?: string;
  waitFor?: (pair: string) => string | null;
}) {
  const world = await openWorld(1);
  const scheduler = createTestScheduler(slots);
  const life: Life = world.open({
    operations: Number.MAX_SAFE_INTEGER,
    isAppliedAtDeath: false,
    scheduler,
    concurrency: 4,
    ...(staleMs === undefined ? {} : { staleMs }),
    ...(waitFor === undefined ? {} : { waitFor }),
  });
  await applyProject(life, limits);
  return { ...life, world, scheduler, create, enrol, reportAgent, [Symbol.asyncDispose]: close };

  async function create(): Promise<TrialId> {
    const cell = { project: "p", agent: "aider", pair: "any", task: "task" };
    return (await life.trials.create(cell)).id as TrialId;
  }

  /** Enrols the trial's newest allocation; its token. */
  async function enrol(trialId: TrialId): Promise<string> {
    const { placement } = scheduler.newest(trialId);
    return (await life.sessions.enrol(placement.enrolmentToken)).allocation_token;
  }

  async function reportAgent(token: string, outcome: AgentOutcome): Promise<void> {
    await life.sessions.report(await life.sessions.authenticate(token), agentReport(outcome));
  }

  async function close(): Promise<void> {
    await world[Symbol.asyncDispose]();
  }
}

async function applyProject(life: Life, limits: string): Promise<void> {
  const folder = await writeTaskFolder();
  try {
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
