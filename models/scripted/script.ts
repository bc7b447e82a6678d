/**
 * A script: what the scripted model does for one task, read from YAML. Every fault of a script is
 * found here, with its file and line, and never while an agent waits for an answer.
 */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { type Document, isMap, isNode, LineCounter, parseDocument, type YAMLMap } from "yaml";

const Text = Type.String({ minLength: 1, maxLength: 200_000 });
const Path = Type.String({ minLength: 1, maxLength: 1_000 });
const strict = { additionalProperties: false } as const;

const Edit = Type.Object({ path: Path, old: Text, new: Type.String() }, strict);
const Write = Type.Object({ path: Path, content: Type.String() }, strict);

/** One neutral operation: exactly one of the keys. */
const Op = Type.Object(
  {
    say: Type.Optional(Text),
    think: Type.Optional(Text),
    read: Type.Optional(Path),
    write: Type.Optional(Write),
    edit: Type.Optional(Edit),
    shell: Type.Optional(Text),
    tool: Type.Optional(
      Type.Object(
        { name: Type.String({ minLength: 1 }), args: Type.Record(Type.String(), Type.Unknown()) },
        strict,
      ),
    ),
  },
  { ...strict, minProperties: 1, maxProperties: 1 },
);

const Steps = Type.Array(Type.Array(Op, { minItems: 1, maxItems: 50 }), { maxItems: 500 });
const Match = Type.Array(Text, { minItems: 1 });
const SideName = Type.Union([Type.Literal("normal"), Type.Literal("thinking")]);

/** What goes wrong: one of status, stall_ms, cut_after_events, no_usage. */
const Fault = Type.Object(
  {
    status: Type.Optional(Type.Integer({ minimum: 400, maximum: 599 })),
    body: Type.Optional(Type.Unknown()),
    headers: Type.Optional(Type.Record(Type.String(), Type.String())),
    stall_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_600_000 })),
    cut_after_events: Type.Optional(Type.Integer({ minimum: 0 })),
    no_usage: Type.Optional(Type.Literal(true)),
    /** The fault waits until this many calls of the conversation were answered with a tool. */
    after: Type.Optional(Type.Integer({ minimum: 0 })),
    /** How often a request meets it; 0 means every time. */
    times: Type.Optional(Type.Integer({ minimum: 0 })),
    side: Type.Optional(SideName),
  },
  strict,
);

const Shape = Type.Object(
  {
    match: Type.Optional(Type.Union([Text, Match])),
    /** The normal model's turns. */
    steps: Steps,
    /** The thinking model's turns when it is asked to plan; the last one says the plan. */
    plan: Type.Optional(Steps),
    /** Edits for agents without tools; absent: those of the steps. */
    edits: Type.Optional(Type.Array(Type.Union([Edit, Write]))),
    commit_message: Type.Optional(Text),
    /** Answers to requests without tools, before anything else is tried. */
    when: Type.Optional(
      Type.Array(Type.Object({ match: Type.Union([Text, Match]), say: Text }, strict)),
    ),
    on_end: Type.Optional(Type.Union([Type.Literal("finish"), Type.Literal("error")])),
    faults: Type.Optional(Type.Array(Fault)),
    delay_ms_per_event: Type.Optional(Type.Integer({ minimum: 0, maximum: 60_000 })),
  },
  strict,
);

export type Side = Static<typeof SideName>;
export type Op = Static<typeof Op>;
export type Step = readonly Op[];
export type Fault = Static<typeof Fault>;
export type FileEdit = Static<typeof Edit> | Static<typeof Write>;
export type Matcher = (text: string) => boolean;

export interface Script {
  /** The file's name without its ending; what errors and logs call it. */
  name: string;
  /** Null for a script that is played when no other matches. */
  matches: Matcher | null;
  steps: readonly Step[];
  plan: readonly Step[];
  /** What the plan's steps say last: an architect's whole answer. */
  planText: string;
  edits: readonly FileEdit[];
  commitMessage: string;
  when: readonly { matches: Matcher; say: string }[];
  onEnd: "finish" | "error";
  faults: readonly Fault[];
  delayMsPerEvent: number;
}

/** A script that cannot be played; the message is one line: file, line, what, and the fix. */
export class ScriptError extends Error {
  override readonly name = "ScriptError";
}

const shape = Compile(Shape);

/**
 * Reads a script. `name` is what it is called, `file` what its errors name.
 *
 * @throws ScriptError for YAML that does not parse, an unknown key, a wrong type or a script that
 *   no agent could play to its end.
 */
export function parseScript(name: string, file: string, source: string): Script {
  const lines = new LineCounter();
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken !== undefined) {
    fail(lines.linePos(broken.pos[0]).line, broken.message);
  }
  const value: unknown = document.toJS();
  if (!shape.Check(value)) {
    const { path, message } = firstFault(value);
    fail(lineOf(document, lines, path), `${path.join(".") || "script"}: ${message}`);
  }
  checkSteps(value.steps, "steps");
  checkSteps(value.plan ?? [], "plan");
  checkFaults(value.faults ?? []);
  const plan = value.plan ?? [planFrom(value.steps)];
  return {
    name,
    matches: value.match === undefined ? null : matcher(value.match, ["match"]),
    steps: value.steps,
    plan,
    planText: plan.flat().findLast((op) => op.say !== undefined)?.say ?? "No change is needed.",
    edits: value.edits ?? editsOf(value.steps),
    commitMessage: value.commit_message ?? `fix: ${name.replaceAll("-", " ")}`,
    when: (value.when ?? []).map(({ match, say }, index) => ({
      matches: matcher(match, ["when", index, "match"]),
      say,
    })),
    onEnd: value.on_end ?? "finish",
    faults: value.faults ?? [],
    delayMsPerEvent: value.delay_ms_per_event ?? 0,
  };

  function checkSteps(steps: readonly Step[], key: string): void {
    for (const [index, step] of steps.entries()) {
      const isLast = index === steps.length - 1;
      if (!isLast && !step.some(isToolOp)) {
        const why = "uses no tool, so the agent would stop there; add one, or make it the last";
        fail(lineOf(document, lines, [key, index]), `${key}.${index}: ${why}`);
      }
      for (const [at, op] of step.entries()) {
        const path = op.read ?? op.write?.path ?? op.edit?.path;
        if (path === undefined || isInside(path)) continue;
        const where = [key, index, at];
        fail(lineOf(document, lines, where), `${where.join(".")}: ${path} must lie in the task`);
      }
    }
  }

  function checkFaults(faults: readonly Fault[]): void {
    for (const [index, fault] of faults.entries()) {
      const kinds = ["status", "stall_ms", "cut_after_events", "no_usage"] as const;
      if (kinds.filter((kind) => fault[kind] !== undefined).length === 1) continue;
      const line = lineOf(document, lines, ["faults", index]);
      fail(line, `faults.${index}: needs exactly one of ${kinds.join(", ")}`);
    }
  }

  /** `/…/flags` is a regular expression, anything else a text to be found as it is. */
  function matcher(match: string | readonly string[], path: (string | number)[]): Matcher {
    const tests = [match].flat().map((one): Matcher => {
      const [, pattern, flags] = /^\/(.+)\/([ims]*)$/s.exec(one) ?? [];
      if (pattern === undefined) return (text) => text.includes(one);
      try {
        const regex = new RegExp(pattern, flags);
        return (text) => regex.test(text);
      } catch (error) {
        return fail(lineOf(document, lines, path), `${path.join(".")}: ${String(error)}`);
      }
    });
    return (text) => tests.some((found) => found(text));
  }

  function fail(line: number, message: string): never {
    throw new ScriptError(`${file}:${line}: ${message.replaceAll("\n", " ")}`);
  }
}

/** Whether an operation needs a tool of the agent. */
export function isToolOp(op: Op): boolean {
  return op.say === undefined && op.think === undefined;
}

function isInside(path: string): boolean {
  return !path.startsWith("/") && !path.split("/").includes("..");
}

/** The fault that says most: an unknown key explains the one that is missing. */
function firstFault(value: unknown): { path: (string | number)[]; message: string } {
  const faults = shape.Errors(value).filter(({ keyword }) => keyword !== "boolean");
  const fault = faults.find(({ keyword }) => keyword === "additionalProperties") ?? faults[0];
  if (fault === undefined) return { path: [], message: "is not a script" };
  const path = fault.instancePath
    .split("/")
    .slice(1)
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  if (fault.keyword === "minProperties" || fault.keyword === "maxProperties") {
    return { path, message: `needs exactly one of ${Object.keys(Op.properties).join(", ")}` };
  }
  if (fault.keyword !== "additionalProperties") return { path, message: fault.message };
  const { additionalProperties: [unknown = "?"] = [] } = fault.params as {
    additionalProperties?: string[];
  };
  return { path: [...path, unknown], message: "is not a key of a script" };
}

/** The line of the node at `path`: of its key where it has one. */
function lineOf(document: Document, lines: LineCounter, path: (string | number)[]): number {
  for (let depth = path.length; depth > 0; depth--) {
    const parent = depth === 1 ? document.contents : document.getIn(path.slice(0, depth - 1), true);
    const key = path[depth - 1];
    const pair = isMap(parent) ? pairOf(parent, key) : undefined;
    const node = pair?.key ?? document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

function pairOf(map: YAMLMap, key: unknown) {
  return map.items.find((item) => isNode(item.key) && item.key.toJSON() === key);
}

function editsOf(steps: readonly Step[]): FileEdit[] {
  return steps.flat().flatMap((op) => op.edit ?? op.write ?? []);
}

/** The plan of a script that states none: which files its steps change. */
function planFrom(steps: readonly Step[]): Step {
  const paths = [...new Set(editsOf(steps).map(({ path }) => path))];
  const plan = paths.map((path, index) => `${index + 1}. Change ${path}.`);
  return [{ say: [...plan, `${paths.length + 1}. Run the tests.`].join("\n") }];
}
