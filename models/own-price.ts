/**
 * What a token of a model on own GPUs costs: the hours that are paid, over the tokens that are
 * served in them. Pure, and exact: every figure is a decimal, every division is one of integers,
 * rounded up once.
 *
 *     nanos of a million tokens = hourly rate x GPUs x 10^6 / (3600 x tokens/s x utilisation)
 *     hourly rate of a GPU      = rate_per_gpu_hour + watts_per_gpu / 1000 x price_per_kwh
 */
import type { GpuTerms } from "../orchestrator/contract/prices.ts";
import { ceilDiv, type Nanos } from "../orchestrator/money.ts";
import { readDecimal } from "./decimal.ts";

/** Every decimal is held in billionths, as an amount is in nano-units. */
const BILLION = 1_000_000_000n;
const MILLION = 1_000_000n;
const SECONDS_PER_HOUR = 3_600n;
const MS_PER_SECOND = 1_000n;
const WATTS_PER_KILOWATT = 1_000n;

export interface OwnPrice {
  /** Of all its GPUs for an hour; rounded up, for people: prices are computed from the fraction. */
  hourNanos: Nanos;
  input: Speed;
  cacheRead: Speed;
  output: Speed;
}

/** One kind of token: what a million of them cost, and the GPU time (times GPUs) they take. */
export interface Speed {
  tokensPerSecond: string;
  nanosPerMillion: Nanos;
  gpuMsPerMillion: bigint;
}

/** @param fault makes the error of a field that is wrong; what it makes is thrown. */
export function ownPrice(
  terms: GpuTerms,
  fault: (field: string, message: string) => Error,
): OwnPrice {
  const utilisation = positive("utilisation", terms.utilisation);
  if (utilisation > BILLION) throw fault("utilisation", "must be at most 1");
  const gpus = BigInt(terms.gpus);
  // In 1/(1000 x 10^9) of a nano-unit, so that the watts need no rounding.
  const fraction = WATTS_PER_KILOWATT * BILLION;
  const hour =
    (readDecimal(terms.rate_per_gpu_hour) * fraction +
      readDecimal(terms.energy?.watts_per_gpu ?? "0") *
        readDecimal(terms.energy?.price_per_kwh ?? "0")) *
    gpus;

  const { input_tokens_per_second: inputSpeed, output_tokens_per_second: outputSpeed } = terms;
  const cacheReadSpeed = terms.cache_read_tokens_per_second;
  return {
    hourNanos: ceilDiv(hour, fraction),
    input: speed("input_tokens_per_second", inputSpeed),
    cacheRead: speed("cache_read_tokens_per_second", cacheReadSpeed ?? inputSpeed),
    output: speed("output_tokens_per_second", outputSpeed),
  };

  function speed(field: string, tokensPerSecond: string): Speed {
    // Both decimals are in billionths, so their product is in billionths of billionths.
    const served = positive(field, tokensPerSecond) * utilisation;
    const nanosPerMillion = ceilDiv(
      hour * MILLION * BILLION * BILLION,
      fraction * SECONDS_PER_HOUR * served,
    );
    const gpuMsPerMillion = ceilDiv(gpus * MILLION * MS_PER_SECOND * BILLION * BILLION, served);
    if (nanosPerMillion >= BILLION * BILLION) {
      throw fault(field, "a million tokens would cost over 10^9 units: check the rate and this");
    }
    return { tokensPerSecond, nanosPerMillion, gpuMsPerMillion };
  }

  function positive(field: string, text: string): bigint {
    const value = readDecimal(text);
    if (value === 0n) throw fault(field, "must be more than 0");
    return value;
  }
}
