/** Trials and experiments on the wire. */
import { type Static, Type } from "typebox";
import { Balance, CurrencyCode, NanosText } from "./money.ts";

export const TRIAL_STATES = [
  "queued",
  "admitted",
  "placed",
  "running",
  "verifying",
  "succeeded",
  "failed",
  "errored",
  "paused",
  "cancelled",
] as const;
export type TrialState = (typeof TRIAL_STATES)[number];
export const TrialState = Type.Enum(TRIAL_STATES);

/** What the hidden tests said: `error` when they could not be run to an answer. */
export type Verdict = Static<typeof Verdict>;
export const Verdict = Type.Union([
  Type.Literal("passed"),
  Type.Literal("failed"),
  Type.Literal("error"),
]);

export type TokenUsage = Static<typeof TokenUsage>;
export const TokenUsage = Type.Object(
  {
    input_tokens: Type.Integer({
      minimum: 0,
      description: "Input not read from or put in a cache",
    }),
    cache_read_tokens: Type.Integer({ minimum: 0 }),
    cache_write_tokens: Type.Integer({ minimum: 0 }),
    output_tokens: Type.Integer({ minimum: 0, description: "All output, reasoning included" }),
    reasoning_tokens: Type.Integer({
      minimum: 0,
      description: "The part of output that was reasoning",
    }),
  },
  { additionalProperties: false },
);

export type Trial = Static<typeof Trial>;
export const Trial = Type.Object(
  {
    id: Type.String(),
    project: Type.String({ description: "The project's name" }),
    experiment_id: Type.Union([Type.String(), Type.Null()]),
    task: Type.String({ description: "The task's name" }),
    agent: Type.String(),
    agent_version: Type.Union([Type.String(), Type.Null()], {
      description: "What its --version said, once it ran",
    }),
    pair: Type.String(),
    attempt: Type.Integer({ minimum: 1 }),
    seed: Type.Integer({ minimum: 0 }),
    priority: Type.Integer(),
    state: TrialState,
    reason: Type.Union([Type.String(), Type.Null()], {
      description: "Why it is in this state, one sentence, where that is not plain",
    }),
    verdict: Type.Union([Verdict, Type.Null()]),
    flags: Type.Array(Type.String(), {
      description: "What a reader should know, such as tests_modified",
    }),
    tries: Type.Integer({
      minimum: 0,
      description: "Allocations of the agent since it was last resumed",
    }),
    forked_from: Type.Union([Type.String(), Type.Null()], {
      description: "The checkpoint, of another trial, that it began with",
    }),
    replay_of: Type.Union([Type.String(), Type.Null()], {
      description: "The trial whose record answers this one: it costs nothing, and counts nowhere",
    }),
    resume_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()], {
      description: "When a paused trial is resumed by itself: its provider's quota is back then",
    }),
    approval_id: Type.Union([Type.String(), Type.Null()], {
      description: "What a person must answer before it goes on",
    }),
    budget: Type.Union([Balance, Type.Null()]),
    usage: TokenUsage,
    call_count: Type.Integer({ minimum: 0 }),
    swap_nanos: Type.Optional(
      Type.String({
        ...NanosText,
        description: "Of what it spent: own GPUs given to another model because it waited for that",
      }),
    ),
    is_scripted: Type.Boolean({ description: "A scripted model stood in for a real one" }),
    created_at: Type.String({ format: "date-time" }),
    started_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()]),
    ended_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()]),
    duration_ms: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  },
  { additionalProperties: false },
);

const Name = Type.String({ pattern: "^[a-z0-9][a-z0-9._-]{0,62}$" });
const Seed = Type.Integer({ minimum: 0, maximum: 4_294_967_295 });

/** A task that needs no folder: any git repository on the orchestrator's machine. */
export const InlineTask = Type.Object(
  {
    path: Type.String({ minLength: 1, maxLength: 4096 }),
    instruction: Type.String({ minLength: 1, maxLength: 100_000 }),
    test_command: Type.String({ minLength: 1, maxLength: 10_000 }),
  },
  { additionalProperties: false },
);

export type NewTrial = Static<typeof NewTrial>;
export const NewTrial = Type.Object(
  {
    project: Name,
    agent: Type.String(),
    pair: Type.String(),
    /** A task's name in the project, or its folder's path; or an inline task. */
    task: Type.Union([Type.String({ minLength: 1, maxLength: 4096 }), InlineTask]),
    limit_nanos: Type.Optional(NanosText),
    wall_ms: Type.Optional(Type.Integer({ minimum: 1_000, maximum: 604_800_000 })),
    priority: Type.Optional(Type.Integer({ minimum: -100, maximum: 100 })),
    seed: Type.Optional(Seed),
    /** What this trial may reach beyond its project's policy: a file's text, of an EgressLayer. */
    egress: Type.Optional(
      Type.Object(
        {
          file_text: Type.String({ minLength: 1, maxLength: 1_000_000 }),
          file_name: Type.String({ minLength: 1, maxLength: 4096 }),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

/** `POST trials/:id/fork`; what is not said is as the parent has it. */
export type NewFork = Static<typeof NewFork>;
export const NewFork = Type.Object(
  {
    checkpoint_id: Type.Optional(
      Type.String({ maxLength: 100, description: "Its newest one unless given" }),
    ),
    agent: Type.Optional(Type.String({ maxLength: 100 })),
    pair: Type.Optional(Type.String({ maxLength: 100 })),
    limit_nanos: Type.Optional(NanosText),
    wall_ms: Type.Optional(Type.Integer({ minimum: 1_000, maximum: 604_800_000 })),
    priority: Type.Optional(Type.Integer({ minimum: -100, maximum: 100 })),
  },
  { additionalProperties: false },
);

export type NewExperiment = Static<typeof NewExperiment>;
export const NewExperiment = Type.Object(
  {
    project: Name,
    name: Name,
    agents: Type.Array(Type.String(), { minItems: 1, maxItems: 50 }),
    pairs: Type.Array(Type.String(), { minItems: 1, maxItems: 50 }),
    tasks: Type.Array(Type.String(), { minItems: 1, maxItems: 1000 }),
    attempts: Type.Integer({ minimum: 1, maximum: 100, default: 1 }),
    /** `all`: every agent with every pair on every task; `random`: a cell drawn per attempt. */
    assignment: Type.Union([Type.Literal("all"), Type.Literal("random")], { default: "all" }),
    seed: Type.Optional(Seed),
    trial_limit_nanos: Type.Optional(NanosText),
    concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
  },
  { additionalProperties: false },
);

export type Experiment = Static<typeof Experiment>;
export const Experiment = Type.Object(
  {
    id: Type.String(),
    project: Type.String(),
    name: Type.String(),
    seed: Seed,
    assignment: Type.String(),
    trial_count: Type.Integer({ minimum: 0 }),
    ended_count: Type.Integer({ minimum: 0 }),
    spent_nanos: NanosText,
    currency: CurrencyCode,
    created_at: Type.String({ format: "date-time" }),
    trials: Type.Array(Trial),
  },
  { additionalProperties: false },
);

/** Newest first. `next_cursor`, given as `before`, asks for the page after; null at the end. */
export type TrialPage = Static<typeof TrialPage>;
export const TrialPage = Type.Object(
  { trials: Type.Array(Trial), next_cursor: Type.Union([Type.String(), Type.Null()]) },
  { additionalProperties: false },
);

export type ExperimentList = Static<typeof ExperimentList>;
export const ExperimentList = Type.Object(
  { experiments: Type.Array(Experiment) },
  { additionalProperties: false },
);
