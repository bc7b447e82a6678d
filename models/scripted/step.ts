/**
 * Which step of a script a request is at, read off the request alone: a retry, a resend or another
 * trial running beside it changes nothing. Pure.
 */
import type { ModelRequest, Turn } from "./dialect.ts";
import { isToolOp, type Step } from "./script.ts";

export interface Position {
  /** Index of the step to play; equal to the number of steps when the script has run out. */
  step: number;
  /** The step's file change failed: its files are to be read again before it is repeated. */
  isRepair: boolean;
  /** Turns with tools since the last instruction, repairs included. */
  turns: number;
}

interface ToolTurn {
  ids: string[];
  errors: Set<string>;
}

/** How CLIs begin to report a failed file change, where the protocol has no mark for it. */
const FAILED_CHANGE = /^\s*(?:error|failed|could not|apply_patch verification failed)\b/i;
const UNREAD_FILE = /^.{0,1000}\bhas not been read\b/;
/** A change made by shell: Codex says how its command ended. */
const FAILED_COMMAND = /^(?:Process exited with code|Exit code:?) [1-9]/m;

/** The position after every tool turn since the last instruction. */
export function positionOf(request: ModelRequest, steps: readonly Step[]): Position {
  const position: Position = { step: 0, isRepair: false, turns: 0 };
  let isRepeated = false;
  for (const turn of toolTurns(request.turns)) {
    position.turns++;
    if (position.isRepair) {
      // This turn read the files again; the next one repeats the step, once.
      position.isRepair = false;
      isRepeated = true;
      continue;
    }
    const step = steps[position.step];
    if (step !== undefined && !isRepeated && hasFailedChange(step, turn)) {
      position.isRepair = true;
      continue;
    }
    isRepeated = false;
    position.step = Math.min(position.step + 1, steps.length);
  }
  return position;
}

/** The turns that used tools since the last message in which a person, or the plan, spoke. */
function toolTurns(turns: readonly Turn[]): ToolTurn[] {
  const from = turns.findLastIndex((turn) => turn.role === "user" && instructionText(turn) !== "");
  const found: ToolTurn[] = [];
  let answer = "";
  for (const turn of turns.slice(from + 1)) {
    if (turn.role === "assistant" && turn.toolUses.length > 0) {
      const ids = turn.toolUses.map(({ id }) => id);
      const last = found.at(-1);
      // Responses interleaves the calls of one answer with their results.
      if (last !== undefined && answerOf(ids[0]) === answer) last.ids.push(...ids);
      else found.push({ ids, errors: new Set() });
      answer = answerOf(ids[0]);
    } else if (turn.role === "tool" && (turn.isError ?? saysFailed(turn.text))) {
      found.find(({ ids }) => ids.includes(turn.toolUseId))?.errors.add(turn.toolUseId);
    }
  }
  return found;
}

function saysFailed(text: string): boolean {
  return [FAILED_CHANGE, UNREAD_FILE, FAILED_COMMAND].some((pattern) => pattern.test(text));
}

/** The part of a tool use's id that all of one answer share (`answer.ts` makes them). */
function answerOf(id = ""): string {
  return id.replace(/_\d+$/, "");
}

/** What a user turn says besides what CLIs put there by themselves. */
export function instructionText({ text }: Extract<Turn, { role: "user" }>): string {
  return text.replace(/<(system-reminder|environment_context)>.*?<\/\1>/gs, "").trim();
}

/** Whether an edit or a write of the step came back as an error; a failing test run is none. */
function hasFailedChange(step: Step, turn: ToolTurn): boolean {
  return step.filter(isToolOp).some((op, index) => {
    const id = turn.ids[index];
    const isChange = op.edit !== undefined || op.write !== undefined;
    return isChange && id !== undefined && turn.errors.has(id);
  });
}
