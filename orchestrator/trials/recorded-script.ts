/**
 * A script for the scripted model (models/scripted/script.ts) out of what the models of a recorded
 * trial said: its tools as the neutral operations that any agent's tools can do, where there is
 * one. Pure.
 *
 * A script says what its model does next, whatever it is asked; so it plays the same work again,
 * for other agents too, while a replay of the record answers the very same requests alone.
 */
import { stringify } from "yaml";
import type { Side, Wire } from "../contract/agents.ts";
import { readTurn, type ToolCall } from "./history.ts";

/** An answered call, in the order they were made. */
export interface SaidCall {
  readonly wire: Wire;
  readonly side: Side;
  readonly response: Buffer;
}

type Op = Readonly<Record<string, unknown>>;
type Step = readonly Op[];

/** The tools of CLIs by what they do: names as in models/scripted/tools.ts. */
const PATHS = ["file_path", "absolute_path", "filePath", "path"];
const OLD = ["old_string", "oldString", "old_text", "old_str"];
const NEW = ["new_string", "newString", "new_text", "new_str"];
const CONTENT = ["content", "contents", "text"];
const COMMANDS = ["command", "cmd", "script"];
const READ_TOOL = /^(?:read|read_file|view)$/i;
const WRITE_TOOL = /^(?:write|write_file|create_file)$/i;
/** Of Aider, which has no tools: the file's name, a fence, both texts. */
const BLOCK = /^([^\s`][^\n`]*)\n```[^\n]*\n<{5,9} SEARCH\n(.*?)={5,9}\n(.*?)>{5,9} REPLACE/gms;

/** @param instruction of its task, by which the script is chosen. Null: nothing was answered. */
export function scriptFrom(instruction: string, calls: readonly SaidCall[]): string | null {
  const said = calls.flatMap(({ wire, side, response }) => {
    const turn = readTurn(wire, response);
    return turn === null ? [] : [{ side, turn }];
  });
  if (said.length === 0) return null;
  const turnsOf = (wanted: Side) => said.filter(({ side }) => side === wanted).map((s) => s.turn);
  const [normal, thinking] = [turnsOf("normal"), turnsOf("thinking")];
  const edits = normal.flatMap(({ text }) => editsIn(text));
  const plan = stepsOf(thinking);
  const script = {
    match: firstLine(instruction),
    ...(plan.length > 0 ? { plan } : {}),
    steps: stepsOf(normal),
    ...(edits.length > 0 ? { edits } : {}),
  };
  return stringify(script, { lineWidth: 100 });
}

/** A step that is not the last must use a tool: side remarks without one are left out. */
function stepsOf(turns: readonly Turn[]): Step[] {
  const steps = turns.map((turn) => ({ step: stepOf(turn), usesTool: turn.toolCalls.length > 0 }));
  const lastTool = steps.findLastIndex(({ usesTool }) => usesTool);
  const last = steps.slice(lastTool + 1).findLast(({ step }) => step.length > 0);
  const working = steps.filter(({ usesTool }) => usesTool).map(({ step }) => step);
  return last === undefined ? working : [...working, last.step];
}

type Turn = NonNullable<ReturnType<typeof readTurn>>;

function stepOf({ text, reasoning, toolCalls }: Turn): Step {
  return [
    ...(reasoning.trim() === "" ? [] : [{ think: reasoning }]),
    ...(text.trim() === "" ? [] : [{ say: text }]),
    ...toolCalls.map(opOf),
  ];
}

function opOf({ name, arguments: args }: ToolCall): Op {
  const [path, old, now, content, command] = [PATHS, OLD, NEW, CONTENT, COMMANDS].map((keys) =>
    textOf(args, keys),
  );
  const file = path === undefined ? null : inTask(path);
  if (file !== null) {
    if (old !== undefined && old !== "" && now !== undefined) {
      return { edit: { path: file, old, new: now } };
    }
    if (content !== undefined && WRITE_TOOL.test(name)) return { write: { path: file, content } };
    if (READ_TOOL.test(name)) return { read: file };
  }
  if (command !== undefined && path === undefined) return { shell: command };
  return { tool: { name, args } };
}

function textOf(args: Readonly<Record<string, unknown>>, keys: readonly string[]) {
  const found = keys.map((key) => args[key]).find((value) => value !== undefined);
  if (typeof found === "string") return found;
  // Codex gives its shell a list: `sh`, `-c` and the command.
  const words = Array.isArray(found) ? found : [];
  return words.length === 3 && words[1]?.startsWith?.("-") ? String(words[2]) : undefined;
}

/** Below the work tree, which is the recorded allocation's; null: it is not in the task. */
function inTask(path: string): string | null {
  const below = path.startsWith("/") ? /\/workspace\/(.+)$/.exec(path)?.[1] : path;
  if (below === undefined || below.split("/").includes("..")) return null;
  return below.replace(/^(?:\.\/)+/, "");
}

function editsIn(text: string): Op[] {
  return [...text.matchAll(BLOCK)].map(([, path = "", old = "", now = ""]) =>
    old === "" ? { path: path.trim(), content: now } : { path: path.trim(), old, new: now },
  );
}

function firstLine(instruction: string): string {
  return (
    instruction
      .split("\n")
      .find((line) => line.trim() !== "")
      ?.trim() ?? instruction
  );
}
