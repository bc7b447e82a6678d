/**
 * Neutral operations as uses of the tools that an agent offers: only properties of the tool's own
 * schema are filled, and what a CLI lacks is done by its shell. Pure.
 */
import {
  type ModelRequest,
  type OfferedTool,
  type PropertySchema,
  ScriptedProblem,
} from "./dialect.ts";
import { type FileEdit, isToolOp, type Op } from "./script.ts";

export interface MappedUse {
  name: string;
  /** The arguments' JSON text, or plain text when freeform. */
  input: string;
  isFreeform: boolean;
}

/** Tool names by what they do, lower case; seen in recorded requests of the CLIs. */
const NAMES = {
  read: ["read", "read_file", "view"],
  write: ["write", "write_file", "create_file"],
  edit: ["edit", "edit_file", "replace", "str_replace"],
  shell: ["bash", "run_shell_command", "exec_command", "shell", "shell_command", "local_shell"],
  patch: ["apply_patch"],
} as const;

const PATH_KEYS = ["file_path", "absolute_path", "filePath", "path"];
const OLD_KEYS = ["old_string", "oldString", "old_text", "old_str"];
const NEW_KEYS = ["new_string", "newString", "new_text", "new_str"];
const CONTENT_KEYS = ["content", "contents", "text"];
const COMMAND_KEYS = ["command", "cmd", "script"];
const PATCH_KEYS = ["input", "patch"];

/** Ends a here-document; no line of a sane file is this. */
const HERE = "SCRIPTED_END";

/** How CLIs tell the model their working directory, in system prompts and context messages. */
const WORKDIR = [
  /<cwd>([^<\n]+)<\/cwd>/,
  /(?:working directory|\bcwd)(?: is)?:[ \t]*`?(\/[^`\n]*)/i,
  /working in the (?:following )?director(?:y|ies):\s*(?:-\s*)?`?(\/[^`\n]*)/i,
];

/** The agent's working directory as the request tells it, or null. */
export function workdirOf({ system, turns }: ModelRequest): string | null {
  const texts = [system, ...turns.filter(({ role }) => role === "user").map(({ text }) => text)];
  for (const text of texts) {
    for (const pattern of WORKDIR) {
      const found = pattern
        .exec(text)?.[1]
        ?.trim()
        .replace(/(?<=.)\/+$/, "");
      if (found !== undefined && found !== "") return found;
    }
  }
  return null;
}

/**
 * The tool use that does `op`.
 *
 * @throws ScriptedProblem 400 when the agent offers no tool that could.
 */
export function mapOp(op: Op, request: ModelRequest): MappedUse {
  if (!isToolOp(op)) throw new RangeError("mapOp: this operation uses no tool");
  const { tools } = request;
  if (op.tool !== undefined) {
    const { name, args } = op.tool;
    const tool = tools.find((offered) => offered.name === name);
    if (tool === undefined) throw noTool(`the tool ${name}`, tools);
    return { name, input: JSON.stringify(args), isFreeform: false };
  }
  if (op.read !== undefined) return readUse(op.read, request);
  if (op.write !== undefined) return writeUse(op.write, request);
  if (op.edit !== undefined) return editUse(op.edit, request);
  return shellUse(op.shell ?? "true", tools);
}

function readUse(path: string, request: ModelRequest): MappedUse {
  const tool = find(request.tools, NAMES.read, [PATH_KEYS]);
  if (tool === undefined) return shellUse(`cat ${quoted(path)}`, request.tools);
  return filled(tool, [[PATH_KEYS, absolute(path, request)]]);
}

function writeUse(write: { path: string; content: string }, request: ModelRequest): MappedUse {
  const { path, content } = write;
  const tool = find(request.tools, NAMES.write, [PATH_KEYS, CONTENT_KEYS]);
  if (tool !== undefined) {
    return filled(tool, [
      [PATH_KEYS, absolute(path, request)],
      [CONTENT_KEYS, content],
    ]);
  }
  const patched = patchUse(write, request.tools);
  if (patched !== null) return patched;
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".";
  const text = content.endsWith("\n") || content === "" ? content : `${content}\n`;
  const command = `mkdir -p ${quoted(folder)} && cat > ${quoted(path)} <<'${HERE}'\n${text}${HERE}`;
  return shellUse(command, request.tools);
}

function editUse(edit: Extract<FileEdit, { old: string }>, request: ModelRequest): MappedUse {
  const tool = find(request.tools, NAMES.edit, [PATH_KEYS, OLD_KEYS, NEW_KEYS]);
  if (tool !== undefined) {
    return filled(tool, [
      [PATH_KEYS, absolute(edit.path, request)],
      [OLD_KEYS, edit.old],
      [NEW_KEYS, edit.new],
    ]);
  }
  return patchUse(edit, request.tools) ?? shellUse(editCommand(edit), request.tools);
}

/** Replaces the one place where the old text stands, as the CLIs' own edit tools do. */
function editCommand(edit: Extract<FileEdit, { old: string }>): string {
  const program = [
    'const { readFileSync, writeFileSync } = require("node:fs");',
    `const path = ${JSON.stringify(edit.path)};`,
    `const parts = readFileSync(path, "utf8").split(${JSON.stringify(edit.old)});`,
    "if (parts.length !== 2) {",
    '  console.error("old text must be found once, not times:", parts.length - 1);',
    "  process.exit(1);",
    "}",
    `writeFileSync(path, parts.join(${JSON.stringify(edit.new)}));`,
  ];
  return `node - <<'${HERE}'\n${program.join("\n")}\n${HERE}`;
}

/** The patch language of Codex; its tool takes plain text, or JSON with the text in it. */
function patchUse(change: FileEdit, tools: readonly OfferedTool[]): MappedUse | null {
  const tool = find(tools, NAMES.patch, []);
  if (tool === undefined) return null;
  const body =
    "content" in change
      ? [`*** Add File: ${change.path}`, ...prefixed("+", change.content)]
      : [
          `*** Update File: ${change.path}`,
          "@@",
          ...prefixed("-", change.old),
          ...prefixed("+", change.new),
        ];
  const patch = ["*** Begin Patch", ...body, "*** End Patch"].join("\n");
  if (tool.isFreeform) return { name: tool.name, input: patch, isFreeform: true };
  return filled(tool, [[PATCH_KEYS, patch]]);
}

function shellUse(command: string, tools: readonly OfferedTool[]): MappedUse {
  const tool = find(tools, NAMES.shell, [COMMAND_KEYS]);
  if (tool === undefined) throw noTool("a shell", tools);
  return filled(tool, [[COMMAND_KEYS, command]], {
    description: "Run a command of the script",
    is_background: false,
    // Codex: a login shell would replace PATH, and a slow test would end as a background session.
    login: false,
    yield_time_ms: 30_000,
  });
}

/** The tool's arguments: each value under the key its schema has, and what else it requires. */
function filled(
  tool: OfferedTool,
  values: readonly (readonly [readonly string[], string])[],
  extras: Readonly<Record<string, unknown>> = {},
): MappedUse {
  const args: Record<string, unknown> = {};
  for (const [keys, value] of values) {
    const key = keys.find((candidate) => candidate in tool.properties);
    if (key === undefined) continue;
    const isList = typesOf(tool.properties[key]).includes("array");
    args[key] = isList ? ["sh", "-c", value] : value;
  }
  for (const [key, value] of Object.entries(extras)) {
    if (key in tool.properties) args[key] = value;
  }
  for (const key of tool.required) args[key] ??= emptyValue(tool.properties[key]);
  return { name: tool.name, input: JSON.stringify(args), isFreeform: false };
}

function find(
  tools: readonly OfferedTool[],
  names: readonly string[],
  needs: readonly (readonly string[])[],
): OfferedTool | undefined {
  return names
    .flatMap((name) => tools.filter((tool) => tool.name.toLowerCase() === name))
    .find(({ properties }) => needs.every((keys) => keys.some((key) => key in properties)));
}

function typesOf(schema: PropertySchema | undefined): string[] {
  return [schema?.type ?? []].flat();
}

/** Something a schema accepts for a required property that no operation speaks of. */
function emptyValue(schema: PropertySchema | undefined): unknown {
  if (schema?.enum !== undefined) return schema.enum[0];
  const [type] = typesOf(schema);
  if (type === "boolean") return false;
  if (type === "number" || type === "integer") return 0;
  if (type === "array") return [];
  return type === "object" ? {} : "";
}

function absolute(path: string, request: ModelRequest): string {
  const workdir = workdirOf(request);
  return workdir === null ? path : `${workdir}/${path}`;
}

function prefixed(sign: string, text: string): string[] {
  return text === ""
    ? []
    : text
        .replace(/\n$/, "")
        .split("\n")
        .map((line) => sign + line);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function noTool(what: string, tools: readonly OfferedTool[]): ScriptedProblem {
  const offered = tools.map(({ name }) => name).join(", ") || "nothing";
  const message = `the script needs ${what}, and the agent offers only: ${offered}`;
  return new ScriptedProblem(400, "script_tool_missing", message);
}
