/** What Ray says of an application, as the port has it. Pure. */
import type { RayApplication, RayReplica, RayServe } from "./ray-api.ts";
import type { EngineCondition } from "./serving.ts";

/**
 * What a deployment of Ray's is to us. One that is being deleted still has its GPUs. One that is
 * unhealthy has lost its engine: Ray would start it again without a word and without an end, so it
 * counts as ended here, and is started again as any other, with its words and a limit.
 */
export function conditionOf(
  application: RayApplication | undefined,
  logTail: readonly string[],
): EngineCondition {
  if (application === undefined) return { state: "absent" };
  const { status } = application;
  if (status !== "DEPLOY_FAILED" && status !== "UNHEALTHY") {
    return { state: "running", startedAtMs: application.last_deployed_time_s * 1000 };
  }
  const lastLines = [...wordsOf(application), ...logTail].slice(-LINES_MAX);
  return { state: "ended", exit: `Ray says ${status}`, lastLines };
}

const LINES_MAX = 60;

/** Its own and its deployments' messages, where they say something. */
export function wordsOf({ message, deployments }: RayApplication): string[] {
  const said = Object.entries(deployments).map(([name, { message: words }]) =>
    words === "" ? "" : `${name}: ${words}`,
  );
  return [message, ...said].flatMap((text) => (text === "" ? [] : text.trimEnd().split("\n")));
}

/** Whether its engines are loaded: the ingress answers long before. */
export function isServing({ status, deployments }: RayApplication): boolean {
  const isUp = ({ status: each }: { status: string }) =>
    ["HEALTHY", "UPSCALING", "DOWNSCALING"].includes(each);
  return status === "RUNNING" && Object.values(deployments).every(isUp);
}

/** Those that run and those that ended, the newest of each last. */
export function replicasOf({ deployments }: RayApplication): RayReplica[] {
  return Object.values(deployments).flatMap(({ recent_dead_replicas: dead = [], replicas }) => {
    return [...dead, ...replicas];
  });
}

/**
 * What Serve was told to run by configuration, each as it was told. What code deployed
 * (`serve.run`) is not among it, and no configuration ends it; what is being deleted would come
 * back if it were named again.
 */
export function declaredOf({ applications }: RayServe): Record<string, unknown>[] {
  return Object.values(applications).flatMap(
    ({ status, source, deployed_app_config: config = null }) => {
      const isDeclared = source === undefined || source === "declarative";
      return config === null || !isDeclared || status === "DELETING" ? [] : [config];
    },
  );
}

/** Serve's own settings as they are: Ray takes what a configuration leaves out for defaults. */
export function settingsOf({
  proxy_location: location,
  http_options: http,
  grpc_options: grpc,
  target_capacity: capacity,
}: RayServe): Record<string, unknown> {
  const known = {
    proxy_location: location,
    http_options: http,
    grpc_options: grpc,
    target_capacity: capacity,
  };
  const isSaid = ([, value]: [string, unknown]) => value !== null && value !== undefined;
  return Object.fromEntries(Object.entries(known).filter(isSaid));
}

/** Ray strikes values out for browsers; written back, what stands here would be the value. */
export function isRedacted(config: unknown): boolean {
  return JSON.stringify(config).includes('"<redacted>"');
}

/** Of an exposition of Ray's, the engine's own series of one model. */
export function seriesOf(text: string, model: string): string {
  const label = `model_name="${model}"`;
  const lines = text.split("\n");
  return lines.filter((line) => line.startsWith("ray_vllm_") && line.includes(label)).join("\n");
}
