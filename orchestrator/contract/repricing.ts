/** A trial's calls charged again, at other prices: what it would have cost. Nothing is moved. */
import { type Static, Type } from "typebox";
import { Side } from "./agents.ts";
import { CurrencyCode, NanosText, SignedNanosText } from "./money.ts";

/** `POST /api/v1/trials/:id/reprice`; `{}` charges each call again by its own price. */
export type RepriceRequest = Static<typeof RepriceRequest>;
export const RepriceRequest = Type.Object(
  {
    book: Type.Optional(
      Type.String({ minLength: 1, maxLength: 900_000, description: "The text of a prices.yaml" }),
    ),
    pair: Type.Optional(
      Type.String({ maxLength: 100, description: "Another pair: its model of the call's side" }),
    ),
    at: Type.Optional(
      Type.String({
        format: "date-time",
        description: "At the prices in force then; else at those of each call's own time",
      }),
    ),
  },
  { additionalProperties: false },
);

export type ChargeBasis = Static<typeof ChargeBasis>;
export const ChargeBasis = Type.Union(
  [Type.Literal("usage"), Type.Literal("reservation"), Type.Literal("nothing")],
  {
    description:
      "What it was charged for: its usage; all of its reservation, which had expired or was " +
      "exceeded; or nothing, since it brought nothing",
  },
);

export type RepricedCall = Static<typeof RepricedCall>;
export const RepricedCall = Type.Object(
  {
    call_id: Type.String(),
    side: Side,
    started_at: Type.String({ format: "date-time" }),
    input_tokens: Type.Integer({ minimum: 0, description: "Of every kind together" }),
    output_tokens: Type.Integer({ minimum: 0 }),
    is_estimated: Type.Boolean(),
    basis: ChargeBasis,
    charged: Type.Object(
      { model: Type.String(), price_version: Type.String(), cost_nanos: NanosText },
      { additionalProperties: false },
    ),
    repriced: Type.Object(
      { model: Type.String(), price_version: Type.String(), cost_nanos: NanosText },
      { additionalProperties: false },
    ),
    difference_nanos: SignedNanosText,
  },
  { additionalProperties: false },
);

export type Repricing = Static<typeof Repricing>;
export const Repricing = Type.Object(
  {
    trial_id: Type.String(),
    currency: CurrencyCode,
    charged_nanos: NanosText,
    repriced_nanos: NanosText,
    difference_nanos: SignedNanosText,
    swap_nanos: Type.String({
      ...NanosText,
      description: "For swaps of models, in both sums: they stay as they were charged",
    }),
    estimated_count: Type.Integer({ minimum: 0 }),
    /** Costs of these do not follow from their usage, so neither does the difference. */
    reservation_count: Type.Integer({ minimum: 0 }),
    calls: Type.Array(RepricedCall),
  },
  { additionalProperties: false },
);
