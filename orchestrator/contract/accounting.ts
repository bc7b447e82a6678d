/** Traffic held against the ledger: paid calls without an entry, and what others counted. */
import { type Static, Type } from "typebox";

const Tokens = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

/** An alarm until somebody answers it. */
export type UnmatchedCall = Static<typeof UnmatchedCall>;
export const UnmatchedCall = Type.Object(
  {
    id: Type.String({ description: "Of the flow, or of a call that has no flow" }),
    kind: Type.Union([Type.Literal("unpaid_flow"), Type.Literal("unrecorded_call")], {
      description: "A paid call without an entry in the ledger, or an entry without its record",
    }),
    project_id: Type.Union([Type.String(), Type.Null()]),
    trial_id: Type.Union([Type.String(), Type.Null()]),
    host: Type.String(),
    detail: Type.String(),
    found_at: Type.String({ format: "date-time" }),
    answered_at: Type.Union([Type.String({ format: "date-time" }), Type.Null()]),
    answer: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

export type UnmatchedCallList = Static<typeof UnmatchedCallList>;
export const UnmatchedCallList = Type.Object(
  { unmatched: Type.Array(UnmatchedCall, { description: "The newest first" }) },
  { additionalProperties: false },
);

export type UnmatchedAnswer = Static<typeof UnmatchedAnswer>;
export const UnmatchedAnswer = Type.Object(
  { because: Type.String({ minLength: 1, maxLength: 1000, description: "What was found out" }) },
  { additionalProperties: false },
);

/** A day of a model: what we settled, and what its provider or its engine counted. */
export type Reconciliation = Static<typeof Reconciliation>;
export const Reconciliation = Type.Object(
  {
    day: Type.String({ pattern: "^\\d{4}-\\d{2}-\\d{2}$", description: "In UTC" }),
    provider: Type.String(),
    model: Type.String({ description: "As its provider names it" }),
    our_input_tokens: Tokens,
    our_output_tokens: Tokens,
    their_input_tokens: Tokens,
    their_output_tokens: Tokens,
    is_matched: Type.Boolean(),
    detail: Type.String(),
    compared_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

export type ReconciliationReport = Static<typeof ReconciliationReport>;
export const ReconciliationReport = Type.Object(
  {
    rows: Type.Array(Reconciliation),
    sources: Type.Array(
      Type.Object(
        {
          provider: Type.String(),
          /** Null: it was asked, and answered. */
          fault: Type.Union([Type.String(), Type.Null()]),
        },
        { additionalProperties: false },
      ),
      { description: "Whose counts were asked for; empty where a report is only read" },
    ),
  },
  { additionalProperties: false },
);
