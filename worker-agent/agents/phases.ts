/** What the phases of all CLIs have in common: their environment and what they are told. */
import type { AgentSession, Phase, PhaseFile, PhaseName, PlanInput } from "./agent.ts";

/**
 * How often a CLI may repeat a failed model call by itself. Few, since each repeat holds the
 * worker and may be billed; more than none, since the gateway asks for one when it is busy.
 */
export const MODEL_RETRIES = 2;

/** Linux takes 131,072 bytes in one argument; a plan is cut to fit beside its task. */
const PROMPT_BYTES = 125_000;
const PLAN_BYTES = 40_000;

export function commonEnv({ home, tmp }: Pick<PlanInput, "home" | "tmp">): Record<string, string> {
  return { HOME: home, TMPDIR: tmp, LANG: "C.UTF-8", GIT_TERMINAL_PROMPT: "0" };
}

/** Git's settings in the agent's HOME: agents may commit, and some want a name at their start. */
export function gitConfig({ home }: Pick<PlanInput, "home">): PhaseFile {
  const content = "[user]\n\tname = autocode agent\n\temail = agent@autocode.invalid\n";
  return { path: `${home}/.gitconfig`, content, mode: 0o644 };
}

export interface PairPhases {
  session: AgentSession;
  /** What begins a session, and the id it then has; null where only the CLI knows it. */
  begin: { args: readonly string[]; id: string | null };
  /** One phase, by the arguments of its session and what it is told. */
  phase: (name: PhaseName, sessionArgs: readonly string[], prompt: string) => Phase;
}

/**
 * The phases that are still to be done: plan, then execute in the same session; of an earlier
 * allocation's session what is left of it; without that its plan's text in a session of its own.
 */
export function pairPhases(input: PlanInput, { session, begin, phase }: PairPhases): Phase[] {
  const { instruction, resume } = input;
  if (resume?.session !== undefined) {
    const { id, phase: stopped } = resume.session;
    const args = session.resumeArgs(id);
    if (resume.completedPhases.includes(stopped))
      return [phase("execute", args, implementPrompt())];
    const goOn = phase(stopped, args, goOnPrompt(input, stopped));
    return stopped === "execute" ? [goOn] : [goOn, phase("execute", args, implementPrompt())];
  }
  const earlier = earlierPlan(input);
  if (earlier !== null) return [phase("execute", [], implementPlanPrompt(instruction, earlier))];
  return [
    phase("plan", begin.args, planPrompt(instruction)),
    phase("execute", session.resumeArgs(begin.id), implementPrompt()),
  ];
}

/** The plan that an earlier allocation made; null when planning is still to be done. */
export function earlierPlan({ resume }: Pick<PlanInput, "resume">): string | null {
  if (!resume?.completedPhases.includes("plan")) return null;
  return resume.planText ?? null;
}

/**
 * The task as it was given, after words of ours: CLIs take a leading `-` for an option, and a
 * leading `/` or `!` for a command.
 */
export function taskPrompt(instruction: string): string {
  return `The task:\n\n${clean(instruction)}`;
}

/** What the thinking model is told in the plan phase. */
export function planPrompt(instruction: string): string {
  return `${taskPrompt(instruction)}

Do not change anything yet. Read what you need of this repository, then answer with a plan: the
files to change, what to change in each of them, and how to check the result. Somebody else will
carry the plan out.`;
}

/** What the normal model is told in the session in which the plan was made. */
export function implementPrompt(): string {
  return "Now carry the plan out: make the changes in this repository and check the result.";
}

/** What a model is told in the session in which it was stopped. */
export function goOnPrompt({ allowanceText }: PlanInput, phase: PhaseName): string {
  const what =
    phase === "plan"
      ? "Do not change anything yet: answer with the plan."
      : "Carry the plan out and check the result.";
  return `You were stopped in the middle of this, for no fault of yours. Go on from where you were:
look at the work tree first, which is as you left it or a little older; commands that ran then have
ended. ${what}

${clean(allowanceText)}`;
}

/** What the normal model is told in a session of its own. */
export function implementPlanPrompt(instruction: string, planText: string): string {
  const task = taskPrompt(instruction);
  const room = Math.max(0, Math.min(PLAN_BYTES, PROMPT_BYTES - Buffer.byteLength(task)));
  return `${task}

A plan for this was made before, and a part of it may be done already:

${Buffer.from(clean(planText)).subarray(0, room).toString("utf8")}

Carry the plan out: make the changes in this repository and check the result.`;
}

/** No argument can hold a NUL; the rest of a text is passed as it is. */
function clean(text: string): string {
  return text.replaceAll("\0", "\u{FFFD}");
}
