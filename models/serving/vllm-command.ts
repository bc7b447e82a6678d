/**
 * The command that serves a model of a plan with vLLM: its arguments and environment, and nothing
 * secret. One place says how an engine is started; the launcher, the rendered files and the tests
 * of the real engine all take it from here.
 *
 * Flags are those of vLLM 0.32 (docs.vllm.ai, "Engine Arguments" and `vllm serve`); the module is
 * started, not the `vllm` command, since the CPU build has none that works.
 */
import { join } from "node:path";
import type { ModelPlan } from "../../orchestrator/contract/models.ts";
import type { ModelCard, Quantisation } from "../card.ts";
import { BATCHED_TOKENS, GIB, SEQUENCES_MAX } from "../plan-memory.ts";
import { CatalogError } from "../yaml-file.ts";

export interface VllmRequest {
  readonly card: ModelCard;
  /** Without GPUs (`gpus: []`) the engine computes on CPUs, if its build can. */
  readonly plan: ModelPlan;
  /** A folder with the weights; null: the card's repository at its revision, from the hub. */
  readonly weightsDir: string | null;
  /** Loopback, or an address that only gateways reach: see `isSleepable`, and `--api-key` below. */
  readonly host: string;
  readonly port: number;
  readonly python: string;
  /**
   * The engine can be sent to sleep (`POST /sleep`), as where two models alternate. vLLM serves
   * that route in its development mode alone, with others that run any method in its workers
   * (`/collective_rpc`) or change its weights, none of them behind its key: whoever reaches the
   * port of such an engine owns it.
   */
  readonly isSleepable?: boolean;
  /** Where the plugins and templates that cards name lie, as the engine sees it; ours else. */
  readonly pluginsDir?: string;
  /** The engine is alone on what it may see (a container's GPUs): it is told of none. */
  readonly isContained?: boolean;
}

export interface VllmCommand {
  argv: string[];
  env: Record<string, string>;
}

/** @throws CatalogError when the card has no such quantisation. */
export function vllmCommand(request: VllmRequest): VllmCommand {
  const { python, host, port } = request;
  const settings = vllmSettings(request);
  const argv = [python, "-m", "vllm.entrypoints.openai.api_server"];
  for (const [name, value] of Object.entries(settings)) {
    if (value === true) argv.push(`--${name}`);
    else argv.push(`--${name}`, ...(Array.isArray(value) ? value : [String(value)]));
  }
  // No --api-key: it guards /v1 alone and leaves /invocations open, so that it would promise what
  // it does not hold. The address is the boundary.
  argv.push("--host", host, "--port", String(port));
  return { argv, env: vllmEnvironment(request) };
}

/** By vLLM's own names, as of the command line: true stands for a flag without a value. */
export type VllmSettings = Record<string, string | number | true | readonly string[]>;

/** All but where it listens: the same whoever starts the engine. */
export function vllmSettings({
  card,
  plan,
  weightsDir,
  isSleepable = false,
  pluginsDir = import.meta.dirname,
}: Omit<VllmRequest, "host" | "port" | "python">): VllmSettings {
  const quantisation = quantisationOf(card, plan.quantisation);
  const { toolParser, reasoningParser, chatTemplate } = card;
  const isOnGpus = plan.gpus.length > 0;
  return {
    model: weightsDir ?? quantisation.repository,
    ...(weightsDir === null && quantisation.revision !== null
      ? { revision: quantisation.revision }
      : {}),
    "served-model-name": servedNames(card),
    dtype: dtypeOf(card, quantisation),
    // What a checkpoint was quantised with, its own configuration says: named here, vLLM would use
    // that kernel where it has a faster one for the same weights (awq in place of awq_marlin).
    ...(quantisation.isAtLoad ? { quantization: atLoad(card, quantisation) } : {}),
    "tensor-parallel-size": plan.tensor_parallel,
    "pipeline-parallel-size": plan.pipeline_parallel,
    "max-model-len": plan.context_tokens,
    // What the planner counts memory for: vLLM's own defaults differ from one kind of GPU to the
    // next. Sequences that do not fit the cache wait in the engine.
    "max-num-seqs": SEQUENCES_MAX,
    "max-num-batched-tokens": BATCHED_TOKENS,
    ...(isOnGpus ? { "gpu-memory-utilization": plan.gpu_memory_utilization } : {}),
    "enable-prefix-caching": true,
    ...(toolParser === null
      ? {}
      : { "enable-auto-tool-choice": true, "tool-call-parser": toolParser.name }),
    ...(toolParser === null || toolParser.plugin === null
      ? {}
      : { "tool-parser-plugin": join(pluginsDir, toolParser.plugin) }),
    ...(reasoningParser === null ? {} : { "reasoning-parser": reasoningParser }),
    ...(chatTemplate === null ? {} : { "chat-template": join(pluginsDir, chatTemplate) }),
    "override-generation-config": JSON.stringify(samplingOf(card)),
    // The bill of a stream that its reader cuts is in the last chunk that came.
    "enable-force-include-usage": true,
    "enable-prompt-tokens-details": true,
    "disable-fastapi-docs": true,
    "disable-access-log-for-endpoints": "/health,/metrics,/is_sleeping",
    ...(isSleepable ? { "enable-sleep-mode": true } : {}),
  };
}

/** Of an engine's process. Settings of no model: which GPUs, and whom it may not speak to. */
export function vllmEnvironment({
  plan,
  weightsDir,
  isSleepable = false,
  isContained = false,
}: Pick<VllmRequest, "plan" | "weightsDir" | "isSleepable" | "isContained">) {
  const env: Record<string, string> = {
    VLLM_NO_USAGE_STATS: "1",
    DO_NOT_TRACK: "1",
    HF_HUB_DISABLE_TELEMETRY: "1",
  };
  // Its processes find each other on this machine, and nobody else finds them.
  if (!isContained) env["VLLM_HOST_IP"] = "127.0.0.1";
  if (weightsDir !== null) {
    env["HF_HUB_OFFLINE"] = "1";
    env["TRANSFORMERS_OFFLINE"] = "1";
  }
  if (isSleepable) env["VLLM_SERVER_DEV_MODE"] = "1";
  if (plan.gpus.length === 0) {
    env["VLLM_CPU_KVCACHE_SPACE"] = String(Math.max(1, Math.ceil(cacheBytes(plan) / GIB)));
    // Bound to cores, two engines of one small machine would share the first.
    env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind";
  } else if (!isContained) {
    // As nvidia-smi numbers them; CUDA's own order is by speed.
    env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID";
    env["CUDA_VISIBLE_DEVICES"] = plan.gpus.join(",");
  }
  return env;
}

/** The card's name first: answers and metrics carry it. Then what it is called at the hub. */
export function servedNames(card: ModelCard): string[] {
  return [...new Set([card.name, ...card.quantisations.map(({ repository }) => repository)])];
}

/** @throws CatalogError when the card has none of this name. */
export function quantisationOf(card: ModelCard, name: string): Quantisation {
  const found = card.quantisations.find((each) => each.name === name);
  if (found !== undefined) return found;
  const known = card.quantisations.map((each) => each.name).join(", ");
  throw new CatalogError(`${card.name} has no quantisation ${name}; it has: ${known}`);
}

/** As the weights say themselves, unless they are in the precision they were published in. */
function dtypeOf(card: ModelCard, { name, isAtLoad }: Quantisation): string {
  if (name !== card.architecture.dtype && !isAtLoad) return "auto";
  return card.architecture.dtype === "bf16" ? "bfloat16" : "float16";
}

/**
 * vLLM's word for quantising as it loads. `fp8` itself was that once; 0.32 refuses it for weights
 * that are not fp8 yet, and names this one in its place.
 */
function atLoad(card: ModelCard, { name }: Quantisation): string {
  if (name === "fp8") return "fp8_per_tensor";
  throw new CatalogError(
    `${card.name}: vLLM cannot quantise to ${name} as it loads; name published weights, or fp8`,
  );
}

/** What a call that says nothing is sampled with, whatever the weights' own file says. */
function samplingOf({ sampling }: ModelCard): Record<string, number> {
  const { temperature, topP, topK, repetitionPenalty } = sampling;
  return {
    temperature,
    top_p: topP,
    ...(topK === null ? {} : { top_k: topK }),
    ...(repetitionPenalty === null ? {} : { repetition_penalty: repetitionPenalty }),
  };
}

function cacheBytes(plan: ModelPlan): number {
  return plan.memory.find(({ part }) => part === "kv_cache")?.bytes ?? 0;
}
