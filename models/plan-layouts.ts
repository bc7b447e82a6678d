/**
 * The ways in which two engines can lie on the GPUs of a machine, and whether each holds. Pure.
 *
 * Two that are awake together share each GPU's memory, so their shares are added; two that
 * alternate each have it whole but for what the sleeping one keeps (its context and graphs).
 */
import type { Residency } from "../orchestrator/contract/models.ts";
import type { ModelCard, Quantisation } from "./card.ts";
import type { Gpu } from "./gpu.ts";
import { canSplit } from "./plan-cuts.ts";
import {
  cacheBytesPerToken,
  cacheTokens,
  type FixedMemory,
  fixedMemory,
  fixedTotal,
  type Split,
  weightBytesPerGpu,
} from "./plan-memory.ts";

/** Of each GPU, for all engines on it: the rest is the driver's, the desktop's, and slack. */
export const USABLE_SHARE = 0.9;
/** Predictions were up to 8 % above the published logs: a plan counts on so much of its cache. */
export const CACHE_MARGIN = 0.9;
/** An engine spans so many GPUs at most: beyond, they are hardly linked closely enough. */
export const GPUS_MAX = 8;
/** A share is written into the command with three decimals, rounded down. */
const SHARE_STEPS = 1000;

export interface Engine {
  readonly side: "normal" | "thinking";
  readonly card: ModelCard;
  readonly quantisation: Quantisation;
  readonly split: Split;
  readonly contextTokens: number;
}

export type Awake = Exclude<Residency, "none">;

export interface Layout {
  readonly residency: Awake;
  /** Normal, then thinking. */
  readonly engines: readonly [Engine, Engine];
}

/** An engine in a layout: its memory on the fullest of its GPUs. */
export interface Placed {
  readonly engine: Engine;
  readonly gpus: readonly number[];
  readonly fixed: FixedMemory;
  /** vLLM's --gpu-memory-utilization. */
  readonly share: number;
  readonly cacheBytes: number;
  readonly bytesPerToken: number;
  readonly cacheTokens: number;
  readonly sequences: number;
  /** On each of its GPUs, to hold the sequences that are needed; 0 where it holds them. */
  readonly missingBytes: number;
}

export interface Fit {
  readonly layout: Layout;
  readonly placed: readonly [Placed, Placed];
  readonly missingBytes: number;
}

export interface Needs {
  readonly gpu: Gpu;
  readonly gpuCount: number;
  /** Sequences of the whole context, at least. */
  readonly sequences: number;
  readonly overheadBytes?: number | undefined;
}

type Choice = Omit<Engine, "split">;

/** Every layout of two models in given quantisations that vLLM can make. */
export function layoutsOf(normal: Choice, thinking: Choice, gpuCount: number): Layout[] {
  const most = Math.min(gpuCount, GPUS_MAX);
  const sizes = Array.from({ length: most }, (_, index) => index + 1);
  const layouts: Layout[] = [];
  const add = (residency: Awake, first: number, second: number) => {
    const [a, b] = [splitOver(normal, first), splitOver(thinking, second)];
    if (a === null || b === null) return;
    const engines = [
      { ...normal, split: a },
      { ...thinking, split: b },
    ] as const;
    layouts.push({ residency, engines });
  };
  for (const first of sizes) {
    add("together", first, first);
    for (const second of sizes) {
      if (first + second <= gpuCount) add("apart", first, second);
      add("alternate", first, second);
    }
  }
  return layouts;
}

/** By tensor where heads and blocks can be shared out so; else the most that goes, in stages. */
function splitOver({ card, quantisation }: Choice, gpus: number): Split | null {
  for (let tensor = gpus; tensor >= 1; tensor--) {
    const split = { tensor, pipeline: gpus / tensor };
    if (gpus % tensor === 0 && canSplit(card.architecture, quantisation, split)) return split;
  }
  return null;
}

export function gpusOf({ split }: Engine): number {
  return split.tensor * split.pipeline;
}

export function fitOf(layout: Layout, needs: Needs): Fit {
  const limits = shares(layout, needs);
  const placed = layout.engines.map((engine, index) => {
    const isSecond = index === 1 && layout.residency === "apart";
    const first = isSecond ? gpusOf(layout.engines[0]) : 0;
    return place(engine, first, limits[index] ?? 0, needs, loadRoom(layout, limits, index, needs));
  }) as [Placed, Placed];
  // Of two that share a GPU, what either lacks is lacking there.
  const lacking = placed.map(({ missingBytes }) => missingBytes);
  const [a = 0, b = 0] = lacking;
  return { layout, placed, missingBytes: layout.residency === "together" ? a + b : Math.max(a, b) };
}

/** Each engine's share of its GPUs. */
function shares({ residency, engines }: Layout, needs: Needs): number[] {
  const { memoryBytes } = needs.gpu;
  const usable = memoryBytes * USABLE_SHARE;
  const floor = (bytes: number) =>
    Math.max(0, Math.floor((bytes / memoryBytes) * SHARE_STEPS) / SHARE_STEPS);
  const fixed = engines.map((engine) => fixedOf(engine, needs));
  if (residency === "apart") return [floor(usable), floor(usable)];
  if (residency === "alternate") {
    return [1, 0].map((other) => floor(usable - keptAsleep(fixed[other])));
  }
  // What both leave is shared as they need it, so that each holds as many whole contexts.
  const rest = usable - fixed.reduce((sum, each) => sum + fixedTotal(each), 0);
  const wants = engines.map(
    (engine) => cacheBytesPerToken(engine.card.architecture, engine.split) * engine.contextTokens,
  );
  const all = wants.reduce((sum, each) => sum + each, 0);
  return fixed.map((each, index) => {
    const own = (Math.max(0, rest) * (wants[index] ?? 0)) / all;
    const whole = rest < 0 ? (fixedTotal(each) * usable) / (usable - rest) : fixedTotal(each) + own;
    return floor(whole);
  });
}

/** A sleeping engine gives back its weights and its cache, and keeps its context and graphs. */
function keptAsleep(fixed: FixedMemory | undefined): number {
  return fixed === undefined ? 0 : fixed.framework + fixed.cudaGraphs;
}

/** What is free on its GPUs while it loads: weights that are quantised then come whole first. */
function loadRoom(
  { residency }: Layout,
  limits: readonly number[],
  index: number,
  { gpu }: Needs,
): number {
  const others = residency === "together" ? (limits[1 - index] ?? 0) : 0;
  return gpu.memoryBytes * (0.95 - others);
}

function place(
  engine: Engine,
  firstGpu: number,
  share: number,
  needs: Needs,
  loadBytes: number,
): Placed {
  const { card, split, contextTokens } = engine;
  const fixed = fixedOf(engine, needs);
  const left = Math.floor(needs.gpu.memoryBytes * share) - fixedTotal(fixed);
  const bytesPerToken = cacheBytesPerToken(card.architecture, split);
  const tokens = cacheTokens(left, bytesPerToken);
  const needed = (needs.sequences * contextTokens * bytesPerToken) / CACHE_MARGIN;
  const atLoad = Math.max(0, bytesAtLoad(engine) - loadBytes);
  return {
    engine,
    gpus: Array.from({ length: gpusOf(engine) }, (_, index) => firstGpu + index),
    fixed,
    share,
    cacheBytes: tokens * bytesPerToken,
    bytesPerToken,
    cacheTokens: tokens,
    sequences: sequencesOf(tokens, contextTokens),
    missingBytes: Math.ceil(
      Math.max(
        atLoad,
        sequencesOf(tokens, contextTokens) >= needs.sequences ? 0 : Math.max(1, needed - left),
      ),
    ),
  };
}

function sequencesOf(tokens: number, contextTokens: number): number {
  return Math.floor((tokens * CACHE_MARGIN) / contextTokens);
}

function fixedOf({ card, quantisation, split }: Engine, { overheadBytes }: Needs): FixedMemory {
  return fixedMemory(card, quantisation, split, { overheadBytes });
}

/** Of each GPU, before it is quantised: as if a whole model of the published precision came. */
function bytesAtLoad({ card, quantisation, split }: Engine): number {
  if (!quantisation.isAtLoad) return 0;
  const published = card.quantisations.find(
    ({ repository, isAtLoad }) => repository === quantisation.repository && !isAtLoad,
  );
  return published === undefined ? 0 : weightBytesPerGpu(card, published, split);
}
