/** Changes a project's budget where it is written down: in its file, which is then applied. */
import { readFile, writeFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type { Document } from "yaml";
import type { Project } from "../../contract/projects.ts";
import { parseUnits } from "../../money.ts";
import { type Command, JSON_OPTION, type Option, type Values } from "../command.ts";
import { PROJECT_FILE } from "../defaults.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import { balanceLines } from "../tables.ts";

/** A key of the file's `budget`, and what its option takes. */
interface Field {
  path: readonly string[];
  kind: "amount" | "tokens" | "percents";
  /** Whether "none" takes it out of the file. */
  isOptional: boolean;
  help: string;
}

const FIELDS: Readonly<Record<string, Field>> = {
  total: field(["total"], "amount", "What the project may ever spend; never lowered"),
  daily: field(["daily_allowance"], "amount", "What it may spend in a day", true),
  "per-trial": field(["per_trial"], "amount", "What one trial may spend"),
  "carry-over": field(["carry_over"], "amount", "Most of a day's rest that carries on", true),
  tokens: field(["tokens", "total"], "tokens", "Most tokens of the project", true),
  "tokens-per-trial": field(["tokens", "per_trial"], "tokens", "Most tokens of one trial"),
  "tokens-daily": field(["tokens", "daily"], "tokens", "Most tokens of a day", true),
  alerts: field(["alerts"], "percents", "Percents to tell at, such as 50,80,100", true),
};

export const budgetSet: Command = {
  name: "budget set",
  summary: `Change a project's limits in its ${PROJECT_FILE}, and apply it`,
  positionals: [{ name: "project", isRequired: true }],
  options: {
    ...Object.fromEntries(
      Object.entries(FIELDS).map(([name, { kind, isOptional, help }]): [string, Option] => [
        name,
        {
          type: "string",
          value: { amount: "<amount>", tokens: "<count>", percents: "<list>" }[kind],
          help: isOptional ? `${help}, or none` : help,
        },
      ]),
    ),
    path: { type: "string", short: "p", value: "<file>", help: `The file (${PROJECT_FILE})` },
    json: JSON_OPTION,
  },
  notes: ["Comments in the file stay. When the change is refused, the file stays as it was."],
  async run({ positionals: [name = ""], options, print, config, connect }) {
    const file = resolve(config.cwd, options.text("path") ?? PROJECT_FILE);
    const before = await readFile(file, "utf8").catch((cause: unknown) => {
      throw new Failure(EXIT.usage, `${file}: there is no such file; name it with --path`, cause);
    });
    const after = await editBudget(before, { file, project: name, options });
    const client = await connect();
    const applied = { file_text: after, file_name: basename(file), folder: dirname(file) };
    const project = await client.post<Project>("projects", applied);
    await writeFile(file, after).catch((cause: NodeJS.ErrnoException) => {
      const what = `${file} cannot be written (${cause.code}), though the change is in force`;
      throw new Failure(EXIT.failed, `${what}: change it by hand`, cause);
    });
    if (options.flag("json")) print.json(project);
    else for (const line of balanceLines(project.balance)) print.line(line);
    return EXIT.done;
  },
};

/** The file's text with the options' changes, and all else as it was. @throws Failure: usage. */
export async function editBudget(
  text: string,
  { file, project, options }: { file: string; project: string; options: Values },
): Promise<string> {
  const { parseDocument } = await import("yaml");
  const document = parseDocument(text);
  if (document.errors.length > 0) throw usage(`${file}: it is not YAML; mend it first`);
  const written = document.get("project");
  if (written !== project)
    throw usage(`${file}: it is of project ${String(written)}; name another`);
  let changes = 0;
  for (const [name, wanted] of Object.entries(FIELDS)) {
    const value = options.text(name);
    if (value === undefined) continue;
    changes++;
    setField(document, name, wanted, value);
  }
  if (changes === 0) {
    const all = Object.keys(FIELDS).map((name) => `--${name}`);
    throw usage(`nothing to set: give at least one of ${all.join(", ")}`);
  }
  return keepLines(text, document.toString({ lineWidth: 0 }));
}

/** `after`, but with the lines of `before` that differ from it in the padding of brackets alone. */
function keepLines(before: string, after: string): string {
  const bare = (line: string) => line.replaceAll(/([[{])\s+|\s+([\]}])/g, "$1$2");
  const written = new Map(before.split("\n").map((line) => [bare(line), line]));
  const lines = after.split("\n").map((line) => written.get(bare(line)) ?? line);
  return lines.join("\n");
}

function setField(
  document: Document,
  name: string,
  { path, kind, isOptional }: Field,
  text: string,
) {
  const whole = ["budget", ...path];
  if (text === "none") {
    if (!isOptional) throw usage(`--${name}: it cannot be left out of a budget`);
    // A token budget without its total is none.
    document.deleteIn(name === "tokens" ? whole.slice(0, -1) : whole);
    return;
  }
  const value = readValue(kind, text);
  if (value === null) throw usage(`--${name}: "${text}" is not ${EXPECTED[kind]}`);
  document.setIn(whole, value);
}

const EXPECTED = {
  amount: "an amount, such as 12.50",
  tokens: "a whole number of tokens, such as 2000000",
  percents: "a list of percents from 1 to 100, such as 50,80,100",
};

function readValue(kind: Field["kind"], text: string): string | number | number[] | null {
  switch (kind) {
    case "amount":
      return parseUnits(text) === null ? null : text;
    case "tokens":
      return /^[1-9]\d{0,14}$/.test(text) ? Number(text) : null;
    case "percents":
      return /^\d{1,3}(,\d{1,3})*$/.test(text) ? text.split(",").map(Number) : null;
  }
}

function field(
  path: readonly string[],
  kind: Field["kind"],
  help: string,
  isOptional = false,
): Field {
  return { path, kind, isOptional, help };
}
