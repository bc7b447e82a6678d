/**
 * Goal: no plan that fits needs a cut which vLLM refuses as it loads: heads are whole, and so are
 * the blocks of quantised weights.
 *
 * Method: a table of cuts that vLLM 0.32 makes or refuses, by its own checks
 * (`validate_fp8_block_shape_moe`, `verify_group_size_divides_partition`, `moe_wna16`); and every
 * shipped pair on every GPU, its widths counted here anew.
 */
import assert from "node:assert/strict";
import { resolve } from "node:path";
import test from "node:test";
import { loadCards } from "../../models/cards.ts";
import { loadCatalog } from "../../models/catalog.ts";
import { loadHardware } from "../../models/hardware.ts";
import { planPair } from "../../models/plan.ts";
import { blockFault, canSplit } from "../../models/plan-cuts.ts";
import type { PairPlan, PlanRequest } from "../../orchestrator/contract/models.ts";

const FOLDER = resolve(import.meta.dirname, "../../models");
const [catalog, cards, gpus] = await Promise.all([
  loadCatalog(FOLDER),
  loadCards(FOLDER),
  loadHardware(FOLDER),
]);

/** With its own GPU alone and no other pairs: advice is then quickly at its end. */
function plan(request: PlanRequest): PairPlan {
  const pair = catalog.pairs.get(request.pair);
  const gpu = gpus.get(request.gpu);
  assert.ok(pair !== undefined && gpu !== undefined);
  return planPair(request, { pair, cards, gpus: new Map([[gpu.name, gpu]]), book: catalog.book });
}

function weightsOf(model: string, quantisation: string) {
  const card = cards.get(model);
  const weights = card?.quantisations.find(({ name }) => name === quantisation);
  assert.ok(card !== undefined && weights !== undefined, `${model} ${quantisation}`);
  return { architecture: card.architecture, weights };
}

test("cuts are those that vLLM makes", () => {
  const cuts: [model: string, quantisation: string, tensor: number, made: boolean][] = [
    ["qwen3-coder-30b-a3b-instruct", "fp8", 1, true],
    ["qwen3-coder-30b-a3b-instruct", "fp8", 2, true],
    ["qwen3-coder-30b-a3b-instruct", "fp8", 4, false],
    ["qwen3-coder-30b-a3b-instruct", "fp8", 8, false],
    ["qwen3-coder-30b-a3b-instruct", "bf16", 8, true],
    // 96 is three blocks of 32: the scales of 4-bit experts are repeated so far.
    ["qwen3-coder-30b-a3b-instruct", "awq-int4", 8, true],
    ["qwen3-coder-30b-a3b-instruct", "awq-int4", 16, false],
    ["qwen2.5-coder-14b-instruct", "awq-int4", 4, true],
    ["qwen2.5-coder-14b-instruct", "awq-int4", 8, false],
    // Quantised as it is loaded, a matrix has one scale.
    ["qwen2.5-coder-14b-instruct", "fp8", 8, true],
    ["qwen2.5-coder-3b-instruct", "awq-int4", 2, true],
    ["qwen2.5-coder-3b-instruct", "awq-int4", 4, false],
    ["deepseek-r1-distill-qwen-1.5b", "bf16", 6, false],
    ["qwen2.5-coder-7b-instruct", "bf16", 3, false],
  ];
  for (const [model, quantisation, tensor, made] of cuts) {
    const { architecture, weights } = weightsOf(model, quantisation);
    const can = canSplit(architecture, weights, { tensor, pipeline: 1 });
    assert.equal(can, made, `${model} ${quantisation} over ${tensor}`);
  }
  const { architecture, weights } = weightsOf("qwen3-coder-30b-a3b-instruct", "bf16");
  assert.equal(canSplit(architecture, weights, { tensor: 1, pipeline: 49 }), false);
});

test("what forbids a wider cut is said, where it is a block", () => {
  const fault = (model: string, quantisation: string, tensor: number, of: number) => {
    const { architecture, weights } = weightsOf(model, quantisation);
    return blockFault(architecture, weights, { tensor, gpus: of });
  };
  const said = fault("qwen3-coder-30b-a3b-instruct", "fp8", 2, 8);
  assert.match(said ?? "", /^tensor parallel 4 .* 768 \/ 4 = 192 of an expert, .* block of 128$/);
  assert.match(
    fault("deepseek-r1-distill-qwen-1.5b", "bf16", 4, 6) ?? "",
    /8960 \/ 6 = 1493.33 of the feed-forward, which is not whole$/,
  );
  assert.equal(fault("qwen3-coder-30b-a3b-instruct", "bf16", 2, 8), null);
  assert.equal(fault("qwen2.5-coder-7b-instruct", "bf16", 1, 3), null);
});

const CASES: [pair: string, gpu: string, count: number, quantisation: string | null][] = [
  ["qwen3-coder-30b", "l4", 4, null],
  ["qwen3-coder-30b", "h100", 8, "fp8"],
  ["coder-14b", "l4", 8, "awq-int4"],
];
for (const [pair, gpu, count, asked] of CASES) {
  test(`${pair} in ${asked ?? "any weights"} on ${count} ${gpu} fits in whole blocks`, () => {
    const quantisation = asked === null ? {} : { normal: asked, thinking: asked };
    const made = plan({ pair, gpu, gpu_count: count, quantisation });
    assert.equal(made.fits, true);
    assertWhole(made);
    const cuts = made.steps.filter(({ what }) => what.startsWith("the cut of "));
    // Unasked, it takes 4 bits, whose blocks go over all four: nothing is to be said.
    const said = cuts.some(({ calculation }) => calculation.includes("block of 128"));
    assert.equal(said, asked !== null);
  });
}

test("a plan that is refused names the block that forbids a wider cut", () => {
  const quantisation = { normal: "fp8", thinking: "fp8" };
  const request = { pair: "qwen3-coder-30b", gpu: "l4", gpu_count: 4, quantisation };
  const made = plan({ ...request, concurrency: 64 });
  assert.equal(made.fits, false);
  assert.match(made.refusal ?? "", /not cut further, as in fp8: .* 768 \/ 4 = 192 /);
});

test("no plan that fits cuts a block, of any pair on any GPUs", () => {
  const own = [...catalog.pairs.values()].filter(({ normal }) => cards.has(normal.name));
  let fitting = 0;
  for (const { name: pair } of own) {
    for (const gpu of gpus.keys()) {
      for (const count of [1, 2, 3, 4, 6, 8]) {
        const made = plan({ pair, gpu, gpu_count: count });
        if (!made.fits) continue;
        fitting++;
        assertWhole(made);
      }
    }
  }
  assert.ok(fitting > own.length * gpus.size, `${fitting}`);
});

function assertWhole({ models, pair, gpu, gpu_count: count }: PairPlan): void {
  for (const { model, quantisation, tensor_parallel: tensor } of models) {
    if (tensor === 1) continue;
    const { architecture, weights } = weightsOf(model, quantisation);
    const { intermediate, experts } = architecture;
    const published = quantisation === "fp8" && !weights.isAtLoad ? 128 : 1;
    const int4 = experts === null ? 128 : 32;
    const block = quantisation.includes("int4") ? int4 : published;
    const each = intermediate / (experts?.perToken ?? 1) / tensor;
    const where = `${pair} on ${count} ${gpu}: ${quantisation} over ${tensor}, ${each} each`;
    assert.equal(each % block, 0, where);
  }
}
