/** What we ask of a running engine beside calls: vLLM's own paths, by its address. */
export interface EngineClient {
  /** Whether it is healthy and serves `model`. */
  answers(baseUrl: string, model: string): Promise<boolean>;
  /** The text of its `/metrics`; null when it does not say. */
  metrics(baseUrl: string): Promise<string | null>;
  /** Its weights leave the GPU. @throws Error in its words when it refuses; the signal's reason. */
  sleep(baseUrl: string, signal: AbortSignal): Promise<void>;
  /** They are back when this resolves. @throws Error as `sleep`. */
  wake(baseUrl: string, signal: AbortSignal): Promise<void>;
}

const PROBE_MS = 5_000;
/** Weights of hundreds of GB move over the bus. */
const MOVE_MS = 300_000;
const METRICS_BYTES_MAX = 8 * 1024 * 1024;

export function createEngineClient(): EngineClient {
  return {
    answers,
    metrics,
    // Level 1 keeps the weights in the host's memory and drops the cache.
    sleep: (baseUrl, signal) => post(baseUrl, "/sleep?level=1", signal),
    wake: (baseUrl, signal) => post(baseUrl, "/wake_up", signal),
  };

  async function answers(baseUrl: string, model: string): Promise<boolean> {
    try {
      const health = await get(baseUrl, "/health");
      await health.body?.cancel();
      if (!health.ok) return false;
      const models = await get(baseUrl, "/v1/models");
      const { data } = (await models.json()) as { data?: { id?: unknown }[] };
      return models.ok && Array.isArray(data) && data.some(({ id }) => id === model);
    } catch {
      // Nobody listens there yet, or not any more: that is the answer.
      return false;
    }
  }

  async function metrics(baseUrl: string): Promise<string | null> {
    try {
      const response = await get(baseUrl, "/metrics");
      const text = await response.text();
      return response.ok && text.length <= METRICS_BYTES_MAX ? text : null;
    } catch {
      return null;
    }
  }

  function get(baseUrl: string, path: string): Promise<Response> {
    return fetch(`${rootOf(baseUrl)}${path}`, { signal: AbortSignal.timeout(PROBE_MS) });
  }

  async function post(baseUrl: string, path: string, ended: AbortSignal): Promise<void> {
    const url = `${rootOf(baseUrl)}${path}`;
    const signal = AbortSignal.any([ended, AbortSignal.timeout(MOVE_MS)]);
    const response = await fetch(url, { method: "POST", signal });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`POST ${path} answered ${response.status}: ${text.slice(0, 500)}`);
    }
  }
}

/** Where an engine of that address is to listen. */
export function listenAddress(baseUrl: string): { host: string; port: number } {
  const { hostname, port } = new URL(baseUrl);
  // A URL has an IPv6 address in brackets; a socket takes it without.
  return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) };
}

function rootOf(baseUrl: string): string {
  return baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "");
}
