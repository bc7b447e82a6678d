/** Experiments: a matrix of agents, pairs and tasks, followed to its table. */
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Project, Task } from "../../contract/projects.ts";
import type { Experiment, ExperimentList, NewExperiment } from "../../contract/trials.ts";
import { formatNanos } from "../../money.ts";
import type { Client } from "../client.ts";
import { type Command, type Invocation, JSON_OPTION } from "../command.ts";
import {
  amountOption,
  chooseAgent,
  choosePair,
  chooseProject,
  readProjectFile,
} from "../defaults.ts";
import { EXIT, type Exit, usage } from "../failure.ts";
import { followExperiment } from "../follow.ts";
import type { Printer } from "../print.ts";
import { LIST_COLUMNS, RESULT_COLUMNS, totalColumns, totals } from "../tables.ts";

const EXPERIMENT = { name: "experiment", isRequired: true };

export const experimentRun: Command = {
  name: "experiment run",
  summary: "Run agents with model pairs on tasks, and compare what a success costs",
  options: {
    path: { type: "string", short: "p", value: "<file>", help: "Apply this project file first" },
    project: { type: "string", value: "<name>", help: "The project that pays" },
    name: { type: "string", value: "<name>", help: "What to call it" },
    agent: {
      type: "string",
      short: "a",
      multiple: true,
      value: "<name>",
      help: "An agent; repeat",
    },
    model: { type: "string", short: "m", multiple: true, value: "<pair>", help: "A pair; repeat" },
    task: { type: "string", multiple: true, value: "<name>", help: "A task; repeat (all of them)" },
    dataset: { type: "string", value: "<folder>", help: "Import every task folder in it" },
    attempts: { type: "string", short: "k", value: "<count>", help: "Attempts of each cell (1)" },
    concurrency: { type: "string", short: "n", value: "<count>", help: "Trials at once" },
    random: { type: "boolean", help: "Draw a cell for each attempt, instead of all of them" },
    seed: { type: "string", value: "<number>", help: "The seed that the draws come from" },
    budget: { type: "string", value: "<amount>", help: "The most each trial may cost" },
    detach: { type: "boolean", short: "d", help: "Do not wait for its end" },
    "dry-run": { type: "boolean", help: "Show what would be asked for, and ask for nothing" },
    json: JSON_OPTION,
  },
  notes: ["Without -a and -m: all that the project file names. Ctrl-C stops its trials."],

  async run(invocation) {
    const { options, print, connect } = invocation;
    const client = await connect();
    const spec = await specOf(invocation, client);
    if (options.flag("dry-run")) {
      print.json(spec);
      return EXIT.done;
    }
    const made = await client.post<Experiment>("experiments", spec);
    if (options.flag("detach")) {
      if (options.flag("json")) print.json(made);
      else print.line(made.id);
      return EXIT.done;
    }
    print.note(`${made.id}: ${made.trial_count} trials, seed ${made.seed}`);
    const ended = await followExperiment(client, print, made);
    if (options.flag("json")) print.json(ended);
    else printReport(print, ended);
    return exitOf(ended);
  },
};

export const experimentLs: Command = {
  name: "experiment ls",
  summary: "List experiments, newest first",
  options: {
    project: { type: "string", value: "<name>", help: "Of this project" },
    json: JSON_OPTION,
  },
  async run({ options, print, connect }) {
    const client = await connect();
    const project = options.text("project");
    const query = project === undefined ? "" : `?${new URLSearchParams({ project })}`;
    const { experiments } = await client.get<ExperimentList>(`experiments${query}`);
    if (options.flag("json")) {
      print.json(experiments);
      return EXIT.done;
    }
    print.table<Experiment>(
      [
        { title: "experiment", value: ({ id }) => id },
        { title: "name", value: ({ name }) => name, shrinks: true },
        {
          title: "ended",
          value: ({ ended_count: ended, trial_count: all }) => `${ended}/${all}`,
          align: "right",
        },
        {
          title: "cost",
          value: ({ spent_nanos: nanos, currency }) => formatNanos(BigInt(nanos), currency),
          align: "right",
        },
      ],
      experiments,
    );
    return EXIT.done;
  },
};

export const experimentShow: Command = {
  name: "experiment show",
  summary: "Show an experiment's trials",
  positionals: [EXPERIMENT],
  options: { json: JSON_OPTION },
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const found = await client.get<Experiment>(`experiments/${encodeURIComponent(id)}`);
    if (options.flag("json")) print.json(found);
    else print.table(LIST_COLUMNS, found.trials);
    return EXIT.done;
  },
};

export const experimentReport: Command = {
  name: "experiment report",
  summary: "Show an experiment's results, and their totals for each agent with each pair",
  positionals: [EXPERIMENT],
  options: { json: JSON_OPTION },
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const found = await client.get<Experiment>(`experiments/${encodeURIComponent(id)}`);
    if (options.flag("json")) {
      const cells = totals(found).map((cell) => ({ ...cell, spentNanos: String(cell.spentNanos) }));
      print.json({ id: found.id, currency: found.currency, cells });
    } else printReport(print, found);
    return EXIT.done;
  },
};

/** The table of an experiment's trials, and that of its totals where they say more. */
export function printReport(print: Printer, experiment: Experiment): void {
  print.table(RESULT_COLUMNS, experiment.trials);
  const cells = totals(experiment);
  if (cells.length === experiment.trials.length) return;
  print.line("");
  print.table(totalColumns(experiment.currency), cells);
}

async function specOf({ options, config }: Invocation, client: Client): Promise<NewExperiment> {
  const project = await projectOf({ options, config }, client);
  const tasks = await tasksOf(options.text("dataset"), options.list("task"), project, client);
  if (tasks.length === 0) throw usage(`--task is missing: project ${project.name} has no tasks`);
  const agents = options.list("agent");
  const pairs = options.list("model");
  const spec: NewExperiment = {
    project: project.name,
    name: options.text("name") ?? project.name,
    agents: orAll(agents, project.agents, await chooseAgent(client, project, agents[0])),
    pairs: orAll(pairs, project.pairs, await choosePair(client, project, pairs[0])),
    tasks,
    attempts: options.integer("attempts", { min: 1, max: 100 }) ?? 1,
    assignment: options.flag("random") ? "random" : "all",
  };
  const seed = options.integer("seed", { min: 0, max: 4_294_967_295 });
  const concurrency = options.integer("concurrency", { min: 1, max: 1000 });
  const budget = options.text("budget");
  if (seed !== undefined) spec.seed = seed;
  if (concurrency !== undefined) spec.concurrency = concurrency;
  if (budget !== undefined) spec.trial_limit_nanos = amountOption("--budget", budget);
  return spec;
}

async function projectOf(
  { options, config }: Pick<Invocation, "options" | "config">,
  client: Client,
): Promise<Project> {
  const path = options.text("path");
  if (path === undefined) return chooseProject(client, options.text("project"));
  return client.post<Project>("projects", await readProjectFile(config.cwd, path));
}

async function tasksOf(
  dataset: string | undefined,
  named: string[],
  project: Project,
  client: Client,
): Promise<string[]> {
  if (dataset === undefined) return named.length > 0 ? named : project.tasks;
  const folder = resolve(dataset);
  const imported: string[] = [];
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => {
    throw usage(`--dataset: ${folder} is no folder`);
  });
  for (const { name } of entries.toSorted((a, b) => a.name.localeCompare(b.name))) {
    if (!existsSync(join(folder, name, "task.toml"))) continue;
    const body = { folder: join(folder, name) };
    const task = await client.post<Task>(`projects/${project.name}/tasks`, body);
    imported.push(task.name);
  }
  if (imported.length === 0) throw usage(`--dataset: ${folder} holds no task folder`);
  return [...named, ...imported];
}

function orAll(given: string[], all: readonly string[], first: string): string[] {
  if (given.length > 0) return given;
  return all.length > 0 ? [...all] : [first];
}

function exitOf({ trials }: Experiment): Exit {
  if (trials.some(({ state }) => state === "paused")) return EXIT.budgetExhausted;
  return trials.every(({ verdict }) => verdict === "passed") ? EXIT.done : EXIT.failed;
}
