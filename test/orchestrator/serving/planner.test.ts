/** Goal: the planner speaks of what the installation has, and its faults are the request's. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { loadCatalog } from "../../../models/catalog.ts";
import { loadHardware } from "../../../models/hardware.ts";
import { createPlanner } from "../../../orchestrator/serving/planner.ts";
import { AGENTS } from "../../../worker-agent/agents/registry.ts";

const MODELS = join(import.meta.dirname, "../../../models");
const [catalog, gpus] = await Promise.all([loadCatalog(MODELS), loadHardware(MODELS)]);
const agents = AGENTS.map(({ facts }) => facts);
const own = async () => ({ gpu: "h100", gpu_count: 2 });
const planner = createPlanner({ catalog, gpus, own, agents });

test("a plan is of the pair that was meant, and says which agents work with it", () => {
  const plan = planner.plan({ pair: "30b", gpu: "h200", gpu_count: 1 });
  assert.equal(plan.pair, "qwen3-coder-30b");
  assert.deepEqual(plan.steps.at(-1), {
    what: "agents that work with it",
    calculation: `${agents.map(({ name }) => name).join(", ")}: sound`,
    source: 'docs/models.md, "Which agent with which pair"',
  });
  const small = planner.plan({ pair: "14b", gpu: "h200", gpu_count: 1, context_tokens: 16_384 });
  const [advice] = small.advice.filter((text) => text.startsWith("qwen-code does not work"));
  assert.match(advice ?? "", /takes 19600 of qwen2\.5-coder-14b-instruct's 16384 tokens/);
});

test("what there is not is the request's fault, with the nearest that there is", () => {
  const refused = (pair: string, gpu: string, message: RegExp) =>
    assert.throws(() => planner.plan({ pair, gpu, gpu_count: 1 }), {
      name: "Problem",
      code: "invalid_request",
      message,
    });
  refused("coder-15b", "h100", /unknown pair "coder-15b"; the nearest is "coder-14b"/);
  refused("14b", "h101", /"h101"; the nearest is "h100"/);
  assert.throws(() => planner.pairName("coder"), { message: /may be any of coder-14b, / });
});

test("the hardware list has every GPU of the table, and what this machine has", async () => {
  const list = await planner.hardware();
  assert.deepEqual(list.own, { gpu: "h100", gpu_count: 2 });
  assert.deepEqual(
    list.gpus.map(({ name }) => name),
    [...gpus.keys()],
  );
  assert.deepEqual(
    list.gpus.find(({ name }) => name === "h100"),
    {
      name: "h100",
      title: "NVIDIA H100 80GB HBM3",
      memory_bytes: 80_998 * 2 ** 20,
      rate_per_hour: "2.50",
      currency: "USD",
    },
  );
});
