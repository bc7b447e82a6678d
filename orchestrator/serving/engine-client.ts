/** What we ask of a running engine beside calls: vLLM's own paths, by its address. */
export interface EngineClient {
  /** Whether it is healthy and serves `model`. */
  answers(baseUrl: string, model: string): Promise<boolean>;
  /** The text of its `/metrics`; null when it does not say. */
  metrics(baseUrl: string): Promise<string | null>;
  /** Its weights leave the GPU. @throws Error in its words when it refuses. */
  sleep(baseUrl: string): Promise<void>;
  /** They are back when this resolves. @throws Error as `sleep`. */
  wake(baseUrl: string): Promise<void>;
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
    sleep: (baseUrl) => post(baseUrl, "/sleep?level=1"),
    wake: (baseUrl) => post(baseUrl, "/wake_up"),
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

  async function post(baseUrl: string, path: string): Promise<void> {
    const url = `${rootOf(baseUrl)}${path}`;
    const response = await fetch(url, { method: "POST", signal: AbortSignal.timeout(MOVE_MS) });
    const text = await response.text();
    if (!response.ok) {
      throw new Error(`POST ${path} answered ${response.status}: ${text.slice(0, 500)}`);
    }
  }
}

function rootOf(baseUrl: string): string {
  return baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "");
}
