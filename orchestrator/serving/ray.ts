/**
 * Engines as applications of Ray Serve, one each, behind the cluster's one HTTP ingress, where a
 * path tells them apart. Ray has one configuration for all: it is read, changed and written back,
 * and what others have in it stays. An application of its own, not one for a pair: Ray restarts all
 * that is in an application whose arguments change, and so an engine with its fellow.
 *
 * Invariant: of what is deployed by configuration there, nothing but our engines is ever left out.
 */
import { setTimeout as pause } from "node:timers/promises";
import { rayRefusal } from "../../models/serving/ray-config.ts";
import type { PairPlan } from "../contract/models.ts";
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { RayApi, RayApplication, RayServe } from "./ray-api.ts";
import { createRayLogs } from "./ray-logs.ts";
import {
  conditionOf,
  declaredOf,
  type EngineStart,
  hasEnded,
  isRedacted,
  settingsOf,
  startOf,
} from "./ray-status.ts";
import { engineId } from "./rows.ts";
import type { EngineCondition, EngineLauncher, EngineSpec } from "./serving.ts";

export interface RayOptions {
  /** Where gateways reach Serve's ingress, without a slash at its end; null: as Serve says. */
  ingressUrl: string | null;
  /** What an engine may take to be gone: Ray lets it end its calls first. */
  goneMaxMs: number;
  pollMs: number;
}

/** Serve's own, where nothing else is said. */
const INGRESS_PORT = 8000;
const REQUEST_TIMEOUT_S = 1800;

export function openRay(
  { api, clock, log }: { api: RayApi; clock: Clock; log: Log },
  options: RayOptions,
): EngineLauncher {
  const listeners = new Set<(id: string) => void>();
  const last = new Map<string, EngineCondition>();
  const starts = new Map<string, EngineStart>();
  const logs = createRayLogs(api, options.pollMs);
  let changing: Promise<unknown> = Promise.resolve();
  let isAway = false;
  const watching = setInterval(watch, options.pollMs);
  watching.unref();
  return {
    ...{ name: "ray", addresses, start, condition, stop, onEnd },
    logs: (id, how) => logs.read(applicationName(id), how),
    // Engines run on: whoever asks the cluster next finds them.
    [Symbol.asyncDispose]: async () => {
      clearInterval(watching);
      listeners.clear();
    },
  };

  async function addresses(plan: PairPlan): Promise<string[]> {
    const refusal = rayRefusal(plan) ?? sharingRefusal(plan);
    if (refusal !== null) throw new Problem("conflict", refusal);
    const ingress = ingressOf(await api.read());
    return plan.models.map(({ side }) => {
      return `${ingress}${routePrefix(engineId({ pair: plan.pair, side }))}/v1`;
    });
  }

  /** As configured, or at the dashboard's host and the port that Serve has, or will be given. */
  function ingressOf({ http_options: http }: RayServe): string {
    const port = Number(http?.["port"] ?? INGRESS_PORT);
    if (options.ingressUrl === null) {
      const { protocol, hostname } = new URL(api.url);
      return `${protocol}//${hostname}:${port}`;
    }
    return options.ingressUrl;
  }

  async function start({ id, program, model }: EngineSpec): Promise<void> {
    if (program.kind !== "application") {
      const detail = `${id} is no application of Ray's: it was rendered for another launcher`;
      throw new Problem("conflict", `${detail}; bring its pair down, and up again`);
    }
    const name = applicationName(id);
    await change((declared, serve) => {
      const there = serve.applications[name];
      if (there !== undefined && there.status !== "DELETING") return null;
      log.info({ engine: id, application: name, model }, "engine deployed on Ray");
      const route = routePrefix(id);
      return [...declared, { ...program.application, name, route_prefix: route }];
    });
    last.set(id, { state: "running", startedAtMs: clock.now() });
  }

  async function condition(id: string): Promise<EngineCondition> {
    let now: EngineCondition;
    try {
      const application = (await api.read()).applications[applicationName(id)];
      now = application === undefined ? { state: "absent" } : await conditionIn(application, id);
      isAway = false;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // An engine does not end with the dashboard. Whether it answers, its ingress says.
      if (!isAway) log.warn({ err: error }, "Ray's dashboard does not answer");
      isAway = true;
      return last.get(id) ?? { state: "running", startedAtMs: clock.now() };
    }
    const before = last.get(id);
    last.set(id, now);
    if (now.state === "ended" && before?.state !== "ended") tell(id);
    return now;
  }

  async function conditionIn(application: RayApplication, id: string): Promise<EngineCondition> {
    const started = startOf(application, starts.get(id));
    if (started.replicas !== "") starts.set(id, started);
    const logTail = hasEnded(application) ? await logs.tail(applicationName(id)) : [];
    return conditionOf(application, { startedAtMs: started.atMs, logTail });
  }

  async function stop(id: string): Promise<void> {
    const name = applicationName(id);
    await change((declared, serve) => {
      const { applications } = serve;
      if (applications[name] === undefined || applications[name].status === "DELETING") return null;
      return declared.filter((one) => one["name"] !== name);
    });
    const endMs = performance.now() + options.goneMaxMs;
    while ((await api.read()).applications[name] !== undefined) {
      if (performance.now() > endMs) {
        const detail = `Ray has not ended ${name} within ${options.goneMaxMs / 1000} s`;
        throw new Problem("conflict", `${detail}; serve status at the cluster says why`);
      }
      await pause(options.pollMs);
    }
    last.delete(id);
    starts.delete(id);
  }

  /**
   * One change at a time: Ray takes all or nothing, and knows no version of what was read. Null:
   * nothing is to change.
   */
  function change(
    edit: (
      declared: Record<string, unknown>[],
      serve: RayServe,
    ) => Record<string, unknown>[] | null,
  ): Promise<void> {
    const changed = changing.then(async () => {
      const serve = await api.read();
      const applications = edit(declaredOf(serve), serve);
      if (applications === null) return;
      if (isRedacted(applications)) {
        const detail = `Ray at ${api.url} strikes values out of the configurations it shows`;
        const why = "written back, applications of others would lose theirs";
        throw new Problem("conflict", `${detail}: ${why}; unset RAY_DASHBOARD_REDACT_RUNTIME_ENV`);
      }
      await api.put({ ...firstSettings(), ...settingsOf(serve), applications });
    });
    changing = changed.catch(() => {});
    return changed;
  }

  /** Of a cluster that runs no Serve yet: our first application starts it. */
  function firstSettings(): Record<string, unknown> {
    const { hostname, port } = new URL(options.ingressUrl ?? `http://any:${INGRESS_PORT}`);
    const isLoopback = /^(localhost|127[.]|\[::1\])/.test(hostname);
    return {
      proxy_location: "EveryNode",
      http_options: {
        host: isLoopback ? "127.0.0.1" : "0.0.0.0",
        port: Number(port === "" ? INGRESS_PORT : port),
        request_timeout_s: REQUEST_TIMEOUT_S,
      },
    };
  }

  function onEnd(listener: (id: string) => void): Disposable {
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  /** For those who listen: of the engines that were asked for. */
  function watch(): void {
    if (listeners.size === 0) return;
    for (const id of last.keys()) condition(id).catch(() => {});
  }

  function tell(id: string): void {
    for (const listener of [...listeners]) listener(id);
  }
}

/** Our applications, so that those of others are not taken for engines. */
export function applicationName(id: string): string {
  return `autocode-${id}`;
}

function routePrefix(id: string): string {
  return `/autocode/${id}`;
}

/** Ray starts both at once, and an engine takes what is free as it starts for its own. */
function sharingRefusal({ residency, pair, models }: PairPlan): string | null {
  if (residency !== "together" || models.every(({ gpus }) => gpus.length === 0)) return null;
  return (
    `${pair} shares GPUs, and each of two engines measures what is free as it loads: Ray loads ` +
    "them at once; plan GPUs for each model of its own, or serve it with AUTOCODE_SERVING=processes"
  );
}
