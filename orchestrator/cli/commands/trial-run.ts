/** `autocode trial run`: make a trial, follow it to its verdict. */
import { readFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import type { NewTrial, Trial } from "../../contract/trials.ts";
import type { Client } from "../client.ts";
import { type Command, type Invocation, JSON_OPTION } from "../command.ts";
import { amountOption, chooseAgent, choosePair, chooseProject, taskName } from "../defaults.ts";
import { EXIT, type Exit, usage } from "../failure.ts";
import { adviceFor, exitOfTrial, followTrial } from "../follow.ts";
import { RESULT_COLUMNS } from "../tables.ts";

const SEED_MAX = 4_294_967_295;

export const trialRun: Command = {
  name: "trial run",
  summary: "Run one agent on one task under a budget, and show the verdict and its cost",
  options: {
    path: { type: "string", short: "p", value: "<repo>", help: "A git repository to work on" },
    instruction: { type: "string", value: "<text>", help: "What the agent is to do there" },
    test: { type: "string", value: "<command>", help: "What decides: passed when it exits with 0" },
    task: { type: "string", value: "<name|folder>", help: "A task instead of a repository" },
    agent: { type: "string", short: "a", value: "<name>", help: "The agent" },
    model: { type: "string", short: "m", value: "<pair>", help: "The model pair" },
    project: { type: "string", value: "<name>", help: "The project that pays" },
    budget: { type: "string", value: "<amount>", help: "The most it may cost: 0.50" },
    egress: { type: "string", value: "<file>", help: "Rules of what it alone may reach: YAML" },
    "wall-ms": { type: "string", value: "<ms>", help: "The longest the agent may work" },
    seed: { type: "string", value: "<number>", help: "The seed of what is random in it" },
    detach: { type: "boolean", short: "d", help: "Do not wait for its end" },
    "dry-run": { type: "boolean", help: "Show what would be asked for, and ask for nothing" },
    json: JSON_OPTION,
  },
  notes: [
    "Either --path with --instruction and --test, or --task. Ctrl-C stops the trial.",
    "Exit status: 0 when the verdict is passed, 1 when not, 3 when the budget ran out.",
  ],

  async run(invocation) {
    const { options, print, connect, config } = invocation;
    const task = taskOf(invocation);
    const limit = options.text("budget");
    const limitNanos = limit === undefined ? undefined : amountOption("--budget", limit);
    const wallMs = options.integer("wall-ms", { min: 1_000, max: 604_800_000 });
    const seed = options.integer("seed", { min: 0, max: SEED_MAX });

    const egress = options.text("egress");
    const layer = egress === undefined ? undefined : await egressFile(config.cwd, egress);

    const client = await connect();
    const project = await chooseProject(client, options.text("project"));
    const spec: NewTrial = {
      project: project.name,
      agent: await chooseAgent(client, project, options.text("agent")),
      pair: await choosePair(client, project, options.text("model")),
      task,
      ...(limitNanos !== undefined && { limit_nanos: limitNanos }),
      ...(wallMs !== undefined && { wall_ms: wallMs }),
      ...(seed !== undefined && { seed }),
      ...(layer !== undefined && { egress: layer }),
    };
    if (options.flag("dry-run")) {
      print.json(spec);
      return EXIT.done;
    }
    const made = await client.post<Trial>("trials", spec);
    const about = `${made.id}: ${made.agent} with ${made.pair} on ${made.task}`;
    return tellMade({ options, print }, client, made, about);
  },
};

/** A trial that was just made, to its end, or, with --detach, its id. */
export async function tellMade(
  { options, print }: Pick<Invocation, "options" | "print">,
  client: Client,
  made: Trial,
  about: string,
): Promise<Exit> {
  if (options.flag("detach")) {
    if (options.flag("json")) print.json(made);
    else print.line(made.id);
    return EXIT.done;
  }
  print.note(about);
  const ended = await followTrial(client, print, made);
  if (options.flag("json")) print.json(ended);
  else print.table(RESULT_COLUMNS, [ended]);
  const advice = adviceFor(ended);
  if (advice !== null) print.note(advice);
  return exitOfTrial(ended);
}

async function egressFile(cwd: string, path: string): Promise<NonNullable<NewTrial["egress"]>> {
  const file = resolve(cwd, path);
  try {
    return { file_text: await readFile(file, "utf8"), file_name: basename(file) };
  } catch {
    throw usage(`--egress: ${file}: there is no such file that can be read`);
  }
}

function taskOf({ options, config }: Invocation): NewTrial["task"] {
  const task = options.text("task");
  const inline = ["path", "instruction", "test"].filter((name) => options.text(name) !== undefined);
  if (task !== undefined) {
    if (inline.length > 0) throw usage(`--task and --${inline[0]} exclude each other`);
    return taskName(config.cwd, task);
  }
  if (inline.length === 0) throw usage("say --path, --instruction and --test, or --task");
  return {
    path: resolve(config.cwd, options.required("path")),
    instruction: options.required("instruction"),
    test_command: options.required("test"),
  };
}
