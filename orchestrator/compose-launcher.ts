/** Which launcher of engines an installation has, with how engines of it are asked and rendered. */
import { hostname } from "node:os";
import { join } from "node:path";
import type { ModelCard } from "../models/card.ts";
import { rayApplication } from "../models/serving/ray-config.ts";
import { vllmCommand } from "../models/serving/vllm-command.ts";
import { CatalogError } from "../models/yaml-file.ts";
import type { Config } from "./config.ts";
import type { RayConfig } from "./config-serving.ts";
import type { Finding } from "./contract/system.ts";
import { Problem } from "./problem.ts";
import type { Layout } from "./projects/layout.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import { createEngineClient, type EngineClient, listenAddress } from "./serving/engine-client.ts";
import { openProcesses } from "./serving/processes.ts";
import { openRay } from "./serving/ray.ts";
import { createRayApi, type RayApi } from "./serving/ray-api.ts";
import { createRayEngineClient } from "./serving/ray-client.ts";
import type { EngineToStart } from "./serving/servers.ts";
import type { EngineLauncher, EngineProgram } from "./serving/serving.ts";

/** Between asking a process to end and ending it. */
const GRACE_MS = 30_000;
const LOOK_MS = 500;
/** Ray asks its replicas to end their calls within two minutes (models/serving/ray-config.ts). */
const GONE_MAX_MS = 180_000;
const RAY_LOOK_MS = 2_000;
const RAY_TIMEOUT_MS = 20_000;

export interface Launching {
  launcher: EngineLauncher;
  client: EngineClient;
  program: (engine: EngineToStart) => EngineProgram;
  /** For `doctor`: which it is, and whether it answers. */
  describe(): Promise<Finding>;
}

export async function openLauncher(
  { layout, log }: { layout: Pick<Layout, "engines" | "logs" | "weights">; log: Log },
  { serving, workerEnv }: Pick<Config, "serving" | "workerEnv">,
): Promise<Launching> {
  if (serving.ray !== null) return rayLauncher(serving.ray, serving.why, layout.weights, log);
  const launcher = await openProcesses(
    { clock, log },
    {
      dir: join(layout.engines, hostname()),
      logsDir: layout.logs,
      host: serving.host,
      env: { ...workerEnv, ...serving.env },
      graceMs: GRACE_MS,
      pollMs: LOOK_MS,
    },
  );
  const { python, host, why } = serving;
  return {
    launcher,
    client: createEngineClient(),
    program: (engine) => ({
      kind: "command",
      ...vllmCommand({ ...engine, ...listenAddress(engine.baseUrl), python }),
    }),
    describe: async () => finding("ok", `processes of this machine, at ${host}; ${why}`),
  };
}

function rayLauncher(config: RayConfig, why: string, weightsRoot: string, log: Log): Launching {
  const api = createRayApi({ url: config.url, token: config.token, timeoutMs: RAY_TIMEOUT_MS });
  const ingressUrl = config.ingressUrl;
  const times = { goneMaxMs: GONE_MAX_MS, pollMs: RAY_LOOK_MS };
  return {
    launcher: openRay({ api, clock, log }, { ingressUrl, ...times }),
    client: createRayEngineClient(api),
    program,
    describe: () => describeRay(api, why),
  };

  /** A folder of our weight store is at another place on Ray's nodes, where it is said so. */
  function program({ card, plan, pairPlan, weightsDir }: EngineToStart): EngineProgram {
    const there = weightsDir.startsWith(`${weightsRoot}/`)
      ? `${config.weightsDir ?? weightsRoot}${weightsDir.slice(weightsRoot.length)}`
      : weightsDir;
    const cards = new Map<string, ModelCard>([[card.name, card]]);
    const pluginsDir = config.pluginsDir === null ? {} : { pluginsDir: config.pluginsDir };
    const places = { weightsDirs: new Map([[card.name, there]]), replicasMax: 1, ...pluginsDir };
    try {
      const application = rayApplication(pairPlan, [plan], cards, places);
      return { kind: "application", application };
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error;
      throw new Problem("conflict", error.message, { cause: error });
    }
  }
}

async function describeRay(api: RayApi, why: string): Promise<Finding> {
  try {
    const version = await api.version();
    const { applications } = await api.read();
    const states = Object.entries(applications).map(([name, { status }]) => `${name} ${status}`);
    const running = states.length === 0 ? "no application" : states.join(", ");
    return finding("ok", `Ray ${version} at ${api.url}: ${running}; ${why}`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const step = "no engine can be brought up or down until it answers";
    return { ...finding("warn", `${error.message}; ${why}`), next_step: step };
  }
}

function finding(status: Finding["status"], detail: string): Finding {
  return { part: "engine launcher", status, detail, next_step: null };
}
