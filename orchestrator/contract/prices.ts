/** Prices: as people write them in a book or a project's file, and as the API explains them. */
import { type Static, Type } from "typebox";
import { CurrencyCode, NanosText } from "./money.ts";

/** An amount or a measure as people write it: at most nine digits, nine decimals, never a float. */
export const DecimalText = Type.String({
  pattern: "^[0-9]{1,9}([.][0-9]{1,9})?$",
  description: 'A decimal as text: "12.50"',
  examples: ["12.50"],
});
const Source = Type.String({ minLength: 1, maxLength: 500 });

const KINDS = {
  input: DecimalText,
  cache_read: Type.Optional(DecimalText),
  cache_write: Type.Optional(DecimalText),
  cache_write_long: Type.Optional(
    Type.String({ ...DecimalText, description: "What a cache keeps for an hour" }),
  ),
  output: DecimalText,
};

export type PriceTierTerms = Static<typeof PriceTierTerms>;
export const PriceTierTerms = Type.Object(
  { above_input_tokens: Type.Integer({ minimum: 1, maximum: 100_000_000 }), ...KINDS },
  {
    additionalProperties: false,
    description: "Every token of a call whose input is above this is charged at these prices",
  },
);

export type GpuTerms = Static<typeof GpuTerms>;
export const GpuTerms = Type.Object(
  {
    rate_per_gpu_hour: DecimalText,
    energy: Type.Optional(
      Type.Object(
        { watts_per_gpu: DecimalText, price_per_kwh: DecimalText },
        { additionalProperties: false, description: "Where the hourly rate is without it" },
      ),
    ),
    gpus: Type.Integer({ minimum: 1, maximum: 10_000 }),
    input_tokens_per_second: DecimalText,
    cache_read_tokens_per_second: Type.Optional(DecimalText),
    output_tokens_per_second: DecimalText,
    utilisation: Type.String({
      ...DecimalText,
      description: "The share of the paid hours in which it serves: above 0, at most 1",
    }),
    source: Source,
  },
  {
    additionalProperties: false,
    description: "A model on own GPUs: hours paid over tokens served, at what the server measured",
  },
);

/** By the token (`input` and `output`), or by the GPU-hour (`gpu` alone). */
export type PriceTerms = Static<typeof PriceTerms>;
export const PriceTerms = Type.Object(
  {
    ...KINDS,
    input: Type.Optional(DecimalText),
    output: Type.Optional(DecimalText),
    tiers: Type.Optional(Type.Array(PriceTierTerms, { minItems: 1, maxItems: 10 })),
    gpu: Type.Optional(GpuTerms),
  },
  { additionalProperties: false, description: "Units of the currency for a million tokens" },
);

const RATES = {
  input_nanos_per_million: NanosText,
  cache_read_nanos_per_million: NanosText,
  cache_write_nanos_per_million: NanosText,
  long_cache_write_nanos_per_million: NanosText,
  output_nanos_per_million: NanosText,
};

export type ModelPrice = Static<typeof ModelPrice>;
export const ModelPrice = Type.Object(
  {
    model: Type.String(),
    currency: CurrencyCode,
    version: Type.String({ description: "Names the entry, and the exchange rate it was taken at" }),
    ...RATES,
    tiers: Type.Array(
      Type.Object(
        { above_input_tokens: Type.Integer({ minimum: 1 }), ...RATES },
        { additionalProperties: false },
      ),
    ),
    gpu: Type.Union([
      Type.Null(),
      Type.Object(
        {
          input_gpu_ms_per_million: NanosText,
          cache_read_gpu_ms_per_million: NanosText,
          output_gpu_ms_per_million: NanosText,
        },
        { additionalProperties: false, description: "Time, times GPUs, for a million tokens" },
      ),
    ]),
  },
  { additionalProperties: false },
);

export type PriceStep = Static<typeof PriceStep>;
export const PriceStep = Type.Object(
  {
    what: Type.String({ examples: ["entry", "output", "exchange"] }),
    calculation: Type.String({ examples: ["3.00 USD x 1.40 CAD/USD = 4.20 CAD"] }),
    source: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

/** How a price comes about, a step at a time. */
export type PriceReport = Static<typeof PriceReport>;
export const PriceReport = Type.Object(
  {
    at: Type.String({ format: "date-time" }),
    price: ModelPrice,
    steps: Type.Array(PriceStep),
    entries: Type.Array(
      Type.Object(
        {
          currency: CurrencyCode,
          effective_from: Type.String(),
          source: Type.String(),
          is_in_force: Type.Boolean({ description: "It is what the price above is made of" }),
        },
        { additionalProperties: false },
      ),
      { description: "Every entry of the model, newest first" },
    ),
  },
  { additionalProperties: false },
);

export type PriceList = Static<typeof PriceList>;
export const PriceList = Type.Object(
  { prices: Type.Array(ModelPrice) },
  { additionalProperties: false },
);
