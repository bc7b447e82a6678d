/**
 * A project and its file, `autocode.yaml`. The schema is what users meet: it is published as JSON
 * Schema, and a key it does not know is an error.
 */
import { type Static, Type } from "typebox";
import { Wire } from "./agents.ts";
import { EgressPolicy } from "./egress.ts";
import { Retention } from "./flows.ts";
import { Balance, CurrencyCode, NanosText } from "./money.ts";
import { PriceTerms } from "./prices.ts";

/** An amount as people write it: "25", "0.50"; at most nine decimals, never a float. */
export const UnitsText = Type.String({
  pattern: "^[0-9]{1,10}([.][0-9]{1,9})?$",
  description: 'An amount in units of the currency, as text: "12.50"',
  examples: ["12.50"],
});

const Name = Type.String({ pattern: "^[a-z0-9][a-z0-9._-]{0,62}$" });

/** A model at a provider: the installation's own one by name, or any by its address. */
const SERVED = {
  model: Type.String({ minLength: 1, maxLength: 200, description: "The provider's own name" }),
  base_url: Type.Optional(Type.String({ pattern: "^https?://" })),
  provider: Type.Optional(
    Type.Union([
      Type.Literal("openai"),
      Type.Literal("anthropic"),
      Type.Literal("vllm"),
      Type.Literal("scripted"),
    ]),
  ),
  wires: Type.Optional(Type.Array(Wire, { minItems: 1 })),
  api_key_env: Type.Optional(
    Type.String({
      pattern: "^[A-Z][A-Z0-9_]{0,54}_API_KEY$",
      description: "the orchestrator's environment variable with the key; ends in _API_KEY",
    }),
  ),
  price: Type.Optional(PriceTerms),
};

export type FallbackEntry = Static<typeof FallbackEntry>;
export const FallbackEntry = Type.Object(SERVED, { additionalProperties: false });

const ModelEntry = Type.Object(
  {
    ...SERVED,
    context_tokens: Type.Optional(Type.Integer({ minimum: 1024, maximum: 10_000_000 })),
    max_output_tokens: Type.Optional(Type.Integer({ minimum: 256, maximum: 1_000_000 })),
    fallbacks: Type.Optional(
      Type.Array(FallbackEntry, {
        minItems: 1,
        maxItems: 5,
        description: "asked in this order when the model's own provider cannot answer",
      }),
    ),
  },
  { additionalProperties: false },
);

/** Money that comes again and again, at midnight in the project's time zone. */
export type TopUpEntry = Static<typeof TopUpEntry>;
const TopUpEntry = Type.Object(
  {
    amount: UnitsText,
    every: Type.Union([Type.Literal("week"), Type.Literal("two_weeks"), Type.Literal("month")], {
      description: "one of week, two_weeks, month",
    }),
    starting: Type.String({
      pattern: "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
      description: "the day of the first one, such as 2026-11-01",
    }),
  },
  { additionalProperties: false },
);

const TokenCount = Type.Integer({
  minimum: 1,
  maximum: Number.MAX_SAFE_INTEGER,
  description: "a whole number of tokens, such as 2000000",
});

/** Input, cached input and output tokens together, as they are billed. */
const TokenBudget = Type.Object(
  { total: TokenCount, per_trial: TokenCount, daily: Type.Optional(TokenCount) },
  { additionalProperties: false },
);

const Alerts = Type.Array(Type.Integer({ minimum: 1, maximum: 100 }), {
  maxItems: 20,
  uniqueItems: true,
  description: "percents from 1 to 100, such as [50, 80, 90, 95, 100]",
});

const Size = Type.String({
  pattern: "^[1-9][0-9]{0,5}(MiB|GiB|TiB)$",
  description: "a size such as 16GiB, in MiB, GiB or TiB",
});
const MachineName = Type.String({
  pattern: "^[a-z0-9][a-z0-9-]{0,62}$",
  description: "a name of up to 63 of a-z, 0-9 and -",
});

/** What a trial's worker must have; a task may ask for more of a figure. */
const WorkersWanted = Type.Object(
  {
    pool: Type.Optional(MachineName),
    cpus: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 65_536, description: "a whole number from 1 to 65536" }),
    ),
    memory: Type.Optional(Size),
    disk: Type.Optional(Size),
    gpus: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 64, description: "a whole number from 0 to 64" }),
    ),
    gpu_memory: Type.Optional(Size),
    vm_template: Type.Optional(MachineName),
  },
  { additionalProperties: false },
);

export type PairEntry = Static<typeof PairEntry>;
export const PairEntry = Type.Object(
  { normal: ModelEntry, thinking: ModelEntry },
  { additionalProperties: false },
);

export type ProjectFile = Static<typeof ProjectFile>;
export const ProjectFile = Type.Object(
  {
    project: Name,
    currency: CurrencyCode,
    time_zone: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    budget: Type.Object(
      {
        total: UnitsText,
        daily_allowance: Type.Optional(UnitsText),
        per_trial: UnitsText,
        carry_over: Type.Optional(UnitsText),
        top_ups: Type.Optional(Type.Array(TopUpEntry, { minItems: 1, maxItems: 20 })),
        tokens: Type.Optional(TokenBudget),
        alerts: Type.Optional(Alerts),
      },
      { additionalProperties: false },
    ),
    agents: Type.Optional(Type.Array(Type.String(), { minItems: 1 })),
    pairs: Type.Optional(Type.Array(Type.String(), { minItems: 1 })),
    models: Type.Optional(Type.Record(Name, PairEntry)),
    tasks: Type.Optional(Type.Array(Type.String(), { minItems: 1 })),
    egress: Type.Optional(
      Type.Union([Type.Literal("deny"), Type.Literal("open"), EgressPolicy], {
        description: "deny, open, or a policy with rules and presets",
      }),
    ),
    retention: Type.Optional(Retention),
    workers: Type.Optional(WorkersWanted),
    limits: Type.Optional(
      Type.Object(
        {
          wall_ms: Type.Optional(Type.Integer({ minimum: 1_000, maximum: 604_800_000 })),
          idle_ms: Type.Optional(Type.Integer({ minimum: 1_000, maximum: 86_400_000 })),
          concurrency: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
          retries: Type.Optional(Type.Integer({ minimum: 0, maximum: 10 })),
          /** How many checkpoints a trial keeps. */
          checkpoints: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false, $id: "https://autocode.invalid/schemas/autocode.yaml/v1" },
);

/** `POST /api/v1/projects`: the file's text and the folder its relative task paths start from. */
export const NewProject = Type.Object(
  {
    file_text: Type.String({ minLength: 1, maxLength: 1_000_000 }),
    file_name: Type.String({ minLength: 1, maxLength: 4096, description: "For error messages" }),
    folder: Type.String({ minLength: 1, maxLength: 4096 }),
  },
  { additionalProperties: false },
);
export type NewProject = Static<typeof NewProject>;

export type Project = Static<typeof Project>;
export const Project = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    currency: CurrencyCode,
    time_zone: Type.String(),
    per_trial_nanos: NanosText,
    daily_allowance_nanos: Type.Union([NanosText, Type.Null()]),
    agents: Type.Array(Type.String()),
    pairs: Type.Array(Type.String()),
    tasks: Type.Array(Type.String()),
    balance: Balance,
    today: Type.Union([Balance, Type.Null()], {
      description: "The day's allowance, when the project has one",
    }),
    trial_counts: Type.Record(Type.String(), Type.Integer({ minimum: 0 })),
    created_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

export type Task = Static<typeof Task>;
export const Task = Type.Object(
  {
    id: Type.String(),
    project: Type.String(),
    name: Type.String(),
    instruction: Type.String(),
    base_commit: Type.String(),
    has_hidden_tests: Type.Boolean(),
    test: Type.String({ description: "The command or script that decides" }),
    source: Type.String(),
    created_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

/** `POST /api/v1/projects/:name/tasks`: a task folder on the orchestrator's machine. */
export type NewTask = Static<typeof NewTask>;
export const NewTask = Type.Object(
  { folder: Type.String({ minLength: 1, maxLength: 4096 }) },
  { additionalProperties: false },
);

export type ProjectList = Static<typeof ProjectList>;
export const ProjectList = Type.Object(
  { projects: Type.Array(Project) },
  { additionalProperties: false },
);

export type TaskList = Static<typeof TaskList>;
export const TaskList = Type.Object({ tasks: Type.Array(Task) }, { additionalProperties: false });
