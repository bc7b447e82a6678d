/**
 * What the tokens of a planned engine cost: the hour of its GPUs over what it serves in it. Pure.
 *
 * Engines that share GPUs share their time: while one works, the other waits. So each token is
 * charged for all the GPUs that it has to itself while it is made, at the speed of its engine when
 * it works alone; both engines' charges then add up to the hours that are paid, and not to less,
 * since every division rounds up. GPUs of the plan that no engine uses are paid as well: each that
 * works carries its part of them.
 */
import type { ModelPlan, PlanRequest } from "../orchestrator/contract/models.ts";
import type { GpuTerms } from "../orchestrator/contract/prices.ts";
import { ceilDiv, NANOS_PER_UNIT } from "../orchestrator/money.ts";
import { decimalText, readDecimal } from "./decimal.ts";
import type { Gpu } from "./gpu.ts";
import { ownPrice } from "./own-price.ts";
import type { PriceBook } from "./prices.ts";
import { CatalogError } from "./yaml-file.ts";

export const UTILISATION = "0.5";

export interface HourRate {
  readonly currency: string;
  readonly perGpuHour: string;
  readonly source: string;
}

/**
 * The request's rate, or the hardware table's; in the request's currency, if the book can convert.
 *
 * @throws CatalogError when it cannot.
 */
export function hourRate(request: PlanRequest, { rate }: Gpu, { fx }: PriceBook): HourRate {
  const currency = request.currency ?? rate.currency;
  if (request.rate_per_gpu_hour !== undefined) {
    return { currency, perGpuHour: request.rate_per_gpu_hour, source: "as asked" };
  }
  if (currency === rate.currency) {
    return { currency, perGpuHour: rate.perHour, source: rate.source };
  }
  const [newest] = fx
    .filter(({ from, to }) => from === rate.currency && to === currency)
    .sort((a, b) => b.effectiveFromMs - a.effectiveFromMs);
  if (newest === undefined) {
    throw new CatalogError(
      `currency: no rate from ${rate.currency} to ${currency} in prices.yaml; ` +
        "give rate_per_gpu_hour in it",
    );
  }
  const perGpuHour = decimalText(
    ceilDiv(readDecimal(rate.perHour) * newest.rateNanos, NANOS_PER_UNIT),
    2,
  );
  const exchange = `1 ${rate.currency} = ${decimalText(newest.rateNanos, 2)} ${currency}`;
  return { currency, perGpuHour, source: `${rate.source}; ${exchange}: ${newest.source}` };
}

export interface PricedEngine {
  readonly request: PlanRequest;
  readonly gpu: Gpu;
  readonly rate: HourRate;
  /** GPUs that it has to itself while it works, and those of the machine that no engine uses. */
  readonly gpus: number;
  readonly usedGpus: number;
  readonly inputTokensPerSecond: number;
  readonly outputTokensPerSecond: number;
}

export function engineTerms(engine: PricedEngine): GpuTerms {
  const { request, gpu, rate, gpus, usedGpus } = engine;
  const { price_per_kwh: perKwh, gpu_count: paidGpus } = request;
  // What the idle ones cost is on those that work.
  const withIdle = (text: string) =>
    decimalText(ceilDiv(readDecimal(text) * BigInt(paidGpus), BigInt(usedGpus)), 2);
  return {
    rate_per_gpu_hour: withIdle(rate.perGpuHour),
    ...(perKwh === undefined
      ? {}
      : { energy: { watts_per_gpu: withIdle(String(gpu.watts)), price_per_kwh: perKwh } }),
    gpus,
    input_tokens_per_second: tokensText(engine.inputTokensPerSecond),
    output_tokens_per_second: tokensText(engine.outputTokensPerSecond),
    utilisation: request.utilisation ?? UTILISATION,
    source: `planned, not measured: ${gpu.name}, ${rate.source}`.slice(0, 500),
  };
}

/** @throws CatalogError for a utilisation or a rate that is none. */
export function enginePrice(terms: GpuTerms, currency: string): NonNullable<ModelPlan["price"]> {
  const price = ownPrice(terms, (field, message) => new CatalogError(`${field}: ${message}`));
  return {
    currency,
    terms,
    input_nanos_per_million: String(price.input.nanosPerMillion),
    output_nanos_per_million: String(price.output.nanosPerMillion),
  };
}

/** Rounded down: a price must not be short of what is paid. */
function tokensText(perSecond: number): string {
  return (Math.floor(perSecond * 100) / 100).toFixed(2);
}
