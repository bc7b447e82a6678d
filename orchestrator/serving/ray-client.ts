/**
 * What we ask of a running engine on Ray beside calls. Its ingress answers before any engine is
 * loaded and has neither /health nor /metrics: the dashboard says the one, the nodes the other.
 */
import { request } from "undici";
import type { EngineClient } from "./engine-client.ts";
import { applicationName } from "./ray.ts";
import type { RayApi, RayServe } from "./ray-api.ts";
import { isServing, seriesOf } from "./ray-status.ts";

const PROBE_MS = 5_000;
/** Ray collects its workers' figures every few seconds. */
const KEPT_MS = 2_000;

export function createRayEngineClient(
  api: Pick<RayApi, "read" | "metricsAddresses" | "metricsText">,
  nowMs: () => number = () => performance.now(),
): EngineClient {
  /** Whether it served when it was last seen, by its address. */
  const served = new Map<string, boolean>();
  /** The model of each address, as it was asked for. */
  const models = new Map<string, string>();
  let kept: { atMs: number; texts: Promise<string[]> } | null = null;
  return { answers, metrics, sleep: refuse, wake: refuse };

  async function answers(baseUrl: string, model: string): Promise<boolean> {
    models.set(baseUrl, model);
    const serve = await api.read().catch(() => null);
    // Without its dashboard, Ray serves on: what served then serves while its ingress answers.
    if (serve !== null) served.set(baseUrl, isServingAt(serve, baseUrl));
    return served.get(baseUrl) === true && (await lists(baseUrl, model));
  }

  function isServingAt({ applications }: RayServe, baseUrl: string): boolean {
    const [, id] = /\/autocode\/([^/]+)\/v1$/.exec(new URL(baseUrl).pathname) ?? [];
    const application = id === undefined ? undefined : applications[applicationName(id)];
    return application !== undefined && isServing(application);
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
    const model = models.get(baseUrl);
    if (model === undefined) return null;
    if (kept === null || nowMs() - kept.atMs > KEPT_MS) kept = { atMs: nowMs(), texts: scrape() };
    const text = (await kept.texts).map((each) => seriesOf(each, model)).join("\n");
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
