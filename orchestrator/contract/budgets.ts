/** Budgets on the wire: balances at every level, statements, top-ups, and reports of money. */
import { type Static, Type } from "typebox";
import { Balance, CurrencyCode, NanosText, SignedNanosText } from "./money.ts";

/** Marks at which people are told, in percent of what was funded, unless a file says others. */
export const ALERT_PERCENTS: readonly number[] = [50, 80, 90, 95, 100];

const Time = Type.String({ format: "date-time" });
const Note = Type.String({ minLength: 1, maxLength: 500, description: "For people: why" });

/** `POST …/topup` and `…/income`, with an `Idempotency-Key` header: the money moves once. */
export type TopUp = Static<typeof TopUp>;
export const TopUp = Type.Object(
  {
    amount_nanos: NanosText,
    currency: Type.Union([CurrencyCode], {
      description: "The budget's currency; TOK tops up its token budget, amount_nanos in tokens",
    }),
    note: Type.Optional(Note),
  },
  { additionalProperties: false },
);

export type Budget = Static<typeof Budget>;
export const Budget = Type.Object(
  {
    owner: Type.String({ examples: ["project/project_01j…", "trial/trial_01j…"] }),
    balance: Balance,
  },
  { additionalProperties: false },
);

export type BudgetList = Static<typeof BudgetList>;
export const BudgetList = Type.Object(
  { budgets: Type.Array(Budget) },
  { additionalProperties: false },
);

export type BudgetScope = Static<typeof BudgetScope>;
export const BudgetScope = Type.Union(
  [
    Type.Literal("organisation"),
    Type.Literal("project"),
    Type.Literal("day"),
    Type.Literal("trial"),
  ],
  { description: "How far the budget reaches; each encloses the next" },
);

/** How fast a budget is used, and when it will be used up if that goes on. */
export type BurnRate = Static<typeof BurnRate>;
export const BurnRate = Type.Object(
  {
    last_hour_nanos: NanosText,
    last_day_nanos: NanosText,
    basis: Type.Union(
      [
        Type.Literal("last_hour"),
        Type.Literal("last_day"),
        Type.Literal("not_spending"),
        Type.Literal("not_enough_history"),
        Type.Literal("not_limited"),
        Type.Literal("exhausted"),
      ],
      { description: "What the projection goes by, or why there is none" },
    ),
    exhausted_at: Type.Union([Time, Type.Null()], {
      description: "When it is used up at that pace; null without a projection",
    }),
    lasts_the_day: Type.Boolean({ description: "Of a day's budget: it ends before it is used up" }),
  },
  { additionalProperties: false },
);

export type BudgetLevel = Static<typeof BudgetLevel>;
export const BudgetLevel = Type.Object(
  {
    scope: BudgetScope,
    owner: Type.String(),
    balance: Balance,
    is_limited: Type.Boolean({ description: "Whether reserved + spent must stay within funded" }),
    alerts: Type.Array(Type.Integer(), { description: "Percents at which people are told" }),
    passed: Type.Array(Type.Integer(), { description: "Those that its spending has reached" }),
    burn: BurnRate,
  },
  { additionalProperties: false },
);

export type NextTopUp = Static<typeof NextTopUp>;
export const NextTopUp = Type.Object(
  {
    at: Time,
    date: Type.String({ format: "date" }),
    every: Type.String(),
    amount_nanos: NanosText,
  },
  { additionalProperties: false },
);

/** `GET /api/v1/budgets/:name`, now or at a past time. */
export type BudgetReport = Static<typeof BudgetReport>;
export const BudgetReport = Type.Object(
  {
    name: Type.String({ description: "The project's name, or the trial's id" }),
    project: Type.String(),
    owner: Type.String(),
    balance: Balance,
    at: Time,
    time_zone: Type.String(),
    levels: Type.Array(BudgetLevel, { description: "Money first, then tokens; outermost first" }),
    next_top_up: Type.Union([NextTopUp, Type.Null()]),
  },
  { additionalProperties: false },
);

export type StatementLine = Static<typeof StatementLine>;
export const StatementLine = Type.Object(
  {
    transfer_id: Type.String(),
    kind: Type.String({ description: "direct, pending, post or void" }),
    reason: Type.String(),
    debit: Type.String(),
    credit: Type.String(),
    amount_nanos: NanosText,
    available_nanos: Type.Union([SignedNanosText, Type.Null()], {
      description: "What this budget had available after it",
    }),
    note: Type.Union([Type.String(), Type.Null()]),
    reverses_id: Type.Union([Type.String(), Type.Null()], {
      description: "The transfer that this one takes back",
    }),
    at: Time,
  },
  { additionalProperties: false },
);

export type Statement = Static<typeof Statement>;
export const Statement = Type.Object(
  {
    owner: Type.String(),
    balance: Balance,
    lines: Type.Array(StatementLine),
    next_cursor: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

export type BudgetEvent = Static<typeof BudgetEvent>;
export const BudgetEvent = Type.Object(
  {
    seq: Type.Integer(),
    scope: BudgetScope,
    owner: Type.String(),
    kind: Type.Union([
      Type.Literal("threshold"),
      Type.Literal("replenished"),
      Type.Literal("lapsed"),
    ]),
    percent: Type.Union([Type.Integer(), Type.Null()]),
    currency: CurrencyCode,
    funded_nanos: NanosText,
    spent_nanos: NanosText,
    at: Time,
  },
  { additionalProperties: false },
);

export type BudgetEventList = Static<typeof BudgetEventList>;
export const BudgetEventList = Type.Object(
  { events: Type.Array(BudgetEvent), next_cursor: Type.Union([Type.String(), Type.Null()]) },
  { additionalProperties: false },
);

/** What was earned with a project's or a trial's work. */
export type Income = Static<typeof Income>;
export const Income = Type.Object(
  { owner: Type.String(), currency: CurrencyCode, income_nanos: NanosText },
  { additionalProperties: false },
);

export type ProfitRow = Static<typeof ProfitRow>;
export const ProfitRow = Type.Object(
  {
    agent: Type.Union([
      Type.String({ description: "Null: income of the project, of no one trial" }),
      Type.Null(),
    ]),
    pair: Type.Union([Type.String(), Type.Null()]),
    trials: Type.Integer(),
    passed: Type.Integer(),
    income_nanos: NanosText,
    cost_nanos: NanosText,
    result_nanos: SignedNanosText,
  },
  { additionalProperties: false },
);

export type ProfitReport = Static<typeof ProfitReport>;
export const ProfitReport = Type.Object(
  {
    project: Type.String(),
    currency: CurrencyCode,
    income_nanos: NanosText,
    cost_nanos: NanosText,
    result_nanos: SignedNanosText,
    rows: Type.Array(ProfitRow),
  },
  { additionalProperties: false },
);

export type CostGrouping = Static<typeof CostGrouping>;
export const CostGrouping = Type.Union([
  Type.Literal("agent_pair"),
  Type.Literal("agent"),
  Type.Literal("pair"),
  Type.Literal("task"),
  Type.Literal("phase"),
]);

export type CostRow = Static<typeof CostRow>;
export const CostRow = Type.Object(
  {
    group: Type.String(),
    trials: Type.Integer(),
    passed: Type.Integer(),
    tokens: NanosText,
    cost_nanos: NanosText,
    cost_per_success_nanos: Type.Union([NanosText, Type.Null()], {
      description: "All spending over the trials that passed, rounded up; null when none did",
    }),
  },
  { additionalProperties: false },
);

export type CostReport = Static<typeof CostReport>;
export const CostReport = Type.Object(
  {
    project: Type.String(),
    currency: CurrencyCode,
    by: CostGrouping,
    trials: Type.Integer(),
    passed: Type.Integer(),
    cost_nanos: NanosText,
    cost_per_success_nanos: Type.Union([NanosText, Type.Null()]),
    rows: Type.Array(CostRow),
  },
  { additionalProperties: false },
);

export type AdherenceRow = Static<typeof AdherenceRow>;
export const AdherenceRow = Type.Object(
  {
    scope: BudgetScope,
    owner: Type.String(),
    currency: CurrencyCode,
    limit_nanos: NanosText,
    peak_nanos: Type.Union([NanosText], { description: "The most ever reserved + spent" }),
    peak_at: Type.Union([Time, Type.Null()]),
    least_available_nanos: Type.Union([SignedNanosText], {
      description: "The least that was ever left; never below 0 where the budget held",
    }),
    is_within: Type.Boolean(),
  },
  { additionalProperties: false },
);

/** Every limited budget of a project over its whole history, recomputed from the transfers. */
export type AdherenceReport = Static<typeof AdherenceReport>;
export const AdherenceReport = Type.Object(
  {
    project: Type.String(),
    is_within: Type.Boolean({ description: "Of every budget, also those on other pages" }),
    budget_count: Type.Integer(),
    rows: Type.Array(AdherenceRow),
    next_cursor: Type.Union([Type.String(), Type.Null()]),
    journal: Type.Union(
      [
        Type.Object(
          {
            position: Type.Integer(),
            chain: Type.String({ description: "SHA-256 of all entries up to it, in hexadecimal" }),
            key_id: Type.String(),
            signed_at: Time,
            covered_transfers: Type.Integer({ description: "Of the project, in the signed part" }),
            all_transfers: Type.Integer(),
          },
          { additionalProperties: false },
        ),
        Type.Null(),
      ],
      { description: "The last signed checkpoint of the journal; null before the first" },
    ),
  },
  { additionalProperties: false },
);
