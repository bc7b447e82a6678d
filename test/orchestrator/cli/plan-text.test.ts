/**
 * Goal: each own pair's plan on the common GPUs is the one we reviewed, readable in 80 columns; and
 * `model plan` sends what it was asked.
 *
 * Method: goldens of the text of all pairs on seven machines, from the shipped catalogue.
 */
import assert from "node:assert/strict";
import { resolve } from "node:path";
import test from "node:test";
import { loadCatalog } from "../../../models/catalog.ts";
import { loadHardware } from "../../../models/hardware.ts";
import { planPair } from "../../../models/plan.ts";
import type { Client } from "../../../orchestrator/cli/client.ts";
import { readArguments } from "../../../orchestrator/cli/command.ts";
import { modelPlan, planRequest } from "../../../orchestrator/cli/commands/model-plan.ts";
import { planLines } from "../../../orchestrator/cli/plan-text.ts";
import type { HardwareList, PairPlan } from "../../../orchestrator/contract/models.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const catalog = await loadCatalog(resolve(ROOT, "models"));
const gpus = await loadHardware(resolve(ROOT, "models"));
const { cards, pairs, book } = catalog;
const MACHINES = [
  ...(["rtx-4090", "l40s", "a100-80", "h100", "h200"] as const).map((gpu) => ({ gpu, count: 1 })),
  { gpu: "rtx-3090", count: 2 },
  { gpu: "h100", count: 8 },
];
const OWN = [...pairs.values()].filter(({ normal }) => cards.has(normal.name));

function planOf(name: string, gpu: string, count: number): PairPlan {
  const pair = pairs.get(name);
  assert.ok(pair !== undefined);
  return planPair({ pair: name, gpu, gpu_count: count }, { pair, cards, gpus, book, pairs });
}

for (const { name } of OWN) {
  test(`${name}: its plans are the ones we reviewed`, (t) => {
    const texts = MACHINES.map(({ gpu, count }) => planLines(planOf(name, gpu, count), false));
    for (const line of texts.flat()) assert.ok([...line].length <= 80, line);
    const golden = resolve(ROOT, `test/golden/plans/${name}.txt`);
    const text = texts.map((lines) => `${lines.join("\n")}\n`).join(`\n${"-".repeat(80)}\n\n`);
    t.assert.fileSnapshot(text, golden, { serializers: [String] });
  });
}

test("the steps of a plan are there when they are asked for, in 80 columns too", (t) => {
  const lines = planLines(planOf("coder-14b", "h100", 1), true);
  for (const line of lines) assert.ok([...line].length <= 80, line);
  const golden = resolve(ROOT, "test/golden/plans/steps.txt");
  t.assert.fileSnapshot(`${lines.join("\n")}\n`, golden, { serializers: [String] });
});

test("what the command is told is what it asks for", async () => {
  const all =
    "14b --gpu 2xh100 --context 16384 --concurrency 4 --quantisation fp8,awq-int4 --rate 3.10 " +
    "--currency CAD --kwh 0.12 --utilisation 0.3 --overhead 1500";
  assert.deepEqual(await requestOf(all), {
    ...{ pair: "14b", gpu: "h100", gpu_count: 2, context_tokens: 16_384, concurrency: 4 },
    quantisation: { normal: "fp8", thinking: "awq-int4" },
    ...{ rate_per_gpu_hour: "3.10", currency: "CAD", price_per_kwh: "0.12", utilisation: "0.3" },
    overhead_mib: 1500,
  });
  assert.deepEqual(await requestOf("14b --gpu l40s --quantisation fp8"), {
    ...{ pair: "14b", gpu: "l40s", gpu_count: 1 },
    quantisation: { normal: "fp8", thinking: "fp8" },
  });
});

test("without --gpu it is made for the GPUs that are here; of none known, it says so", async () => {
  const own = { gpu: "a100-80", gpu_count: 4 };
  assert.deepEqual(await requestOf("14b", own), { pair: "14b", ...own });
  await assert.rejects(requestOf("14b"), {
    message: /^--gpu is missing: the server knows of no GPU .* as 2xh100; kinds: h100, l40s$/,
  });
});

test("what is not of its form is refused by its option", async () => {
  await assert.rejects(requestOf("14b --gpu 0xh100"), { message: /^--gpu: "0xh100" is not a/ });
  await assert.rejects(requestOf("14b --gpu 65xh100"), { message: /^--gpu: "65xh100" is not/ });
  await assert.rejects(requestOf("14b --gpu h100 --rate 2,5"), {
    message: /^--rate: "2,5" is not/,
  });
  await assert.rejects(requestOf("14b --gpu h100 --quantisation a,b,c"), {
    message: /^--quantisation: "a,b,c" is not one name, or two with a comma/,
  });
  await assert.rejects(requestOf("14b --gpu h100 --context 12"), { message: /^--context: "12"/ });
});

/** The request that the command would send, to a server with these GPUs of its own. */
async function requestOf(line: string, own: HardwareList["own"] = null) {
  const { positionals, options } = readArguments(modelPlan, line.split(" "));
  const hardware: HardwareList = {
    gpus: ["h100", "l40s"].map((name) => ({
      ...{ name, title: name, memory_bytes: 1, rate_per_hour: "1", currency: "CAD" },
    })),
    own,
  };
  const client: Pick<Client, "get"> = { get: async <Answer>() => hardware as Answer };
  return planRequest(positionals[0] ?? "", options, client);
}
