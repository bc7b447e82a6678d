/** Projects: their file, and what it made. */
import { writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Project, ProjectList } from "../../contract/projects.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { PROJECT_FILE, readProjectFile, shownAmount } from "../defaults.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import { balanceLines } from "../tables.ts";

export const projectInit: Command = {
  name: "project init",
  summary: `Write a commented ${PROJECT_FILE}`,
  positionals: [{ name: "folder", isRequired: false }],
  async run({ positionals: [folder = "."], print, config }) {
    const target = join(resolve(config.cwd, folder), PROJECT_FILE);
    const name = basename(dirname(target))
      .toLowerCase()
      .replaceAll(/[^a-z0-9._-]+/g, "-");
    const project = /^[a-z0-9]/.test(name) ? name.slice(0, 63) : "my-project";
    try {
      await writeFile(target, projectFile(project), { flag: "wx" });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === "EEXIST") throw usage(`${target} exists already: it is not overwritten`);
      throw new Failure(EXIT.failed, `${target} cannot be written (${code})`, cause);
    }
    print.line(`${target} written. Next: autocode project apply -p ${target}`);
    return EXIT.done;
  },
};

export const projectApply: Command = {
  name: "project apply",
  summary: "Make or update the project that a project file describes, all or nothing",
  options: {
    path: { type: "string", short: "p", value: "<file>", help: `The file (${PROJECT_FILE})` },
    json: JSON_OPTION,
  },
  async run({ options, print, config, connect }) {
    const file = await readProjectFile(config.cwd, options.text("path") ?? PROJECT_FILE);
    const client = await connect();
    const project = await client.post<Project>("projects", file);
    if (options.flag("json")) print.json(project);
    else for (const text of projectLines(project)) print.line(text);
    return EXIT.done;
  },
};

export const projectLs: Command = {
  name: "project ls",
  summary: "List projects and what each has left",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const client = await connect();
    const { projects } = await client.get<ProjectList>("projects");
    if (options.flag("json")) {
      print.json(projects);
      return EXIT.done;
    }
    print.table<Project>(
      [
        { title: "project", value: ({ name }) => name, shrinks: true },
        { title: "tasks", value: ({ tasks }) => String(tasks.length), align: "right" },
        {
          title: "spent",
          value: ({ balance, currency }) => shownAmount(balance.spent_nanos, currency),
          align: "right",
        },
        {
          title: "available",
          value: ({ balance, currency }) => shownAmount(balance.available_nanos, currency),
          align: "right",
        },
      ],
      projects,
    );
    return EXIT.done;
  },
};

export const projectShow: Command = {
  name: "project show",
  summary: "Show a project",
  positionals: [{ name: "project", isRequired: true }],
  options: { json: JSON_OPTION },
  async run({ positionals: [name = ""], options, print, connect }) {
    const client = await connect();
    const project = await client.get<Project>(`projects/${encodeURIComponent(name)}`);
    if (options.flag("json")) print.json(project);
    else for (const text of projectLines(project)) print.line(text);
    return EXIT.done;
  },
};

function projectLines(project: Project): string[] {
  const { currency, today } = project;
  const counts = Object.entries(project.trial_counts).map(([state, count]) => `${count} ${state}`);
  const lines = [
    `project    ${project.name}`,
    `agents     ${project.agents.join(", ") || "all"}`,
    `pairs      ${project.pairs.join(", ") || "all"}`,
    `tasks      ${project.tasks.join(", ") || "none"}`,
    `trials     ${counts.join(", ") || "none"}`,
    `per trial  ${shownAmount(project.per_trial_nanos, currency)}`,
    ...balanceLines(project.balance),
  ];
  if (today !== null) {
    const left = shownAmount(today.available_nanos, currency);
    lines.push(`today      ${left} of ${shownAmount(today.funded_nanos, currency)} left`);
  }
  return lines;
}

function projectFile(name: string): string {
  return `# An autocode project. A key that is not known is an error.
project: ${name}
currency: CAD
# The day of daily_allowance is that of this time zone.
time_zone: America/Toronto

# Amounts are in units of the currency, at most nine decimals.
budget:
  # What the project may spend in all. Raise it, and the difference is funded.
  total: "20.00"
  # What it may spend in a day; leave it out for no daily limit.
  daily_allowance: "5.00"
  # What one trial may spend, unless it is told otherwise.
  per_trial: "0.50"
  # At most so much of a day's unspent allowance carries into the next.
  # carry_over: "5.00"
  # Money that comes again: every week, two_weeks or month, at midnight in time_zone.
  # top_ups: [{ amount: "20.00", every: month, starting: 2026-12-01 }]
  # Tokens beside money: input, cached input and output together.
  # tokens: { total: 50000000, per_trial: 2000000, daily: 10000000 }
  # Percents of each budget at which people are told.
  # alerts: [50, 80, 90, 95, 100]

# Which agents and model pairs trials may use, the default first: \`autocode agent ls\`,
# \`autocode model ls\`. The scripted pair plays a script; it stands in for a real model.
agents: [qwen-code]
pairs: [scripted]

# A pair of your own: any server that speaks the OpenAI or the Anthropic protocol.
# models:
#   mine:
#     normal:
#       model: qwen3-coder-30b
#       base_url: http://127.0.0.1:8000/v1
#       price: { input: "0.10", output: "0.40" }   # for a million tokens
#     thinking:
#       model: gpt-5.1
#       base_url: https://api.openai.com/v1
#       api_key_env: OPENAI_API_KEY                # a variable of the orchestrator
#       price: { input: "1.75", output: "14.00" }

# Task folders (Harbor's format), from this file's folder: \`autocode task init\`.
# tasks:
#   - tasks/my-task

# deny: agents reach nothing but the model. open: they reach the network. Or rules:
# egress: { presets: [npm], rules: [{ action: allow, hosts: [api.example.org] }] }
egress: deny

# limits:
#   wall_ms: 1800000     # the longest an agent works on a trial
#   idle_ms: 300000      # without output and without a call
#   concurrency: 2       # trials at once
#   retries: 1           # after a fault that was not the agent's
`;
}
