/**
 * The port for one coding-agent CLI: what is known of it, how it is run, how its output reads and
 * what its end means. Everything here is pure: the runner does the I/O, the gateway the metering.
 *
 * What the runner adds to every phase: PATH (with its own Node first: some CLIs are `env node`
 * scripts), HTTP_PROXY, HTTPS_PROXY, NO_PROXY with the gateway's host, the CA variables and the
 * marker by which survivors are found. Standard input is ignored: Codex and OpenCode wait for its
 * end. A phase's other variables are complete in `env`; nothing of the runner's own environment
 * is passed on.
 */
import type { AgentFacts, Side } from "../../orchestrator/contract/agents.ts";
import type { EventType } from "../../orchestrator/contract/events.ts";
import type { AgentOutcome } from "../../orchestrator/contract/worker.ts";
import type { AllowancePlaces } from "../allowance.ts";

export interface Agent {
  readonly facts: AgentFacts;
  /** How the CLI is started: a path from its install folder, and what precedes its options. */
  readonly binary: { readonly path: string; readonly args: readonly string[] };
  /** Files of the package that lack their execute bit, as globs relative to that folder. */
  readonly executableGlobs: readonly string[];
  /** What the CLI leaves in the checkout, as lines for `.git/info/exclude`. */
  readonly litter: readonly string[];
  /** Whether it is given the allowance as an MCP tool; its file every agent has. */
  readonly hasMcp: boolean;
  /** How a conversation outlives its allocation; absent: each allocation begins a new one. */
  readonly session?: AgentSession;
  /** The phases that serve the pair, in order. Pure: one input, one answer. */
  plan(input: PlanInput): Phase[];
  /** A reader of what the CLI prints during one phase. */
  parser(phase: Phase): OutputParser;
  /** What the end of a phase means; a hint, since the verdict is the verifier's. */
  outcome(ended: PhaseEnd): PhaseOutcome;
}

export interface PlanInput {
  readonly instruction: string;
  /** The gateway's address without a trailing slash; `/v1/…` lies beneath it. */
  readonly gatewayUrl: string;
  readonly virtualKey: string;
  readonly models: Readonly<Record<Side, string>>;
  readonly contextTokens: number;
  readonly maxOutputTokens: number;
  /** The trial's own HOME: empty, writable by the agent, and no other trial's. */
  readonly home: string;
  readonly tmp: string;
  readonly workdir: string;
  readonly installDir: string;
  /** A UUID by which a CLI that can do so finds its session again. */
  readonly sessionId: string;
  /** The visible tests, for a CLI that runs them by itself. */
  readonly testCommand?: string;
  readonly isRoot: boolean;
  /** How long the agent may still take: no single model call is waited for any longer. */
  readonly deadlineMs: number;
  /** Where the agent finds what it may still use. */
  readonly allowance: AllowancePlaces;
  /** The same in words, for a conversation that knows of an older one. */
  readonly allowanceText: string;
  /** Present when an earlier allocation ended before its trial did. */
  readonly resume?: {
    readonly completedPhases: readonly string[];
    readonly planText?: string;
    /** Present when the CLI's files are there again: the phase that was stopped goes on. */
    readonly session?: { readonly id: string | null; readonly phase: PhaseName };
  };
}

export interface AgentSession {
  /** What holds the conversation: files and folders below HOME, without keys. */
  readonly files: readonly string[];
  /** The arguments that go on with a session; null: with the only one there is. */
  resumeArgs(id: string | null): readonly string[];
}

export type PhaseName = "plan" | "execute";

/** One process of the CLI. */
export interface Phase {
  readonly name: PhaseName;
  /** The models that it calls; more than one only where the CLI serves a pair by itself. */
  readonly sides: readonly Side[];
  /** The executable's absolute path. */
  readonly file: string;
  /** Never holds the key: arguments are visible to everyone on the machine. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Written before the run, owned by the agent's user; folders are made as needed. */
  readonly files: readonly PhaseFile[];
  /** Whether the CLI must have a terminal. */
  readonly terminal: boolean;
  /**
   * Stands in `args` for the text of the plan phase, where a CLI cannot resume a session; holds
   * the session's UUID, so that no instruction contains it by chance. See `withPlanText`.
   */
  readonly planPlaceholder?: string;
}

export interface PhaseFile {
  readonly path: string;
  readonly content: string;
  readonly mode: number;
}

/** A trial event without its cursor and its time, which the runner adds. */
export interface AgentEvent {
  readonly type: Extract<EventType, `agent.${string}`>;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface OutputParser {
  /** Reads one line of either stream, without its line end. A line that makes no sense is none. */
  push(line: string): AgentEvent[];
  /** What the lines so far say of the phase as a whole. */
  summary(): OutputSummary;
}

export interface OutputSummary {
  readonly sessionId: string | null;
  /** The CLI's last message: after a plan phase, the plan. */
  readonly finalText: string;
  /** The last thing that the CLI itself called an error, unless it went on well after it. */
  readonly lastError: AgentError | null;
  /** Whether the CLI said that it came to its end as it should. */
  readonly isComplete: boolean;
  /** Whether the CLI stopped at a limit of its own, turns or tools. */
  readonly isLimitReached: boolean;
}

export interface AgentError {
  readonly message: string;
  /** The HTTP status of a model call, where the CLI tells it. */
  readonly status?: number;
}

export interface PhaseEnd {
  readonly phase: PhaseName;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly output: OutputSummary;
}

export interface PhaseOutcome {
  readonly outcome: AgentOutcome;
  readonly detail: string;
}

/** The executable of an agent that was installed into `installDir`. */
export function binaryPath(agent: Pick<Agent, "binary">, installDir: string): string {
  return `${installDir}/${agent.binary.path}`;
}

/** The phase with the plan's text where its placeholder stood; any other phase unchanged. */
export function withPlanText(phase: Phase, planText: string): Phase {
  const { planPlaceholder, ...rest } = phase;
  if (planPlaceholder === undefined) return phase;
  // A function, since `$&` and the like in a replacement string would be expanded.
  const args = phase.args.map((arg) => arg.replaceAll(planPlaceholder, () => planText));
  return { ...rest, args };
}
