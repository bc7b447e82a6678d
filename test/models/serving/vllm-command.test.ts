/**
 * Goal: the command is the one that was reviewed, flag by flag, and each flag is one that vLLM has.
 * Method: golden texts; the source of the installed engine, where there is one.
 */
import assert from "node:assert/strict";
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { vllmCommand } from "../../../models/serving/vllm-command.ts";
import { CatalogError } from "../../../models/yaml-file.ts";
import { CODER_CARD, modelPlan, REASONER_CARD } from "../../support/model-plan.ts";

const ROOT = join(import.meta.dirname, "../../..");
const WHERE = { host: "127.0.0.1", port: 8101, python: "python", pluginsDir: "/plugins" };
const CODER = { card: CODER_CARD, plan: modelPlan(CODER_CARD), weightsDir: "/weights/coder" };

test("A model on its GPUs, from a folder of weights", (t) => {
  const plan = modelPlan(CODER_CARD, { gpus: [2, 3], tensor_parallel: 2 });
  t.assert.snapshot(vllmCommand({ ...WHERE, ...CODER, plan }));
});

test("A reasoning model from the hub, that can be sent to sleep", (t) => {
  const plan = modelPlan(REASONER_CARD, { gpus: [1] });
  const request = { card: REASONER_CARD, plan, weightsDir: null, isSleepable: true };
  t.assert.snapshot(vllmCommand({ ...WHERE, ...request }));
});

test("A model on CPUs has no GPU to name, and says how much memory its cache takes", () => {
  const plan = modelPlan(CODER_CARD, {
    gpus: [],
    memory: [{ part: "kv_cache", bytes: 1.5 * 1024 ** 3 }],
  });
  const { argv, env } = vllmCommand({ ...WHERE, ...CODER, plan });
  assert.ok(!argv.includes("--gpu-memory-utilization"));
  assert.equal(env["CUDA_VISIBLE_DEVICES"], undefined);
  assert.equal(env["VLLM_CPU_KVCACHE_SPACE"], "2");
});

for (const [quantisation, dtype, method] of [
  ["bf16", "bfloat16", undefined],
  ["fp8", "bfloat16", "fp8_per_tensor"],
  ["awq-int4", "auto", undefined],
] as const) {
  test(`${quantisation} is asked for in vLLM's words`, () => {
    const plan = modelPlan(CODER_CARD, { quantisation });
    const { argv } = vllmCommand({ ...WHERE, ...CODER, plan });
    assert.equal(optionOf(argv, "--dtype"), dtype);
    assert.equal(optionOf(argv, "--quantization"), method);
  });
}

test("What the card has not is refused with what it has", () => {
  const plan = modelPlan(CODER_CARD, { quantisation: "gptq-int4" });
  assert.throws(
    () => vllmCommand({ ...WHERE, ...CODER, plan }),
    new CatalogError(
      "qwen2.5-coder-14b-instruct has no quantisation gptq-int4; it has: bf16, fp8, awq-int4",
    ),
  );
});

test("The development routes are there only for who sleeps", () => {
  const awake = vllmCommand({ ...WHERE, ...CODER });
  assert.equal(awake.env["VLLM_SERVER_DEV_MODE"], undefined);
  assert.ok(!awake.argv.includes("--enable-sleep-mode"));
  // vLLM's key guards /v1 and nothing else: the address is what keeps others away.
  assert.ok(!awake.argv.includes("--api-key"));
});

test("The plugins that are ours lie beside the code", () => {
  const { argv } = vllmCommand({ ...CODER, host: "127.0.0.1", port: 1, python: "python" });
  const path = join(ROOT, "models/serving/qwen25_coder_tool_parser.py");
  assert.equal(optionOf(argv, "--tool-parser-plugin"), path);
});

test("An engine in a container of its own is told of no GPU and no loopback", () => {
  const { env } = vllmCommand({ ...WHERE, ...CODER, isContained: true });
  assert.deepEqual(env, {
    VLLM_NO_USAGE_STATS: "1",
    DO_NOT_TRACK: "1",
    HF_HUB_DISABLE_TELEMETRY: "1",
    HF_HUB_OFFLINE: "1",
    TRANSFORMERS_OFFLINE: "1",
  });
});

test("Every flag is one that the installed vLLM has", async (t) => {
  // Its source, not its --help: that takes a minute to import what it does not print.
  const [folder] = await Array.fromAsync(
    glob(".engines/vllm/lib/python*/site-packages/vllm", { cwd: ROOT }),
  );
  if (folder === undefined) {
    t.skip("vLLM is not installed: npm run engines vllm");
    return;
  }
  const engine = await readFile(join(ROOT, folder, "engine/arg_utils.py"), "utf8");
  const server = await readFile(join(ROOT, folder, "entrypoints/launchers/cli_args.py"), "utf8");
  const request = { plan: modelPlan(CODER_CARD, { quantisation: "fp8" }), isSleepable: true };
  const card = { ...CODER_CARD, chatTemplate: "chat.jinja", reasoningParser: "deepseek_r1" };
  const { argv } = vllmCommand({ ...WHERE, ...request, card, weightsDir: null });
  const flags = argv.filter((each) => each.startsWith("--"));
  const unknown = flags.filter(
    (flag) =>
      !engine.includes(`"${flag}"`) &&
      !server.includes(`\n    ${flag.slice(2).replaceAll("-", "_")}: `),
  );
  assert.deepEqual(unknown, []);
  assert.ok(flags.length > 20);
});

function optionOf(argv: readonly string[], flag: string): string | undefined {
  const at = argv.indexOf(flag);
  return at < 0 ? undefined : argv[at + 1];
}
