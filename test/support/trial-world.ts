/** A project with a task, an engine over a real database, and a scheduler that does as told. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentOutcome, AgentReport } from "../../orchestrator/contract/worker.ts";
import type { TrialId } from "../../orchestrator/runtime/ids.ts";
import { openWakes, type Wakes } from "../../orchestrator/trials/wakes.ts";
import { type Life, openWorld, type Signer, type World } from "../simulation/world.ts";
import { createTestScheduler, type TestScheduler } from "./trial-scheduler.ts";

export interface TrialWorld extends AsyncDisposable {
  world: World;
  life: Life;
  wakes: Wakes;
  scheduler: TestScheduler;
  /** Another orchestrator on the same database. */
  another(options?: { leaseMs?: number; concurrency?: number; secrets?: Signer }): Life;
  create(options?: { limit_nanos?: string; priority?: number }): Promise<TrialId>;
  state(id: TrialId): Promise<string>;
}

export async function openTrialWorld(limits = "{ concurrency: 50 }"): Promise<TrialWorld> {
  const world = await openWorld(1);
  const wakes = await openWakes(world.database);
  const scheduler = createTestScheduler(50);
  const another: TrialWorld["another"] = (options = {}) =>
    world.open({
      operations: Number.MAX_SAFE_INTEGER,
      isAppliedAtDeath: false,
      scheduler,
      wakes,
      leaseMs: 60_000,
      ...options,
    });
  const life = another({ concurrency: 4 });
  const folder = await writeTaskFolder();
  await life.projects.apply({
    file_name: "autocode.yaml",
    folder,
    file_text: `project: demo\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.001 }
agents: [aider]\npairs: [any]\ntasks: [task]\nlimits: ${limits}\n`,
  });
  await rm(folder, { recursive: true });
  return {
    world,
    life,
    wakes,
    scheduler,
    another,
    create: async (options = {}) => {
      const cell = { project: "demo", agent: "aider", pair: "any", task: "task" };
      return (await life.trials.create({ ...cell, ...options })).id as TrialId;
    },
    state: async (id) => (await life.trials.get(id)).state,
    [Symbol.asyncDispose]: async () => {
      await wakes[Symbol.asyncDispose]();
      await world[Symbol.asyncDispose]();
    },
  };
}

/** A parent folder with the task folder `task` in it. */
export async function writeTaskFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "autocode-task-"));
  await mkdir(join(folder, "task/tests"), { recursive: true });
  await mkdir(join(folder, "task/environment"), { recursive: true });
  await writeFile(join(folder, "task/task.toml"), "[agent]\ntimeout_sec = 60\n");
  await writeFile(join(folder, "task/instruction.md"), "Do it.\n");
  await writeFile(join(folder, "task/tests/test.sh"), "exit 0\n");
  await writeFile(join(folder, "task/environment/a.txt"), "a\n");
  return folder;
}

export function agentReport(outcome: AgentOutcome): AgentReport {
  return {
    purpose: "agent",
    outcome,
    detail: outcome,
    agent_version: null,
    completed_phases: [],
    plan_text: null,
    diff: { files_changed: 0, lines_added: 0, lines_removed: 0, touched_test_files: [] },
    survivors_killed: 0,
  };
}
