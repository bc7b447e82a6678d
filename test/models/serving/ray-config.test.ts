/**
 * Goal: what is rendered for Ray Serve is what its schemas take, and what Ray cannot place is
 * refused here, not by a replica that never becomes ready.
 *
 * Method: a golden file; every field's name against those of Ray 2.60's schemas, by hand; and
 * those schemas themselves, where Ray is installed.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { parse } from "yaml";
import { type RayOptions, rayConfig } from "../../../models/serving/ray-config.ts";
import { CatalogError } from "../../../models/yaml-file.ts";
import { CARDS, CODER_CARD, modelPlan, pairPlan, REASONER_CARD } from "../../support/model-plan.ts";

const ROOT = join(import.meta.dirname, "../../..");
const RAY_PYTHON = join(ROOT, ".engines/ray/bin/python");
const OPTIONS: RayOptions = {
  weightsDirs: new Map([[CODER_CARD.name, "/weights/coder"]]),
  pluginsDir: "/plugins",
  host: "127.0.0.1",
  port: 8000,
  replicasMax: 4,
};
const TOGETHER = pairPlan({
  gpu_count: 1,
  residency: "together",
  models: [
    modelPlan(CODER_CARD, { gpu_memory_utilization: 0.468 }),
    modelPlan(REASONER_CARD, { gpu_memory_utilization: 0.452 }),
  ],
});

test("Two models on GPUs of their own", (t) => {
  t.assert.snapshot(rayConfig(pairPlan(), CARDS, OPTIONS), { serializers: [String] });
});

test("Two models on one GPU take shares of it that are no more than one", () => {
  const shares = llmConfigs(rayConfig(TOGETHER, CARDS, OPTIONS)).map(
    (each) => each["placement_group_config"] as { bundle_per_worker: { GPU: number } },
  );
  assert.deepEqual(
    shares.map(({ bundle_per_worker }) => bundle_per_worker.GPU),
    [0.46, 0.45],
  );
});

test("A GPU that Ray does not tell apart is not asked for by name", () => {
  const [first] = llmConfigs(rayConfig(pairPlan({ gpu: "rtx-4090" }), CARDS, OPTIONS));
  assert.equal(first?.["accelerator_type"], undefined);
});

test("Engines on CPUs ask for no GPU", () => {
  const models = [CODER_CARD, REASONER_CARD].map((card) => modelPlan(card, { gpus: [] }));
  const config = rayConfig(pairPlan({ models }), CARDS, { ...OPTIONS, replicasMax: 1 });
  const [first] = llmConfigs(config);
  assert.deepEqual(
    [first?.["accelerator_type"], first?.["accelerator_config"], first?.["placement_group_config"]],
    [undefined, { kind: "cpu" }, { bundle_per_worker: { CPU: 1 } }],
  );
  assert.deepEqual(first?.["experimental_configs"], { num_ingress_replicas: 1 });
});

const FIELDS: Record<string, readonly string[]> = {
  "": ["proxy_location", "http_options", "applications"],
  http_options: ["host", "port", "request_timeout_s"],
  "applications.0": ["name", "route_prefix", "import_path", "runtime_env", "args"],
  "applications.0.args": ["llm_configs"],
  "applications.0.args.llm_configs.0": [
    "model_loading_config",
    "accelerator_type",
    "engine_kwargs",
    "placement_group_config",
    "deployment_config",
    "runtime_env",
  ],
  "applications.0.args.llm_configs.0.model_loading_config": ["model_id", "model_source"],
  "applications.0.args.llm_configs.0.placement_group_config": ["bundle_per_worker"],
  "applications.0.args.llm_configs.0.deployment_config": [
    "max_ongoing_requests",
    "health_check_period_s",
    "health_check_timeout_s",
    "graceful_shutdown_wait_loop_s",
    "graceful_shutdown_timeout_s",
    "autoscaling_config",
    "request_router_config",
  ],
  "applications.0.args.llm_configs.0.deployment_config.autoscaling_config": [
    "min_replicas",
    "initial_replicas",
    "max_replicas",
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
  ],
  "applications.0.args.llm_configs.0.deployment_config.request_router_config": [
    "request_router_class",
    "request_router_kwargs",
  ],
};

test("Every field is one of Ray's", () => {
  const config: unknown = parse(rayConfig(TOGETHER, CARDS, OPTIONS));
  for (const [path, names] of Object.entries(FIELDS)) {
    const found = path
      .split(".")
      .filter((key) => key !== "")
      .reduce((value, key) => (value as Record<string, unknown>)[key], config);
    assert.deepEqual(Object.keys(found as object).sort(), [...names].sort(), path);
  }
});

test("The engine's arguments are vLLM's by Python's names, without those of its server", () => {
  const [coder] = llmConfigs(rayConfig(pairPlan(), CARDS, OPTIONS));
  assert.deepEqual(coder?.["engine_kwargs"], {
    dtype: "bfloat16",
    tensor_parallel_size: 1,
    pipeline_parallel_size: 1,
    max_model_len: 32_768,
    max_num_seqs: 256,
    max_num_batched_tokens: 4096,
    gpu_memory_utilization: 0.92,
    enable_prefix_caching: true,
    enable_auto_tool_choice: true,
    tool_call_parser: "qwen25_coder",
    tool_parser_plugin: "/plugins/qwen25_coder_tool_parser.py",
    override_generation_config: {
      temperature: 0.7,
      top_p: 0.8,
      top_k: 20,
      repetition_penalty: 1.05,
    },
    enable_force_include_usage: true,
    enable_prompt_tokens_details: true,
  });
});

for (const [name, plan, message] of [
  [
    "that does not fit",
    pairPlan({ fits: false, residency: "none", refusal: "coder-14b lacks 12 GiB on an l4" }),
    /lacks 12 GiB/,
  ],
  ["whose models alternate", pairPlan({ residency: "alternate" }), /does not put engines to sleep/],
  [
    "that shares several GPUs",
    pairPlan({
      residency: "together",
      models: [CODER_CARD, REASONER_CARD].map((card) =>
        modelPlan(card, { gpus: [0, 1], tensor_parallel: 2 }),
      ),
    }),
    /shares several GPUs/,
  ],
] as const) {
  test(`A pair ${name} is refused`, () => {
    assert.throws(
      () => rayConfig(plan, CARDS, OPTIONS),
      (error) => error instanceof CatalogError && message.test(error.message),
    );
  });
}

/** Reads the files as `serve deploy` and the builder would; without GPUs nothing is started. */
const SCHEMA_CHECK = `
import json, sys, yaml
from ray.serve.schema import ServeDeploySchema
from ray.serve.llm import LLMConfig
sys.path.insert(0, sys.argv[1])
from app import Engine
for name, text in json.load(sys.stdin).items():
    config = yaml.safe_load(text)
    ServeDeploySchema.model_validate(config)
    for each in config["applications"][0]["args"]["llm_configs"]:
        LLMConfig.model_validate({"server_cls": Engine, **each})
    print("valid:", name)
`;

test("Ray's own schemas take it: apart, together, on CPUs", (t) => {
  if (!existsSync(RAY_PYTHON)) {
    t.skip("Ray is not installed: npm run engines ray");
    return;
  }
  const onCpus = [CODER_CARD, REASONER_CARD].map((card) => modelPlan(card, { gpus: [] }));
  const plans = { apart: pairPlan(), together: TOGETHER, cpus: pairPlan({ models: onCpus }) };
  const texts = Object.entries(plans).map(([name, plan]) => [
    name,
    rayConfig(plan, CARDS, OPTIONS),
  ]);
  const args = ["-B", "-c", SCHEMA_CHECK, join(ROOT, "models/serving")];
  const input = JSON.stringify(Object.fromEntries(texts));
  const { stdout, stderr } = spawnSync(RAY_PYTHON, args, { input, encoding: "utf8" });
  const valid = stdout.split("\n").filter((line) => line.startsWith("valid:"));
  assert.deepEqual(valid, ["valid: apart", "valid: together", "valid: cpus"], stderr);
});

function llmConfigs(text: string): Record<string, unknown>[] {
  const { applications } = parse(text) as {
    applications: { args: { llm_configs: Record<string, unknown>[] } }[];
  };
  return applications[0]?.args.llm_configs ?? [];
}
