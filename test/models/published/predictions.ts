/** What the planner's own functions say of each published figure, and the page's tables of it. */
import type { Gpu } from "../../../models/gpu.ts";
import { ownPrice } from "../../../models/own-price.ts";
import {
  cacheBytesPerToken,
  cacheTokens,
  fixedMemory,
  fixedTotal,
  GIB,
} from "../../../models/plan-memory.ts";
import { speedOf } from "../../../models/plan-speed.ts";
import {
  CACHES,
  CALIBRATIONS,
  PRICES,
  type PublishedCache,
  type PublishedPrice,
  type PublishedSpeed,
  SPEEDS,
} from "./figures.ts";
import { weightsOf } from "./models.ts";

/** The bars P11 and P12. */
export const CACHE_BAR = 0.15;
export const CALIBRATED_BAR = 0.05;
export const SPEED_BAR = 0.25;
export const PRICE_BAR = 0.1;

/** GPUStack's rule for a language model: gpustack/policies/utils.py, estimate_model_vram. */
const GPUSTACK = { factor: 1.2, constantBytes: 2 * GIB };

export function predictCache(log: PublishedCache, overheadBytes?: number): number {
  const split = { tensor: log.tensor, pipeline: 1 };
  const fixed = fixedMemory(log.card, weightsOf(log.card, log.weights), split, {
    limits: log.limits,
    overheadBytes,
  });
  const graphs = log.countsGraphs ? 0 : fixed.cudaGraphs;
  const left = log.memoryGib * GIB * log.share - fixedTotal(fixed) + graphs;
  return cacheTokens(left, cacheBytesPerToken(log.card.architecture, split));
}

/** What such a log says of the overhead: its share, less weights and cache. */
export function overheadOf(log: PublishedCache): number {
  const split = { tensor: log.tensor, pipeline: 1 };
  const { weights } = fixedMemory(log.card, weightsOf(log.card, log.weights), split);
  const cache = log.tokens * cacheBytesPerToken(log.card.architecture, split);
  return log.memoryGib * GIB * log.share - weights - cache;
}

/** All that is beside the cache on each GPU: as the log has it, as we and as GPUStack say. */
export function besideCache(log: PublishedCache) {
  const split = { tensor: log.tensor, pipeline: 1 };
  const perToken = cacheBytesPerToken(log.card.architecture, split);
  const share = log.memoryGib * GIB * log.share;
  const { weightBytes } = weightsOf(log.card, log.weights);
  const rule = (weightBytes * GPUSTACK.factor + GPUSTACK.constantBytes) / log.tensor;
  return {
    log: share - log.tokens * perToken,
    ours: share - predictCache(log) * perToken,
    gpustack: rule,
  };
}

export function predictSpeed(published: PublishedSpeed, gpus: ReadonlyMap<string, Gpu>): number {
  const { card, limits, input, output } = published;
  const gpu = gpus.get(published.gpu);
  if (gpu === undefined) throw new Error(`hardware.yaml has no ${published.gpu}`);
  const split = { tensor: 1, pipeline: 1 };
  const weights = weightsOf(card, published.weights);
  const fixed = fixedMemory(card, weights, split, { limits });
  // vLLM's default then, and graphs beside it: all of these engines are older than 0.21.
  const left = gpu.memoryBytes * 0.9 - fixedTotal(fixed) + fixed.cudaGraphs;
  const tokens = cacheTokens(left, cacheBytesPerToken(card.architecture, split));
  const held = Math.max(1, Math.floor(tokens / (input + output)));
  const atOnce = Math.min(published.concurrency, held);
  const { step, prefill } = speedOf(card, weights, gpu, split);
  const seconds = step(atOnce, input + output / 2);
  if (published.unit === "step") return seconds * 1000;
  return (input + output) / (input / prefill(input) + (output * seconds) / atOnce);
}

/** In USD for a million output tokens. */
export function predictPrice(published: PublishedPrice): number {
  const price = ownPrice(
    {
      rate_per_gpu_hour: published.perGpuHour,
      gpus: published.gpus,
      input_tokens_per_second: published.tokensPerSecond,
      output_tokens_per_second: published.tokensPerSecond,
      utilisation: published.utilisation,
      source: published.source,
    },
    (field, message) => new Error(`${field}: ${message}`),
  );
  return Number(price.output.nanosPerMillion) / 1e9;
}

export function errorOf(predicted: number, published: number): number {
  return predicted / published - 1;
}

/** The generated part of docs/models.md. */
export function tables(gpus: ReadonlyMap<string, Gpu>): string {
  const caches = CACHES.map((log) => {
    const predicted = predictCache(log);
    const error = errorOf(predicted, log.tokens);
    const beside = besideCache(log);
    return row([
      `${log.what} (vLLM ${log.engine})`,
      count(log.tokens),
      count(predicted),
      `${percent(error)}${missed(error, CACHE_BAR)}`,
      `${gib(beside.log)} / ${gib(beside.ours)} / ${gib(beside.gpustack)}`,
      `${log.use}; ${log.source}`,
    ]);
  });
  const calibrated = CALIBRATIONS.map(([first, second]) => {
    const [from, to] = [named(first), named(second)];
    const predicted = predictCache(to, overheadOf(from));
    const error = errorOf(predicted, to.tokens);
    const cells = [first, gib(overheadOf(from)), second, count(to.tokens), count(predicted)];
    return row([...cells, percent(error)]);
  });
  const speeds = SPEEDS.map((published) => {
    const predicted = predictSpeed(published, gpus);
    const error = errorOf(predicted, published.figure);
    const unit = published.unit === "step" ? "ms a token" : "tokens/s";
    const digits = published.unit === "step" ? 2 : 0;
    return row([
      published.what,
      `${published.figure.toFixed(digits)} ${unit}`,
      predicted.toFixed(digits),
      `${percent(error)}${missed(error, SPEED_BAR)}`,
      `${published.use}; ${published.source}`,
    ]);
  });
  const prices = PRICES.map((published) => {
    const predicted = predictPrice(published);
    const { gpus: count, perGpuHour, tokensPerSecond } = published;
    const sum = `${count} x ${perGpuHour} at ${tokensPerSecond} tokens/s`;
    return row([
      `${published.what}: ${sum}`,
      published.utilisation,
      published.figure.toFixed(2),
      predicted.toFixed(2),
      percent(errorOf(predicted, published.figure)),
      published.source,
    ]);
  });
  return [
    "#### Cache, without calibration (bar: 15 %)",
    "",
    ...head([
      "log",
      "tokens",
      "planned",
      "error",
      "beside it, GiB: log / ours / GPUStack",
      "source",
    ]),
    ...caches,
    "",
    "#### Cache, after one log of the same engine (bar: 5 %)",
    "",
    ...head(["calibrated on", "overhead, GiB", "predicts", "tokens", "planned", "error"]),
    ...calibrated,
    "",
    "#### Speed (bar: 25 %)",
    "",
    ...head(["benchmark", "published", "planned", "error", "source"]),
    ...speeds,
    "",
    "#### Price of a million tokens, USD (bar: 10 %)",
    "",
    ...head(["what", "utilisation", "published", "computed", "error", "source"]),
    ...prices,
  ].join("\n");
}

function named(what: string): PublishedCache {
  const found = CACHES.find((log) => log.what === what);
  if (found === undefined) throw new Error(`no log of ${what}`);
  return found;
}

function missed(error: number, bar: number): string {
  return Math.abs(error) <= bar ? "" : " **missed**";
}

function head(titles: readonly string[]): string[] {
  return [row(titles), row(titles.map(() => "---"))];
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function percent(error: number): string {
  const rounded = Math.round(error * 1000) / 10;
  return `${rounded < 0 ? "-" : "+"}${Math.abs(rounded).toFixed(1)} %`;
}

function count(value: number): string {
  return value.toLocaleString("en");
}

function gib(bytes: number): string {
  return (bytes / GIB).toFixed(2);
}
