/** What a command is, how its arguments are read, and how its help reads. Pure. */
import { parseArgs } from "node:util";
import type { Client } from "./client.ts";
import type { CliConfig } from "./config.ts";
import { type Exit, usage } from "./failure.ts";
import type { Printer } from "./print.ts";

export interface Option {
  type: "string" | "boolean";
  short?: string;
  /** Whether it may be given several times, or once with commas. */
  multiple?: boolean;
  /** What its value is called in the help: "<amount>". */
  value?: string;
  help: string;
}

export interface Positional {
  name: string;
  isRequired: boolean;
}

export interface Invocation {
  positionals: readonly string[];
  options: Values;
  config: CliConfig;
  print: Printer;
  /** The server's client, looked up when it is first asked for. */
  connect(): Promise<Client>;
}

export interface Command {
  /** Noun and verb: "trial run". */
  name: string;
  summary: string;
  positionals?: readonly Positional[];
  options?: Readonly<Record<string, Option>>;
  /** Further lines of help. */
  notes?: readonly string[];
  run(invocation: Invocation): Promise<Exit>;
}

/** A command's options as they were given; asking for one that is not declared is a defect. */
export interface Values {
  flag(name: string): boolean;
  text(name: string): string | undefined;
  /** @throws Failure: usage. */
  required(name: string): string;
  list(name: string): string[];
  /** Each value as it was given: its commas are its own. */
  each(name: string): string[];
  /** @throws Failure: usage, unless it is a whole number from `min` to `max`. */
  integer(name: string, limits: { min: number; max: number }): number | undefined;
  /** In milliseconds. @throws Failure: usage, unless it is such as 30m or 7d, of `daysMax`. */
  time(name: string, limits: { daysMax: number }): number | undefined;
}

const DAY_MS = 86_400_000;
const UNITS_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: DAY_MS };

export const JSON_OPTION: Option = { type: "boolean", help: "Print JSON" };

/**
 * Reads a command's arguments.
 *
 * @throws Failure: usage, in one line.
 */
export function readArguments(
  command: Command,
  args: readonly string[],
): { positionals: string[]; options: Values } {
  const { options = {}, positionals: declared = [] } = command;
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({
      args: joinNegatives(args, options),
      allowPositionals: true,
      strict: true,
      options: Object.fromEntries(
        Object.entries(options).map(([name, { type, short, multiple = false }]) => [
          name,
          { type, multiple, ...(short !== undefined && { short }) },
        ]),
      ),
    });
  } catch (cause) {
    const [message = ""] = (cause as Error).message.split(/\. To specify|\n/);
    throw usage(`${message.replace(/\.$/, "")}. See \`autocode ${command.name} --help\``);
  }
  const { values, positionals } = parsed;
  const needed = declared.filter(({ isRequired }) => isRequired);
  if (positionals.length < needed.length) {
    const missing = needed[positionals.length]?.name ?? "";
    throw usage(`missing <${missing}>. Usage: ${usageLine(command)}`);
  }
  if (positionals.length > declared.length) {
    const extra = positionals[declared.length] ?? "";
    throw usage(`unexpected argument "${extra}". Usage: ${usageLine(command)}`);
  }
  return { positionals, options: createValues(options, values) };
}

/** `--budget -3` is meant as a value, to be refused as one: `parseArgs` takes it for an option. */
function joinNegatives(
  args: readonly string[],
  options: Readonly<Record<string, Option>>,
): string[] {
  const joined: string[] = [];
  for (const arg of args) {
    const last = joined.at(-1);
    const isOption = last?.startsWith("--") && options[last.slice(2)]?.type === "string";
    if (isOption && /^-\d/.test(arg)) joined[joined.length - 1] = `${last}=${arg}`;
    else joined.push(arg);
  }
  return joined;
}

function createValues(
  declared: Readonly<Record<string, Option>>,
  values: Readonly<Record<string, unknown>>,
): Values {
  return { flag, text, required, list, each, integer, time };

  function given(name: string): unknown {
    if (!(name in declared)) throw new Error(`option ${name} is not declared`);
    return values[name];
  }

  function flag(name: string): boolean {
    return given(name) === true;
  }

  function text(name: string): string | undefined {
    const value = given(name);
    return typeof value === "string" ? value : undefined;
  }

  function required(name: string): string {
    const value = text(name);
    if (value === undefined || value === "") throw usage(`--${name} is missing`);
    return value;
  }

  function list(name: string): string[] {
    return each(name)
      .flatMap((value) => value.split(","))
      .filter((value) => value !== "");
  }

  function each(name: string): string[] {
    return [given(name) ?? []].flat().map(String);
  }

  function integer(name: string, { min, max }: { min: number; max: number }): number | undefined {
    const value = text(name);
    if (value === undefined) return undefined;
    const number = /^-?\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= min && number <= max) return number;
    throw usage(`--${name}: "${value}" is not a whole number from ${min} to ${max}`);
  }

  function time(name: string, { daysMax }: { daysMax: number }): number | undefined {
    const value = text(name);
    if (value === undefined) return undefined;
    const [, count, unit = ""] = /^([1-9][0-9]{0,5})([smhd])$/.exec(value) ?? [];
    const ms = Number(count) * (UNITS_MS[unit] ?? 0);
    if (count !== undefined && ms <= daysMax * DAY_MS) return ms;
    throw usage(`--${name}: "${value}" is no time such as 30m, 1h or 7d, of at most ${daysMax}d`);
  }
}

export function usageLine({ name, positionals = [], options = {} }: Command): string {
  const named = positionals.map((each) => (each.isRequired ? `<${each.name}>` : `[${each.name}]`));
  const flags = Object.keys(options).length === 0 ? [] : ["[options]"];
  return ["autocode", name, ...named, ...flags].join(" ");
}

export function commandHelp(command: Command): string {
  const options = { ...command.options, help: { type: "boolean", help: "Show this" } as Option };
  const heads = Object.entries(options).map(([name, { short, value }]) => {
    const dashes = short === undefined ? `    --${name}` : `-${short}, --${name}`;
    return value === undefined ? dashes : `${dashes} ${value}`;
  });
  const width = Math.max(...heads.map((head) => head.length));
  const lines = Object.values(options).map(
    ({ help }, index) => `  ${(heads[index] ?? "").padEnd(width)}  ${help}`,
  );
  const notes = command.notes === undefined ? [] : ["", ...command.notes];
  return [command.summary, "", `Usage: ${usageLine(command)}`, "", ...lines, ...notes].join("\n");
}

export function overview(commands: readonly Command[], version: string): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return [
    `autocode ${version}: coding-agent trials under a budget that cannot be overspent`,
    "",
    "Usage: autocode <command> [options]",
    "",
    ...lines,
    "",
    "  --version, --help; every command has --help",
    "",
    "Exit status: 0 done, 1 failed, 2 usage, 3 budget exhausted, 4 refused by policy,",
    "5 not running. AUTOCODE_URL and AUTOCODE_TOKEN name another server than this folder's.",
  ].join("\n");
}
