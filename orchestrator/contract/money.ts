/** Money on the wire. */
import { type Static, Type } from "typebox";

/** An integer amount in nano-units, as a decimal string: JSON numbers stop being exact at 2^53. */
export const NanosText = Type.String({
  pattern: "^(0|[1-9][0-9]{0,18})$",
  description: "Nano-units of the currency, an integer as text: 1 CAD is 1000000000",
  examples: ["1500000000"],
});

/** The same, where less than nothing can be meant: a loss, an overdrawn account. */
export const SignedNanosText = Type.String({
  pattern: "^(0|-?[1-9][0-9]{0,18})$",
  description: "Nano-units of the currency, an integer as text, negative below nothing",
  examples: ["-1500000000"],
});

export const CurrencyCode = Type.String({
  pattern: "^[A-Z]{3}$",
  description: "ISO 4217 code; TOK: tokens, whose amounts are whole tokens and not nano-units",
  examples: ["CAD"],
});

export type Amount = Static<typeof Amount>;
export const Amount = Type.Object(
  { amount_nanos: NanosText, currency: CurrencyCode },
  { additionalProperties: false },
);

/** funded − reserved − spent = available, always at least 0. */
export type Balance = Static<typeof Balance>;
export const Balance = Type.Object(
  {
    currency: CurrencyCode,
    funded_nanos: NanosText,
    reserved_nanos: NanosText,
    spent_nanos: NanosText,
    available_nanos: NanosText,
  },
  { additionalProperties: false },
);
