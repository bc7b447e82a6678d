/** Approvals on the wire: what waits for a person's answer. */
import { type Static, Type } from "typebox";
import { EgressRule } from "./egress.ts";
import { CurrencyCode, NanosText } from "./money.ts";

/** What the trial will still cost, beyond what it has. Null in a fact: not enough evidence. */
export type ForecastFacts = Static<typeof ForecastFacts>;
export const ForecastFacts = Type.Object(
  {
    low_nanos: NanosText,
    high_nanos: NanosText,
    swap_nanos: Type.Optional(
      Type.String({
        ...NanosText,
        description: "Of high_nanos, for loading its pair again; absent: nothing, or not known",
      }),
    ),
    confidence_percent: Type.Integer({
      minimum: 0,
      maximum: 100,
      description: "How probable it is that the cost lies between them",
    }),
    basis: Type.Union([Type.Literal("finished_trials"), Type.Literal("own_calls")]),
    evidence_count: Type.Integer({ minimum: 1, description: "How many trials, or calls" }),
  },
  { additionalProperties: false },
);

/** What a person must know to decide; fixed when the approval is filed. */
export type ApprovalFacts = Static<typeof ApprovalFacts>;
export const ApprovalFacts = Type.Object(
  {
    currency: CurrencyCode,
    limit_nanos: NanosText,
    spent_nanos: NanosText,
    shortage: Type.Union(
      [
        Type.Object({
          /** Whose budget was short: the trial's, its day's, its project's, the organisation's. */
          level: Type.String(),
          account_id: Type.String(),
          unit: Type.String({ description: "The currency, or TOK for tokens" }),
          required_nanos: NanosText,
          available_nanos: NanosText,
        }),
        Type.Null(),
      ],
      { description: "What the gateway refused; null where the CLI alone said so" },
    ),
    forecast: Type.Union([ForecastFacts, Type.Null()], {
      description: "Null: there is not enough evidence",
    }),
    suggested_nanos: NanosText,
    checkpoint: Type.Object({
      files_changed: Type.Integer({ minimum: 0 }),
      lines_added: Type.Integer({ minimum: 0 }),
      lines_removed: Type.Integer({ minimum: 0 }),
      completed_phases: Type.Array(Type.String()),
      has_session: Type.Boolean({ description: "The CLI goes on in its conversation" }),
    }),
  },
  { additionalProperties: false },
);

/** Rules that a person is asked to add to the project's egress policy. */
export type EgressRuleFacts = Static<typeof EgressRuleFacts>;
export const EgressRuleFacts = Type.Object(
  {
    rules: Type.Array(EgressRule, { minItems: 1, maxItems: 50 }),
    flow_ids: Type.Array(Type.String(), { maxItems: 50, description: "What was refused" }),
    /** Of the project file's `egress`, as a unified diff. */
    diff: Type.String(),
    /** The lines for the project's file: applied without them, it takes the rules back. */
    yaml: Type.String(),
    note: Type.String(),
  },
  { additionalProperties: false },
);

export const APPROVAL_KINDS = ["budget", "egress_rule"] as const;

export const APPROVAL_STATES = ["open", "granted", "rejected", "superseded"] as const;
export type ApprovalState = (typeof APPROVAL_STATES)[number];
export const ApprovalState = Type.Enum(APPROVAL_STATES);

export type Approval = Static<typeof Approval>;
export const Approval = Type.Object(
  {
    id: Type.String(),
    trial_id: Type.String(),
    project: Type.String(),
    kind: Type.Enum(APPROVAL_KINDS),
    state: ApprovalState,
    /** Null in approvals of before there were facts. */
    facts: Type.Union([ApprovalFacts, Type.Null()]),
    /** Of kind `egress_rule`; `facts` is null then. */
    egress: Type.Union([EgressRuleFacts, Type.Null()]),
    content_sha256: Type.String({
      description: "Of what is asked: an answer names it, so that nobody approves something else",
    }),
    reason: Type.Union([Type.String(), Type.Null()], { description: "Why it was rejected" }),
    topped_up_nanos: Type.Union([NanosText, Type.Null()]),
    created_at: Type.String({ format: "date-time" }),
    resolved_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()]),
  },
  { additionalProperties: false },
);

export type ApprovalList = Static<typeof ApprovalList>;
export const ApprovalList = Type.Object(
  { approvals: Type.Array(Approval) },
  { additionalProperties: false },
);

const ContentHash = Type.String({ pattern: "^[0-9a-f]{64}$" });

export type Approve = Static<typeof Approve>;
export const Approve = Type.Object(
  {
    content_sha256: ContentHash,
    amount_nanos: Type.Optional(NanosText),
  },
  { additionalProperties: false },
);

export type Reject = Static<typeof Reject>;
export const Reject = Type.Object(
  {
    content_sha256: ContentHash,
    reason: Type.String({ minLength: 1, maxLength: 1_000 }),
  },
  { additionalProperties: false },
);
