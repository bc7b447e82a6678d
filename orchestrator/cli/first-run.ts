/** The first start: the example project, its agent, and its experiment to the verdicts. */
import { join } from "node:path";
import type { Project } from "../contract/projects.ts";
import type { Experiment } from "../contract/trials.ts";
import { type Client, createClient } from "./client.ts";
import { installAgent } from "./commands/agents.ts";
import { printReport } from "./commands/experiments.ts";
import { readCliConfig } from "./config.ts";
import { PROJECT_FILE, readProjectFile } from "./defaults.ts";
import { Failure } from "./failure.ts";
import { followExperiment } from "./follow.ts";
import { createPrinter, type Printer } from "./print.ts";

const EXAMPLE_DIR = join(import.meta.dirname, "../../examples/example");

export interface FirstRun {
  url: string;
  token: string;
  /** Aborted when the server stops: whatever is under way is left to its end. */
  signal: AbortSignal;
}

/**
 * Makes the example project and runs its tasks once with its first agent, the one that installs
 * fastest. A fault is told and leaves the server up: nobody's work hangs on the example.
 */
export async function runFirstExample({ url, token, signal }: FirstRun): Promise<void> {
  const print = createPrinter(readCliConfig());
  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => stop(), { once: true });
  try {
    // The end of the server does not wait for an installation that is under way.
    await Promise.race([
      stopped,
      runExample(
        createClient({ url, token }, async () => ({ url, token })),
        print,
        signal,
      ),
    ]);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Failure)) throw error;
    print.note(`The example did not run: ${error.message}`);
  } finally {
    print.clearProgress();
  }
}

async function runExample(client: Client, print: Printer, signal: AbortSignal): Promise<void> {
  const file = await readProjectFile(EXAMPLE_DIR, PROJECT_FILE);
  const project = await client.post<Project>("projects", file);
  const [agent = ""] = project.agents;
  const [pair = ""] = project.pairs;
  print.note(`First start: the example project runs ${agent} on ${project.tasks.length} tasks.`);
  print.note(
    "A scripted model stands in for GPU weights here, at prices that are made up. One task's",
  );
  print.note("script is wrong on purpose: its own tests pass, the hidden ones tell.");
  await installAgent(client, print, agent);
  const made = await client.post<Experiment>("experiments", {
    project: project.name,
    name: "first-run",
    agents: [agent],
    pairs: [pair],
    tasks: project.tasks,
    attempts: 1,
    assignment: "all",
    seed: 1,
  });
  printReport(print, await followExperiment(client, print, made, signal));
}
