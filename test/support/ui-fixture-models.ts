/** Pairs on own GPUs for the UI's fixture: together, apart, by turns, one that does not fit. */
import { join, resolve } from "node:path";
import { loadCatalog } from "../../models/catalog.ts";
import { explainPrice, listPrices } from "../../models/explain.ts";
import type { Services } from "../../orchestrator/api/services.ts";
import type {
  EngineStatus,
  HardwareList,
  ModelPlan,
  PairPlan,
  PlanRequest,
  Residency,
  ServedPair,
  UpRequest,
} from "../../orchestrator/contract/models.ts";
import type { PairStatus } from "../../orchestrator/contract/system.ts";
import { Problem } from "../../orchestrator/problem.ts";
import { rfc3339 } from "../../orchestrator/runtime/clock.ts";

const MODELS = join(resolve(import.meta.dirname, "../.."), "models");
const GIB = 2 ** 30;
const GPUS: HardwareList["gpus"] = [
  gpu("rtx-4090", "NVIDIA GeForce RTX 4090", 23.64, "0.40"),
  gpu("l40s", "NVIDIA L40S", 44.4, "1.00"),
  gpu("h100", "NVIDIA H100 80GB HBM3", 79.25, "2.50"),
];
const OUT_OF_MEMORY =
  "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total " +
  "capacity of 23.64 GiB of which 1.12 GiB is free.";

const SOUNDNESS: PairStatus["agents"] = [
  { agent: "aider", verdict: "sound", reasons: [] },
  {
    ...{ agent: "codex", verdict: "limited" },
    reasons: [{ kind: "plans_blind", detail: "Its thinking model calls no tools: it plans blind" }],
  },
  {
    ...{ agent: "claude-code", verdict: "unsound" },
    reasons: [
      {
        kind: "no_room",
        detail: "Its first call is 24,000 tokens, which leaves 576 of the model's 32,768",
      },
    ],
  },
];

export type FixtureModels = Awaited<ReturnType<typeof openFixtureModels>>;

export async function openFixtureModels(nowMs: number) {
  const catalog = await loadCatalog(MODELS);
  const ups: UpRequest[] = [];
  const downs: string[] = [];
  const at = (agoMs: number) => rfc3339(nowMs - agoMs);
  return { ups, downs, pairs, prices, explain, plan, services: services() };

  function services(): Services["models"] {
    const one = (pair: string) => {
      const found = served().find((each) => each.pair === pair);
      if (found === undefined) throw new Problem("not_found", `${pair} is not up`);
      return found;
    };
    const refuse = async (): Promise<never> => {
      throw new Problem("conflict", "The fixture cannot do this");
    };
    return {
      plan,
      hardware: async () => ({ gpus: GPUS, own: { gpu: "h100", gpu_count: 1 } }),
      list: async () => served(),
      up: async (request) => {
        ups.push(request);
        return one(request.plan.pair);
      },
      down: async (pair) => {
        downs.push(pair);
        return one(pair);
      },
      ...{ logs: refuse, render: refuse },
    };
  }

  function pairs(): PairStatus[] {
    return [...catalog.pairs.values()].map(({ name, title, isScripted, normal, thinking }) => ({
      ...{ name, normal: normal.name, thinking: thinking.name, provider: normal.provider },
      ...{ is_scripted: isScripted, is_available: normal.provider !== "anthropic" },
      detail:
        normal.provider === "anthropic"
          ? "set ANTHROPIC_API_KEY (and its _BASE_URL), or autocode secret put provider/anthropic"
          : title,
      agents: normal.provider === "vllm" ? SOUNDNESS : [],
    }));
  }

  function prices() {
    return { prices: listPrices(catalog.book, "CAD", nowMs) };
  }

  function explain(model: string) {
    const found = explainPrice(catalog.book, model, "CAD", nowMs);
    if (found === null) throw new Problem("not_found", `the price book has no model "${model}"`);
    return { at: rfc3339(nowMs), ...found };
  }

  function plan(request: PlanRequest): PairPlan {
    const chosen = GPUS.find(({ name }) => name === request.gpu);
    if (chosen === undefined) {
      const detail = `gpu: there is no GPU "${request.gpu}"; the nearest is h100`;
      throw new Problem("invalid_request", detail);
    }
    const named = catalog.pairs.get(request.pair);
    if (named === undefined) throw new Problem("invalid_request", `pair: no "${request.pair}"`);
    const residency = residencyOf(request);
    const fits = residency !== "none";
    const weights = weightsOf(request.pair);
    const sides = (["normal", "thinking"] as const).map((side, index) =>
      modelPlan({
        ...{ side, model: named[side].name, weightsGib: weights[index] ?? 1, fits, request },
        gpus: residency === "apart" ? [index] : [0],
        roomGib: (chosen.memory_bytes / GIB) * (residency === "together" ? 0.45 : 0.9),
      }),
    );
    return {
      ...{ pair: request.pair, gpu: request.gpu, gpu_count: request.gpu_count },
      ...{ gpu_memory_bytes: chosen.memory_bytes, concurrency: request.concurrency ?? 8 },
      ...{ fits, residency, models: sides, swap_ms: residency === "alternate" ? 6_400 : null },
      steps: [
        {
          what: "both at once",
          calculation: `${weights.join(" + ")} GiB of weights, ${residency}`,
          source: null,
        },
      ],
      refusal: fits
        ? null
        : `${named.normal.name} needs ${weights[0]} GiB for its weights alone, and ` +
          `${chosen.title} has ${(chosen.memory_bytes / GIB).toFixed(2)} GiB`,
      advice: fits
        ? []
        : [
            "a context of 4096 tokens (--context 4096): alternate",
            "1 x h100 (--gpu 1xh100): alternate",
            "the smaller pair coder-14b: together",
          ],
    };
  }

  function served(): ServedPair[] {
    const of = (pair: string, request: Omit<PlanRequest, "pair">, more: Partial<ServedPair>) => {
      const planned = plan({ pair, ...request });
      const up: ServedPair = {
        ...{ pair, is_wanted: !downs.includes(pair), plan: planned, engines: [] },
        ...{ queued_trials: 0, forecast_wait_ms: null, brought_up_at: at(7_500_000) },
      };
      return { ...up, ...more };
    };
    const list = [
      of(
        "coder-7b",
        { gpu: "h100", gpu_count: 1 },
        {
          engines: [
            engine("qwen2.5-coder-7b-instruct", "normal", { state: "ready" }, [6, 0, 0.41]),
            engine("deepseek-r1-distill-qwen-7b", "thinking", { state: "ready" }, [2, 1, 0.87]),
          ],
          ...{ queued_trials: 3, forecast_wait_ms: 252_000 },
        },
      ),
      of(
        "coder-32b",
        { gpu: "h100", gpu_count: 1 },
        {
          engines: [
            engine("qwen2.5-coder-32b-instruct", "normal", { state: "ready" }, [8, 5, 0.98]),
            engine("deepseek-r1-distill-qwen-32b", "thinking", { state: "sleeping", restarts: 1 }),
          ],
          ...{ queued_trials: 1 },
        },
      ),
      of(
        "coder-9b",
        { gpu: "l40s", gpu_count: 2 },
        {
          engines: [
            engine("yi-coder-9b-chat", "normal", {
              ...{ state: "failed", restarts: 3, detail: OUT_OF_MEMORY },
            }),
            engine("deepseek-r1-distill-llama-8b", "thinking", {
              ...{ state: "starting", since: at(95_000), detail: "pulls its weights: 34 %" },
            }),
          ],
        },
      ),
    ];
    const added = ups
      .filter(({ plan: { pair } }) => !list.some((each) => each.pair === pair))
      .map(({ plan: { pair, ...request } }) => of(pair, request, {}));
    return [...added, ...list];
  }

  function engine(
    model: string,
    side: "normal" | "thinking",
    more: Partial<EngineStatus>,
    load?: [running: number, waiting: number, cache: number],
  ): EngineStatus {
    const [running = 0, waiting = 0, cache = 0] = load ?? [];
    const base: EngineStatus = {
      ...{
        model,
        side,
        state: "ready",
        base_url: "http://127.0.0.1:8001/v1",
        since: at(7_320_000),
      },
      ...{ restarts: 0, detail: "Application startup complete.", metrics: null },
    };
    const metrics = {
      ...{ at: at(2_000), running, waiting, kv_cache_usage: cache },
      ...{ prompt_tokens_total: 48_120_334, generation_tokens_total: 3_904_118 },
      prompt_tokens_per_second: running * 1_043.2,
      generation_tokens_per_second: running * 48.66,
    };
    return { ...base, ...(load === undefined ? {} : { metrics }), ...more };
  }
}

function gpu(name: string, title: string, memoryGib: number, rate: string) {
  const memory = Math.round(memoryGib * GIB);
  return { name, title, memory_bytes: memory, rate_per_hour: rate, currency: "USD" };
}

/** By the pair, and the GPUs it is given. */
function residencyOf({ pair, gpu: name, gpu_count: count }: PlanRequest): Residency {
  if (weightsOf(pair)[0] > (GPUS.find((each) => each.name === name)?.memory_bytes ?? 0) / GIB)
    return "none";
  if (count > 1) return "apart";
  return pair === "coder-32b" || name === "rtx-4090" ? "alternate" : "together";
}

function weightsOf(pair: string): [number, number] {
  const known: Record<string, [number, number]> = {
    "coder-32b": [61, 61],
    "coder-14b": [27.5, 27.5],
    "coder-9b": [16.4, 15],
    "coder-3b": [5.8, 3.3],
  };
  return known[pair] ?? [14.2, 14.2];
}

function modelPlan(given: {
  side: "normal" | "thinking";
  model: string;
  weightsGib: number;
  fits: boolean;
  request: PlanRequest;
  gpus: number[];
  roomGib: number;
}): ModelPlan {
  const { side, model, weightsGib, fits, request, gpus, roomGib } = given;
  const overheadGib = 1.4 + 0.6 + 0.9;
  const cache = Math.max(0, (roomGib - weightsGib - overheadGib) * GIB);
  const perToken = 57_344;
  const context = request.context_tokens ?? 32_768;
  const tokens = fits ? Math.floor(cache / perToken) : 0;
  const isOfResearch = model === "qwen2.5-coder-3b-instruct";
  const id = isOfResearch ? "qwen-research" : "apache-2.0";
  const alone = 1_610 / weightsGib;
  return {
    ...{ side, model, quantisation: "bf16", gpus, tensor_parallel: 1, pipeline_parallel: 1 },
    licence: {
      ...{ id, needs_acceptance: isOfResearch },
      url: `https://huggingface.co/models?license=license:${id}`,
    },
    context_tokens: context,
    memory: [
      { part: "weights", bytes: Math.round(weightsGib * GIB) },
      { part: "kv_cache", bytes: fits ? Math.round(cache) : 0 },
      { part: "activations", bytes: Math.round(1.4 * GIB) },
      { part: "cuda_graphs", bytes: Math.round(0.6 * GIB) },
      { part: "framework", bytes: Math.round(0.9 * GIB) },
    ],
    gpu_memory_utilization: 0.45,
    ...{ kv_bytes_per_token: perToken, kv_tokens: tokens },
    max_sequences: Math.floor(tokens / context),
    decode_tokens_per_second_alone: fits ? alone : 0,
    decode_tokens_per_second: fits ? alone * (request.concurrency ?? 8) * 0.8 : 0,
    prefill_tokens_per_second: fits ? 190_000 / weightsGib : 0,
    price: fits
      ? {
          currency: request.currency ?? "USD",
          terms: {
            rate_per_gpu_hour: request.rate_per_gpu_hour ?? "2.50",
            ...{ gpus: 1, input_tokens_per_second: "13380", output_tokens_per_second: "725" },
            ...{ utilisation: request.utilisation ?? "0.5", source: "the plan" },
          },
          ...{ input_nanos_per_million: "103806000", output_nanos_per_million: "1915709000" },
        }
      : null,
    steps: [
      {
        what: "weights",
        calculation: `${weightsGib} GiB on 1 GPU = ${weightsGib} GiB`,
        source: "the files' own sizes",
      },
      {
        what: "KV cache of a token",
        calculation: "2 x 28 layers x 4 KV heads x 128 x 2 B = 57,344 B",
        source: "config.json",
      },
    ],
  };
}
