/**
 * The file that `serve deploy` takes for a planned pair: both models as deployments of Ray Serve
 * (Ray 2.60, `ray.serve.llm`) behind one ingress. Every field is one that Ray's schemas have; they
 * refuse what they do not know. What the ingress cannot do is said in app.py.
 */
import { stringify } from "yaml";
import type { ModelPlan, PairPlan } from "../../orchestrator/contract/models.ts";
import type { ModelCard } from "../card.ts";
import { CatalogError } from "../yaml-file.ts";
import { type VllmSettings, vllmEnvironment, vllmSettings } from "./vllm-command.ts";

export interface RayOptions extends RayPlaces {
  /** Of the ingress. It knows no key: loopback, or what only gateways reach. */
  readonly host: string;
  readonly port: number;
}

/** What Ray's nodes see. */
interface RayPlaces {
  /** Of the models whose weights are in a folder there; the others come from the hub. */
  readonly weightsDirs: ReadonlyMap<string, string>;
  /** The folder of app.py and the plugins, on every node; ours by default. */
  readonly pluginsDir?: string;
  /** Replicas of each model that the cluster may grow to; each takes the GPUs of the plan. */
  readonly replicasMax: number;
  /** What a model answers to there, the one name that Ray gives it; the card's when left out. */
  readonly modelId?: (card: ModelCard) => string;
}

/** Ray's words for GPUs that it tells apart by itself (`ray.util.accelerators`). */
const ACCELERATORS: Readonly<Record<string, string>> = {
  a10g: "A10G",
  l4: "L4",
  l40s: "L40S",
  "a100-40": "A100",
  "a100-80": "A100",
  h100: "H100",
  "h100-pcie": "H100",
  h200: "H200",
  b200: "B200",
};

/** As long as a gateway waits for a model; Ray's own ends long streams after 10 minutes. */
const REQUEST_TIMEOUT_S = 1800;
const ONGOING_MAX = 256;
const UPSCALE_DELAY_S = 30;
const DOWNSCALE_DELAY_S = 600;
/** Of the longest sequences that fit its cache: above it another replica is worth its start. */
const TARGET_SHARE = 0.75;

/** What vLLM's own server takes and Ray's ingress has no use for. */
const OF_SERVER = new Set([
  "model",
  "served-model-name",
  "disable-fastapi-docs",
  "disable-access-log-for-endpoints",
]);

/** @throws CatalogError for a plan that does not fit, or that Ray cannot place. */
export function rayConfig(
  plan: PairPlan,
  cards: ReadonlyMap<string, ModelCard>,
  options: RayOptions,
): string {
  if (!plan.fits) throw new CatalogError(plan.refusal ?? `${plan.pair} does not fit`);
  const refusal = rayRefusal(plan);
  if (refusal !== null) throw new CatalogError(refusal);
  const { host, port } = options;
  // As gateways ask for it that know but its address: by its name at the hub.
  const application = rayApplication(plan, plan.models, cards, { ...options, modelId: hubName });
  const config = {
    proxy_location: "EveryNode",
    http_options: { host, port, request_timeout_s: REQUEST_TIMEOUT_S },
    applications: [{ name: plan.pair, route_prefix: "/", ...application }],
  };
  return stringify(config, { lineWidth: 100, aliasDuplicateObjects: false });
}

/**
 * The application of `models` of a plan, all of them or one, but for its name and its path.
 *
 * @throws CatalogError where a card is gone.
 */
export function rayApplication(
  plan: PairPlan,
  models: readonly ModelPlan[],
  cards: ReadonlyMap<string, ModelCard>,
  options: RayPlaces,
) {
  const { pluginsDir = import.meta.dirname } = options;
  return {
    import_path: "app:build",
    runtime_env: {
      env_vars: {
        PYTHONPATH: pluginsDir,
        RAY_SERVE_LLM_ROUTER_HTTP_TIMEOUT: String(REQUEST_TIMEOUT_S),
      },
    },
    args: { llm_configs: models.map((model) => llmConfig(model)) },
  };

  function llmConfig(model: ModelPlan) {
    const card = cards.get(model.model);
    if (card === undefined) throw new CatalogError(`no model card is called ${model.model}`);
    const weightsDir = options.weightsDirs.get(card.name) ?? null;
    const settings = vllmSettings({ card, plan: model, weightsDir, pluginsDir });
    return {
      model_loading_config: {
        model_id: options.modelId?.(card) ?? card.name,
        model_source: settings["model"],
      },
      ...placementOf(plan, model),
      engine_kwargs: engineArguments(settings),
      deployment_config: deploymentOf(model, options.replicasMax),
      // Ray starts two for each replica of a model; one machine needs one.
      ...(options.replicasMax === 1 ? { experimental_configs: { num_ingress_replicas: 1 } } : {}),
      runtime_env: {
        env_vars: {
          PYTHONPATH: pluginsDir,
          ...vllmEnvironment({ plan: model, weightsDir, isContained: true }),
        },
      },
    };
  }
}

/**
 * Why Ray cannot place a plan that fits; null when it can. Ray places by whole GPUs or shares of
 * one, and never puts an engine to sleep for another.
 */
export function rayRefusal({ residency, models, pair }: PairPlan): string | null {
  if (residency === "alternate") {
    return (
      `${pair} fits only one model at a time, and Ray Serve does not put engines to sleep; ` +
      "render it as vllm, or plan more GPUs"
    );
  }
  const isSpread = models.some((model) => model.tensor_parallel * model.pipeline_parallel > 1);
  if (residency === "together" && isSpread) {
    return (
      `${pair} shares several GPUs, and Ray does not keep two workers of a model off one shared ` +
      "GPU; render it as vllm, or plan GPUs for each model of its own"
    );
  }
  return null;
}

/** As `upstreamName` of the catalogue. */
function hubName({ name, quantisations: [best] }: ModelCard): string {
  return best?.repository ?? name;
}

/** Python's names and values for what the command line says. */
function engineArguments(settings: VllmSettings): Record<string, unknown> {
  const kept = Object.entries(settings).filter(([name]) => !OF_SERVER.has(name));
  return Object.fromEntries(
    kept.map(([name, value]) => [
      name.replaceAll("-", "_"),
      name === "override-generation-config" ? JSON.parse(String(value)) : value,
    ]),
  );
}

/** Whole GPUs by their kind; of one that both models are on, as much as the engine takes of it. */
function placementOf({ gpu, residency }: PairPlan, model: ModelPlan) {
  if (model.gpus.length === 0) {
    const perWorker = { CPU: 1 };
    return {
      accelerator_config: { kind: "cpu" },
      placement_group_config: { bundle_per_worker: perWorker },
    };
  }
  const kind = ACCELERATORS[gpu];
  const share = Math.floor(model.gpu_memory_utilization * 100) / 100;
  return {
    ...(kind === undefined ? {} : { accelerator_type: kind }),
    ...(residency === "together"
      ? { placement_group_config: { bundle_per_worker: { CPU: 1, GPU: share } } }
      : {}),
  };
}

function deploymentOf({ max_sequences: sequences }: ModelPlan, replicasMax: number) {
  return {
    // As many as the engine takes in; more wait in Ray.
    max_ongoing_requests: ONGOING_MAX,
    health_check_period_s: 10,
    health_check_timeout_s: 30,
    graceful_shutdown_wait_loop_s: 2,
    graceful_shutdown_timeout_s: 120,
    autoscaling_config: {
      min_replicas: 1,
      initial_replicas: 1,
      max_replicas: replicasMax,
      target_ongoing_requests: Math.max(1, Math.floor(sequences * TARGET_SHARE)),
      upscale_delay_s: UPSCALE_DELAY_S,
      downscale_delay_s: DOWNSCALE_DELAY_S,
    },
    // What agents send again and again is a long prompt that grows at its end: the replica that
    // has its beginning in the cache answers for the price of the rest.
    request_router_config: {
      request_router_class: "ray.serve.llm.request_router.PrefixCacheAffinityRouter",
      request_router_kwargs: {
        imbalanced_threshold: 10,
        match_rate_threshold: 0.1,
        do_eviction: true,
        eviction_threshold_chars: 40_000_000,
        eviction_target_chars: 36_000_000,
        eviction_interval_secs: 60,
      },
    },
  };
}
