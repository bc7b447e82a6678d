/** What a command takes when it is not told: the project, its first agent, its first pair. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type { AgentList } from "../contract/agents.ts";
import type { NewProject, Project, ProjectList } from "../contract/projects.ts";
import type { PairList } from "../contract/system.ts";
import { formatNanos, parseUnits, TOKEN_UNIT } from "../money.ts";
import type { Client } from "./client.ts";
import { usage } from "./failure.ts";

export const PROJECT_FILE = "autocode.yaml";

/** The named project, else the only one there is. */
export async function chooseProject(client: Client, name: string | undefined): Promise<Project> {
  if (name !== undefined) return client.get<Project>(`projects/${encodeURIComponent(name)}`);
  const { projects } = await client.get<ProjectList>("projects");
  const [only] = projects;
  if (only === undefined) {
    throw usage("there is no project yet: `autocode project init`, then `autocode project apply`");
  }
  if (projects.length === 1) return only;
  throw usage(`--project is missing: one of ${projects.map((each) => each.name).join(", ")}`);
}

export async function chooseAgent(
  client: Client,
  { agents }: Project,
  name: string | undefined,
): Promise<string> {
  if (name !== undefined) return name;
  const [first] = agents;
  if (first !== undefined) return first;
  const catalogue = (await client.get<AgentList>("agents")).agents;
  const installed = catalogue.find(({ installed_version: version }) => version !== null);
  if (installed !== undefined) return installed.facts.name;
  throw usage(`--agent is missing: one of ${catalogue.map(({ facts }) => facts.name).join(", ")}`);
}

export async function choosePair(
  client: Client,
  { name: project, pairs }: Project,
  name: string | undefined,
): Promise<string> {
  const chosen = name ?? pairs[0];
  if (chosen !== undefined) return chosen;
  const known = (await client.get<PairList>(`pairs?project=${project}`)).pairs;
  const available = known.find((pair) => pair.is_available);
  if (available !== undefined) return available.name;
  throw usage(`--model is missing: one of ${known.map((pair) => pair.name).join(", ")}`);
}

/** An amount as people write it, in nano-units, as the wire has it. */
export function amountOption(option: string, text: string): string {
  const nanos = parseUnits(text);
  if (nanos !== null && nanos > 0n) return String(nanos);
  throw usage(`${option}: "${text}" is not an amount above 0, such as 12.50`);
}

/** A day or a time as people write it, as the wire has it: a day begins at midnight UTC. */
export function timeOption(option: string, text: string): string {
  const isDay = /^\d{4}-\d{2}-\d{2}$/.test(text);
  const atMs = isDay || /^\d{4}-\d{2}-\d{2}T\S+$/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(atMs)) return new Date(atMs).toISOString();
  throw usage(`--${option}: "${text}" is no day such as 2026-11-21, nor a time`);
}

/**
 * "12.50", "12.50 CAD" or "5000 TOK" as the wire has it.
 *
 * @param currency the budget's; null: not known yet, only the form is checked.
 * @throws Failure: usage.
 */
export function unitAmount(
  option: string,
  text: string,
  currency: string | null,
): { amount_nanos: string; currency: string } {
  const [amount = "", unit, ...rest] = text.split(" ");
  if (rest.length > 0) throw usage(`${option}: "${text}" is not an amount, such as 12.50`);
  if (unit === TOKEN_UNIT) {
    if (/^[1-9]\d{0,17}$/.test(amount)) return { amount_nanos: amount, currency: TOKEN_UNIT };
    throw usage(`${option}: "${amount}" is not a whole number of tokens`);
  }
  const amountNanos = amountOption(option, amount);
  if (currency !== null && unit !== undefined && unit !== currency) {
    throw usage(`${option}: this budget is in ${currency}, not in ${unit}`);
  }
  return { amount_nanos: amountNanos, currency: currency ?? unit ?? "" };
}

export function shownAmount(nanosText: string, currency: string): string {
  return formatNanos(BigInt(nanosText), currency);
}

/** A project file as the API takes it: its text, and the folder its task paths start from. */
export async function readProjectFile(cwd: string, path: string): Promise<NewProject> {
  const file = resolve(cwd, path);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    throw usage(`${file}: there is no such file; \`autocode project init\` writes one`);
  }
  return { file_text: text, file_name: basename(file), folder: dirname(file) };
}

/** A task as a person names it: a folder that exists is meant by its whole path. */
export function taskName(cwd: string, task: string): string {
  const folder = resolve(cwd, task);
  return existsSync(folder) && /[/\\]|^\.$/.test(task) ? folder : task;
}
