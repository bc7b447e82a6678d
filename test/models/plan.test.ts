/**
 * Goal: a plan says "fits" only where every byte is accounted for, is monotonic where people rely
 * on it, never charges less than the hours cost, and names what is wrong and what would work.
 *
 * Method: the shipped catalogue; properties over GPUs of any memory, pairs, counts and contexts.
 * Golden plans are in test/orchestrator/cli/plan-text.test.ts, figures of others in
 * published.test.ts.
 */
import assert from "node:assert/strict";
import { resolve } from "node:path";
import test from "node:test";
import fc from "fast-check";
import type { ModelCard } from "../../models/card.ts";
import { loadCards } from "../../models/cards.ts";
import { loadCatalog } from "../../models/catalog.ts";
import type { Gpu } from "../../models/gpu.ts";
import { loadHardware } from "../../models/hardware.ts";
import { planPair } from "../../models/plan.ts";
import { USABLE_SHARE } from "../../models/plan-layouts.ts";
import { weightBytesPerGpu } from "../../models/plan-memory.ts";
import { enginePrice, engineTerms } from "../../models/plan-price.ts";
import type { PairPlan, PlanRequest } from "../../orchestrator/contract/models.ts";

const FOLDER = resolve(import.meta.dirname, "../../models");
const [catalog, cards, gpus] = await Promise.all([
  loadCatalog(FOLDER),
  loadCards(FOLDER),
  loadHardware(FOLDER),
]);
const OWN = [...catalog.pairs.values()].filter(({ normal }) => cards.has(normal.name));
const ONE_H100: PlanRequest = { pair: "coder-14b", gpu: "h100", gpu_count: 1 };

function plan(request: PlanRequest, hardware: ReadonlyMap<string, Gpu> = gpus): PairPlan {
  const pair = catalog.pairs.get(request.pair);
  assert.ok(pair !== undefined, request.pair);
  const facts = { pair, cards, gpus: hardware, book: catalog.book, pairs: catalog.pairs };
  return planPair(request, facts);
}

/** An H100 of another size, alone in its table: a plan's advice is then quickly at its end. */
function ofMemory(memoryBytes: number, like = "h100"): ReadonlyMap<string, Gpu> {
  const gpu = gpus.get(like);
  assert.ok(gpu !== undefined);
  return new Map([[like, { ...gpu, memoryBytes }]]);
}

const anyPair = fc.constantFrom(...OWN.map(({ name }) => name));
const anyMemory = fc.integer({ min: 6, max: 200 }).map((gib) => gib * 2 ** 30);
const anyCount = fc.constantFrom(1, 2, 3, 4, 8);
const anyContext = fc.constantFrom(4096, 8192, 16_384, 32_768);

test("more memory never fits less", () => {
  const inputs = fc.tuple(anyPair, anyMemory, fc.integer({ min: 0, max: 2 ** 36 }), anyCount);
  fc.assert(
    fc.property(inputs, anyContext, ([pair, memory, more, count], context) => {
      const request = { pair, gpu: "h100", gpu_count: count, context_tokens: context };
      const small = plan(request, ofMemory(memory));
      const large = plan(request, ofMemory(memory + more));
      assert.ok(large.fits || !small.fits);
    }),
    { numRuns: 25 },
  );
});

test("more context never holds more sequences of one layout", () => {
  fc.assert(
    fc.property(anyPair, anyMemory, anyCount, (pair, memory, count) => {
      const plans = [4096, 8192, 16_384, 32_768].map((context) =>
        plan({ pair, gpu: "h100", gpu_count: count, context_tokens: context }, ofMemory(memory)),
      );
      for (const [index, longer] of plans.entries()) {
        const shorter = plans[index - 1];
        if (shorter === undefined || layoutOf(shorter) !== layoutOf(longer)) continue;
        for (const [side, model] of longer.models.entries()) {
          assert.ok(model.max_sequences <= (shorter.models[side]?.max_sequences ?? 0));
        }
        assert.ok(shorter.fits || !longer.fits);
      }
    }),
    { numRuns: 12 },
  );
});

test("what fits, fits by every byte: parts within the share, shares within the GPU", () => {
  fc.assert(
    fc.property(anyPair, anyMemory, anyCount, (pair, memory, count) => {
      const made = plan({ pair, gpu: "h100", gpu_count: count }, ofMemory(memory));
      if (!made.fits) {
        assert.equal(made.residency, "none");
        assert.match(made.refusal ?? "", /^\S+ does not fit \d x h100: [\d.]+ GiB missing on each/);
        return;
      }
      const shares = made.models.map((model) => {
        const taken = model.memory.reduce((sum, { bytes }) => sum + bytes, 0);
        assert.ok(taken <= memory * model.gpu_memory_utilization, "parts are within the share");
        assert.ok(model.max_sequences >= 1);
        assert.ok(model.kv_tokens >= model.context_tokens, "vLLM starts with one whole context");
        assert.ok(model.gpus.every((gpu) => gpu < count));
        return model.gpu_memory_utilization;
      });
      const [one = 0, other = 0] = shares;
      const together = made.residency === "together" ? one + other : Math.max(one, other);
      assert.ok(together <= USABLE_SHARE + 1e-9);
      const [first, second] = made.models.map(({ gpus: own }) => own);
      const isShared = first?.some((gpu) => second?.includes(gpu)) ?? false;
      assert.equal(isShared, made.residency !== "apart");
      assert.equal(made.swap_ms !== null, made.residency === "alternate");
    }),
    { numRuns: 25 },
  );
});

test("a pipeline only where tensors cannot be cut", () => {
  for (const pair of OWN) {
    for (const count of [1, 2, 3, 4, 6, 8]) {
      const made = plan({ pair: pair.name, gpu: "h100", gpu_count: count });
      for (const { pipeline_parallel: pipeline } of made.models) {
        assert.equal(pipeline, 1, `${pair.name} on ${count}`);
      }
    }
  }
  // 28 heads over 3 GPUs: not by tensors, and no two of them hold it.
  const three = plan(
    {
      pair: "coder-7b",
      gpu: "h100",
      gpu_count: 3,
      quantisation: { normal: "bf16", thinking: "bf16" },
    },
    ofMemory(10 * 2 ** 30),
  );
  assert.ok(three.fits);
  assert.deepEqual(
    three.models.map((model) => [model.tensor_parallel, model.pipeline_parallel]),
    [
      [1, 3],
      [1, 3],
    ],
  );
});

test("weights that are not cut are on every GPU", () => {
  const card = cardOf("qwen2.5-coder-7b-instruct");
  const [bf16] = card.quantisations;
  assert.ok(bf16 !== undefined);
  const perGpu = (tensor: number) => weightBytesPerGpu(card, bf16, { tensor, pipeline: 1 });
  assert.equal(perGpu(1), bf16.weightBytes);
  const norms = (2 * 28 + 1) * 3584 * 2;
  assert.equal(perGpu(4), Math.ceil((bf16.weightBytes - norms) / 4 + norms));
  // Four KV heads over 28 GPUs: a whole one on each.
  assert.ok(perGpu(28) > bf16.weightBytes / 28 + 2 * 28 * 3584 * 128 * 2 * (1 - 4 / 28));
});

test("a price falls as throughput grows, and both charges cover the hours that are paid", () => {
  const gpu = gpus.get("h100");
  assert.ok(gpu !== undefined);
  const rate = { currency: "USD", perGpuHour: "2.50", source: "a test" };
  const priceAt = (tokensPerSecond: number) => {
    const speeds = { inputTokensPerSecond: 10_000, outputTokensPerSecond: tokensPerSecond };
    const terms = engineTerms({
      ...{ request: ONE_H100, gpu, rate, gpus: 1, usedGpus: 1 },
      ...speeds,
    });
    return BigInt(enginePrice(terms, "USD").output_nanos_per_million);
  };
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1_000_000 }),
      fc.integer({ min: 1, max: 1000 }),
      (slow, more) => {
        assert.ok(priceAt(slow) > priceAt(slow + more * slow));
      },
    ),
  );
  for (const { pair, count } of [
    { pair: "coder-14b", count: 1 },
    { pair: "coder-7b", count: 8 },
    { pair: "coder-9b", count: 3 },
    { pair: "coder-32b", count: 4 },
  ]) {
    const made = plan({ pair, gpu: "h100", gpu_count: count, rate_per_gpu_hour: "2.50" });
    assert.ok(made.fits);
    // An hour in which each engine makes output for as long as its share of the time allows.
    const shares = made.residency === "apart" ? [1, 1] : [0.3, 0.7];
    const charged = made.models.reduce((sum, { price }, index) => {
      assert.ok(price !== null);
      const { output_tokens_per_second: speed, utilisation } = price.terms;
      const tokens = Number(speed) * Number(utilisation) * 3600 * (shares[index] ?? 0);
      return sum + (tokens / 1e6) * Number(price.output_nanos_per_million);
    }, 0);
    const paid = 2.5e9 * count;
    assert.ok(charged >= paid * (1 - 1e-9), `${pair}: ${charged} of ${paid}`);
    assert.ok(charged < paid * 1.001, `${pair}: ${charged} of ${paid}`);
  }
});

test("a price is in the currency that is asked for, with energy and utilisation as asked", () => {
  const [made] = plan({
    ...ONE_H100,
    ...{ currency: "CAD", price_per_kwh: "0.12", utilisation: "0.2" },
  }).models;
  assert.deepEqual(made?.price?.terms.energy, { watts_per_gpu: "700.00", price_per_kwh: "0.12" });
  assert.equal(made?.price?.terms.utilisation, "0.2");
  assert.equal(made?.price?.currency, "CAD");
  // 2.50 USD at the book's 1.40.
  assert.equal(made?.price?.terms.rate_per_gpu_hour, "3.50");
  assert.equal(plan(ONE_H100).models[0]?.price?.terms.utilisation, "0.5");
});

test("what is asked for is planned for, and what does not hold it is refused", () => {
  const eight = plan({ ...ONE_H100, concurrency: 8 });
  assert.ok(eight.fits);
  for (const model of eight.models) assert.ok(model.max_sequences >= 8);
  const many = plan({ ...ONE_H100, concurrency: 64 });
  assert.equal(many.fits, false);
  assert.match(many.refusal ?? "", /for 64 sequences of 32768 tokens/);
  const fewer = /^(\d+) sequences at once \(--concurrency \1\)$/.exec(many.advice[0] ?? "");
  const most = Number(fewer?.[1]);
  assert.ok(plan({ ...ONE_H100, concurrency: most }).fits);
  assert.equal(plan({ ...ONE_H100, concurrency: most + 1 }).fits, false);
});

test("each piece of advice works, the nearest change first", () => {
  const request: PlanRequest = { pair: "coder-32b", gpu: "rtx-4090", gpu_count: 1 };
  const { fits, advice, models } = plan(request);
  assert.equal(fits, false);
  assert.ok(models.every(({ price }) => price === null));
  assert.deepEqual(advice, [
    "2 x rtx-4090 (--gpu 2xrtx-4090): alternate",
    "1 x a100-40 (--gpu 1xa100-40): alternate",
    "the smaller pair coder-14b: alternate",
  ]);
  assert.ok(plan({ ...request, gpu_count: 2 }).fits);
  assert.ok(plan({ ...request, gpu: "a100-40" }).fits);
  assert.ok(plan({ ...request, pair: "coder-14b" }).fits);
  const exact = { normal: "bf16", thinking: "bf16" };
  const asked = plan({ ...ONE_H100, gpu: "rtx-4090", quantisation: exact });
  assert.match(asked.advice[0] ?? "", /weights \(--quantisation [\w-]+,[\w-]+\)$/);
});

test("fp8 is taken where the GPU has it; where it has not and is asked for, that is said", () => {
  const names = (made: PairPlan) => made.models.map(({ quantisation }) => quantisation);
  assert.deepEqual(names(plan(ONE_H100)), ["fp8", "fp8"]);
  assert.ok(!names(plan({ ...ONE_H100, gpu: "a100-80" })).includes("fp8"));
  const asked = plan({
    ...{ ...ONE_H100, gpu: "a100-80" },
    quantisation: { normal: "fp8", thinking: "fp8" },
  });
  assert.deepEqual(names(asked), ["fp8", "fp8"]);
  const said = asked.models[0]?.steps.find(({ what }) => what === "fp8")?.calculation;
  assert.match(said ?? "", /computes no fp8: weights take half the room, at bf16's speed/);
});

test("weights that are quantised as they load need their room whole until then", () => {
  const fp8 = { normal: "fp8", thinking: "fp8" };
  const memory = 44 * 2 ** 30;
  // Of fp8 32.0 GiB would be cached beside in 44, but 61.0 of bf16 come first.
  const made = plan(
    { pair: "coder-32b", gpu: "h100", gpu_count: 1, quantisation: fp8, context_tokens: 4096 },
    ofMemory(memory),
  );
  assert.equal(made.fits, false);
  assert.ok(made.refusal?.includes("missing on each GPU"));
});

test("an overhead that a log shows takes the place of ours", () => {
  const [ours] = plan(ONE_H100).models;
  const [told] = plan({ ...ONE_H100, overhead_mib: 6144 }).models;
  assert.ok((told?.kv_tokens ?? 0) < (ours?.kv_tokens ?? 0));
  assert.equal(told?.memory.find(({ part }) => part === "framework")?.bytes, 6 * 2 ** 30);
});

test("what is not there is named with the nearest that is", () => {
  const refuse = (more: Partial<PlanRequest>, message: RegExp) =>
    assert.throws(() => plan({ ...ONE_H100, ...more }), { name: "CatalogError", message });
  refuse({ gpu: "h1000" }, /^gpu: there is no "h1000"; the nearest is "h100"; known: rtx-3090, /);
  refuse(
    { quantisation: { normal: "fp9" } },
    /^quantisation.normal: there is no "fp9"; the nearest is "fp8"; known: bf16, fp8, awq-int4$/,
  );
  refuse(
    { context_tokens: 1_000_000 },
    /^context_tokens: qwen2.5-coder-14b-instruct takes at most/,
  );
  refuse({ pair: "anthropic" }, /^pair: claude-sonnet-4-5 of anthropic has no card, so it is not/);
  refuse({ utilisation: "0" }, /^utilisation: must be more than 0$/);
  refuse({ utilisation: "1.5" }, /^utilisation: must be at most 1$/);
  refuse({ currency: "JPY" }, /^currency: no rate from USD to JPY in prices.yaml; give rate_per/);
});

function cardOf(name: string): ModelCard {
  const card = cards.get(name);
  assert.ok(card !== undefined, name);
  return card;
}

function layoutOf({ residency, models }: PairPlan): string {
  const engines = models.map((model) => [
    ...[model.quantisation, model.tensor_parallel, model.pipeline_parallel],
  ]);
  return JSON.stringify([residency, engines]);
}
