/**
 * What we ask of a running engine on Ray beside calls. Its ingress answers before any engine is
 * loaded and has neither /health nor /metrics: the dashboard says the one, the nodes the other.
 */
import { request } from "undici";
import type { EngineClient } from "./engine-client.ts";
import { applicationName } from "./ray.ts";
import type { RayApi, RayApplication, RayServe } from "./ray-api.ts";
import { engineReplicas, isServing, seriesOf } from "./ray-status.ts";

const PROBE_MS = 5_000;
/** Ray collects its workers' figures every few seconds. */
const KEPT_MS = 2_000;

export function createRayEngineClient(
  api: Pick<RayApi, "read" | "metricsAddresses" | "metricsText">,
  nowMs: () => number = () => performance.now(),
): EngineClient {
  /** Whether it served when it was last seen, by its address. */
  const served = new Map<string, boolean>();
  /** The model of each address, as it was asked for, and the replicas that it last had. */
  const models = new Map<string, { model: string; replicas: ReadonlySet<string> }>();
  let kept: { atMs: number; texts: Promise<string[]> } | null = null;
  return { answers, metrics, sleep: refuse, wake: refuse };

  async function answers(baseUrl: string, model: string): Promise<boolean> {
    const serve = await api.read().catch(() => null);
    // Without its dashboard, Ray serves on: what served then serves while its ingress answers.
    if (serve !== null) {
      const application = applicationAt(serve, baseUrl);
      served.set(baseUrl, application !== undefined && isServing(application));
      const replicas = application === undefined ? new Set<string>() : engineReplicas(application);
      models.set(baseUrl, { model, replicas });
    }
    return served.get(baseUrl) === true && (await lists(baseUrl, model));
  }

  function applicationAt({ applications }: RayServe, baseUrl: string): RayApplication | undefined {
    const [, id] = /\/autocode\/([^/]+)\/v1$/.exec(new URL(baseUrl).pathname) ?? [];
    return id === undefined ? undefined : applications[applicationName(id)];
  }

  async function lists(baseUrl: string, model: string): Promise<boolean> {
    try {
      const limits = { headersTimeout: PROBE_MS, bodyTimeout: PROBE_MS };
      const response = await request(`${baseUrl}/models`, limits);
      const { data } = (await response.body.json()) as { data?: { id?: unknown }[] };
      return (
        response.statusCode === 200 && Array.isArray(data) && data.some(({ id }) => id === model)
      );
    } catch {
      // Nobody listens there, or something that is no model server: that is the answer.
      return false;
    }
  }

  async function metrics(baseUrl: string): Promise<string | null> {
    const asked = models.get(baseUrl);
    if (asked === undefined) return null;
    const { model, replicas } = asked;
    if (kept === null || nowMs() - kept.atMs > KEPT_MS) kept = { atMs: nowMs(), texts: scrape() };
    const text = (await kept.texts).map((each) => seriesOf(each, model, replicas)).join("\n");
    return text.trim() === "" ? null : text;
  }

  async function scrape(): Promise<string[]> {
    const addresses = await api.metricsAddresses().catch(() => []);
    const texts = await Promise.all(addresses.map(api.metricsText));
    return texts.filter((text) => text !== null);
  }

  async function refuse(): Promise<void> {
    throw new Error("Ray Serve puts no engine to sleep");
  }
}
