/** The answer to a request: its script's step, or text where no tools are offered. Pure. */
import {
  type Answer,
  type Block,
  type ModelRequest,
  ScriptedProblem,
  textPrefix,
  tokensOf,
} from "./dialect.ts";
import { type FileEdit, isToolOp, type Op, type Script, type Side, type Step } from "./script.ts";
import { instructionText, type Position, positionOf } from "./step.ts";
import { mapOp } from "./tools.ts";

const BYTES_PER_TOKEN = 4;

export interface PlayedAnswer {
  answer: Answer;
  position: Position;
}

/** The model whose script a model's name plays: its own name says which side of a pair it is. */
export function sideOf(model: string): Side {
  return model.toLowerCase().includes("thinking") ? "thinking" : "normal";
}

/**
 * Plays `script` for `request`. The same request always has the same answer.
 *
 * @throws ScriptedProblem 400 when the script has run out and says `on_end: error`, or when it
 *   needs a tool that the agent does not offer.
 */
export function answerTo(
  script: Script,
  request: ModelRequest,
  toolUseIdPrefix: string,
): PlayedAnswer {
  const side = sideOf(request.model);
  const steps = side === "thinking" ? script.plan : script.steps;
  if (request.tools.length === 0) {
    const text = textWithoutTools(script, request, side);
    const position = { step: 0, isRepair: false, turns: 0 };
    return { answer: limited([{ kind: "text", text }], request), position };
  }
  const position = positionOf(request, steps);
  const blocks = stepOps(script, steps, position).flatMap((op): Block[] => {
    if (op.say !== undefined) return [{ kind: "text", text: op.say }];
    if (op.think !== undefined) {
      return request.wantsThinking ? [{ kind: "thinking", text: op.think }] : [];
    }
    try {
      return [{ kind: "tool_use", id: "", ...mapOp(op, request) }];
    } catch (error) {
      if (!(error instanceof ScriptedProblem)) throw error;
      const where = `script ${script.name}, ${side} step ${position.step + 1}`;
      throw new ScriptedProblem(error.status, error.code, `${where}: ${error.message}`);
    }
  });
  let toolIndex = 0;
  for (const block of blocks) {
    if (block.kind === "tool_use") block.id = `${toolUseIdPrefix}${request.digest}_${toolIndex++}`;
  }
  return { answer: limited(blocks, request), position };
}

/** The operations to play at a position. */
function stepOps(script: Script, steps: readonly Step[], { step, isRepair }: Position): Step {
  const current = steps[step];
  if (current === undefined) {
    if (script.onEnd === "finish") return [{ say: "Done." }];
    const count = `the agent asked for step ${step + 1} and it has ${steps.length}`;
    const message = `script ${script.name} ran out: ${count}; add a last step that only says`;
    throw new ScriptedProblem(400, "script_ran_out", message);
  }
  if (!isRepair) return current;
  const paths = current.flatMap((op) => op.edit?.path ?? op.write?.path ?? []);
  const reads = [...new Set(paths)].map((path): Op => ({ read: path }));
  return [{ say: "That change did not go in. I read the file again." }, ...reads];
}

/** Agents without tools, and side calls such as titles, are told apart by their prompts. */
function textWithoutTools(script: Script, request: ModelRequest, side: Side): string {
  const { system, turns } = request;
  const users = turns.filter((turn) => turn.role === "user");
  const last = users.at(-1);
  const asked = `${system}\n${last === undefined ? "" : instructionText(last)}`;
  const rule = script.when.find(({ matches }) => matches(asked));
  if (rule !== undefined) return rule.say;
  if (/commit message/i.test(system)) return script.commitMessage;
  if (/\btitle\b/i.test(system) && !/SEARCH\/REPLACE/.test(system)) return script.name;
  if (/SEARCH\/REPLACE/.test(asked)) {
    const blocks = script.edits.map(searchReplace).join("\n");
    const isDone = turns.some((turn) => turn.role === "assistant" && turn.text.includes(blocks));
    return isDone ? "Nothing is left to change." : `I make these changes.\n\n${blocks}`;
  }
  return side === "thinking" ? script.planText : finalText(script);
}

function finalText({ steps }: Script): string {
  const last = steps.at(-1);
  return last?.some(isToolOp)
    ? "Done."
    : (last?.find((op) => op.say !== undefined)?.say ?? "Done.");
}

/** Aider's edit format; an empty SEARCH part makes a file. */
function searchReplace(edit: FileEdit): string {
  const [before, after] = "old" in edit ? [edit.old, edit.new] : ["", edit.content];
  const lines = (text: string) => (text === "" || text.endsWith("\n") ? text : `${text}\n`);
  const fence = "```";
  return (
    `${edit.path}\n${fence}\n<<<<<<< SEARCH\n${lines(before)}=======\n` +
    `${lines(after)}>>>>>>> REPLACE\n${fence}\n`
  );
}

/** The blocks that fit the request's limit, and what they cost. A tool use is never cut in two. */
function limited(blocks: readonly Block[], request: ModelRequest): Answer {
  const { maxOutputTokens, bodyBytes } = request;
  let left =
    maxOutputTokens === null ? Number.POSITIVE_INFINITY : maxOutputTokens * BYTES_PER_TOKEN;
  const kept: Block[] = [];
  let written = 0;
  let reasoning = 0;
  let isCut = false;
  for (const block of blocks) {
    const text = block.kind === "tool_use" ? block.name + block.input : block.text;
    const bytes = Buffer.byteLength(text);
    if (bytes <= left) {
      keep(block, bytes);
      continue;
    }
    isCut = true;
    if (block.kind !== "tool_use") {
      const prefix = textPrefix(text, left);
      if (prefix !== "") keep({ ...block, text: prefix }, Buffer.byteLength(prefix));
    }
    break;
  }
  const usesTool = kept.some(({ kind }) => kind === "tool_use");
  return {
    blocks: kept,
    stop: isCut ? "length" : usesTool ? "tool_use" : "end",
    usage: {
      inputTokens: tokensOf(bodyBytes),
      outputTokens: tokensOf(written),
      reasoningTokens: tokensOf(reasoning),
    },
  };

  function keep(block: Block, bytes: number): void {
    kept.push(block);
    left -= bytes;
    written += bytes;
    if (block.kind === "thinking") reasoning += bytes;
  }
}
