/** What Ray says of an application, as the port has it. Pure. */
import type { EpochMs } from "../runtime/clock.ts";
import type { RayApplication, RayDeployment, RayReplica, RayServe } from "./ray-api.ts";
import type { EngineCondition } from "./serving.ts";

/**
 * What a deployment of Ray's is to us. One that is being deleted still has its GPUs. One that is
 * unhealthy has lost its engine: Ray would start it again without a word and without an end, so it
 * counts as ended here, and is started again as any other, with its words and a limit.
 */
export function conditionOf(
  application: RayApplication,
  { startedAtMs, logTail }: { startedAtMs: EpochMs; logTail: readonly string[] },
): EngineCondition {
  if (!hasEnded(application)) return { state: "running", startedAtMs };
  const lastLines = [...wordsOf(application), ...logTail].slice(-LINES_MAX);
  return { state: "ended", exit: `Ray says ${application.status}`, lastLines };
}

const LINES_MAX = 60;

export function hasEnded({ status }: RayApplication): boolean {
  return status === "DEPLOY_FAILED" || status === "UNHEALTHY";
}

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
  return Object.values(deployments).flatMap(everyReplica);
}

/** Of its engine, running or not; none before Ray starts one. */
export function newestEngine(application: RayApplication): RayReplica | undefined {
  return engineDeployments(application).flatMap(everyReplica).at(-1);
}

function everyReplica({ recent_dead_replicas: dead = [], replicas }: RayDeployment): RayReplica[] {
  return [...dead, ...replicas];
}

/** By the names that vLLM's figures have of them (`ReplicaId`). */
export function engineReplicas(application: RayApplication): Set<string> {
  return new Set(running(application).map(({ replica_id: id }) => id));
}

/** When the engine of these replicas started; `replicas` is empty before there are any. */
export interface EngineStart {
  readonly replicas: string;
  readonly atMs: EpochMs;
}

/**
 * When its engine started, which is not when Ray was last told of it: each PUT is that for every
 * application in it. Serve's controller, when it comes back from its own end, takes that moment
 * for its replicas' start: of the replicas in `known` the time there holds.
 */
export function startOf(application: RayApplication, known: EngineStart | undefined): EngineStart {
  const engines = running(application);
  const replicas = engines
    .map(({ replica_id: id }) => id)
    .sort()
    .join(" ");
  if (known !== undefined && replicas !== "" && known.replicas === replicas) return known;
  const started = engines.map(({ start_time_s: atS = 0 }) => atS);
  const atS = Math.max(0, ...started) || application.last_deployed_time_s;
  return { replicas, atMs: Math.round(atS * 1000) };
}

function running(application: RayApplication): RayReplica[] {
  const replicas = engineDeployments(application).flatMap((deployment) => deployment.replicas);
  return replicas.filter(({ state }) => state !== "STOPPING");
}

/** All but its ingress, which is one alone where the application has no other. */
function engineDeployments({ deployments, deployment_topology: topology }: RayApplication) {
  const ingress = topology?.ingress_deployment;
  const behind = Object.entries(deployments).filter(([name]) => name !== ingress);
  return behind.length === 0 ? Object.values(deployments) : behind.map(([, each]) => each);
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

/**
 * Of an exposition of Ray's, the series of one model's replicas: another application may serve the
 * same model, and what ended is told of for a while. A vLLM that names no replica is of any.
 */
export function seriesOf(text: string, model: string, replicas: ReadonlySet<string>): string {
  const label = `model_name="${model}"`;
  const isOwn = (line: string) => {
    if (!line.startsWith("ray_vllm_") || !line.includes(label)) return false;
    const [, replica = ""] = /[{,]ReplicaId="([^"]*)"/.exec(line) ?? [];
    return replica === "" || replicas.has(replica);
  };
  return text.split("\n").filter(isOwn).join("\n");
}
