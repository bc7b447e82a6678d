/**
 * The gateway's HTTP server: who asks, for what, in which dialect. All a worker can reach of the
 * models; it answers on its own account only in the dialect of the path.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { CallId, KeyId } from "../../orchestrator/runtime/ids.ts";
import { readBody } from "./body.ts";
import { forwardCall } from "./call.ts";
import { credential } from "./credential.ts";
import { createFinisher } from "./finisher.ts";
import {
  GATEWAY_DEFAULTS,
  type GatewayDeps,
  type GatewayOptions,
  type GatewayState,
} from "./gateway.ts";
import { createKeyStates } from "./key-state.ts";
import { createRateLimits } from "./limits.ts";
import { createMetrics } from "./metrics.ts";
import { recordOwnAnswer } from "./own-answer.ts";
import { createProviderHealth } from "./provider-health.ts";
import { createRecorder } from "./recorder.ts";
import {
  type Envelope,
  LEDGER_UNAVAILABLE,
  type Refusal,
  rateLimited,
  refusalBody,
  refusalHeaders,
} from "./refusal.ts";
import { listModels } from "./resolve-model.ts";
import { prepareServed } from "./served-call.ts";
import { createThresholds } from "./thresholds.ts";
import { countTokens } from "./token-count.ts";

const WIRES: Readonly<Record<string, Wire>> = {
  "/v1/chat/completions": "openai.chat",
  "/v1/completions": "openai.completions",
  "/v1/embeddings": "openai.embeddings",
  "/v1/responses": "openai.responses",
  "/v1/messages": "anthropic.messages",
};
const REQUEST_TIMEOUT_MS = 60_000;
const HEADERS_TIMEOUT_MS = 20_000;
/** How long the rest of a refused body is read and thrown away, so that the answer gets through. */
const LINGER_MS = 5_000;

export interface Gateway {
  /** Listens, on loopback unless told otherwise; port 0 is any free one. */
  listen(port?: number, host?: string): Promise<{ url: string; port: number }>;
  /** Takes no new call, lets running ones end for `graceMs`, then cuts and settles them. */
  close(graceMs: number): Promise<void>;
  /** Prometheus text. */
  metrics(): Promise<string>;
}

interface Exchange {
  incoming: IncomingMessage;
  response: ServerResponse;
  path: string;
  id: CallId;
  envelope: Envelope;
  startedAtMs: EpochMs;
  /** What was read of its body. */
  body: Buffer | null;
}

export function createGateway(deps: GatewayDeps, given: Partial<GatewayOptions> = {}): Gateway {
  const { keys, ledger, calls, ids, log } = deps;
  const options: GatewayOptions = { ...GATEWAY_DEFAULTS, ...given };
  const work = new Set<Promise<unknown>>();
  const closing = new AbortController();
  const keyStates = createKeyStates(options.callsPerKeyMax, deps.clock);
  const finisher = createFinisher({ calls, ledger, ids, log });
  const recorder = createRecorder({ flows: deps.flows ?? null, log }, (ended) =>
    deps.hooks?.onCalls?.(ended),
  );
  const metrics = createMetrics({
    callsInFlight: keyStates.inFlight,
    settlementsPending: finisher.pending,
    bodiesDropped: recorder.cutShort,
    recordsLost: recorder.lost,
  });
  const state: GatewayState = {
    keys: keyStates,
    finisher,
    health: createProviderHealth(),
    limits: createRateLimits(),
    thresholds: createThresholds(),
    metrics,
    recorder,
    tell,
    background,
  };
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: HEADERS_TIMEOUT_MS, noDelay: true },
    (incoming, response) => background(serve(incoming, response)),
  );
  return { listen, close, metrics: metrics.text };

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const [path = "/"] = (incoming.url ?? "/").split("?");
    const isAnthropic = path.startsWith("/v1/messages") || "anthropic-version" in incoming.headers;
    const envelope: Envelope = isAnthropic ? "anthropic" : "openai";
    const startedAtMs = deps.clock.now();
    const shared = { incoming, response, path, envelope, startedAtMs };
    const exchange: Exchange = { ...shared, id: ids.next("call"), body: null };
    response.on("error", () => undefined);
    try {
      await route(exchange);
    } catch (error) {
      log.error({ err: error, call_id: exchange.id, path }, "request failed");
      const message = "The gateway failed.";
      refuse(exchange, { status: 500, code: "internal", message });
    }
  }

  async function route(exchange: Exchange): Promise<void> {
    const { incoming, path } = exchange;
    const method = incoming.method ?? "GET";
    const isRead = method === "GET" || method === "HEAD";
    if (path === "/" && isRead) return send(exchange, { name: "autocode gateway" });
    const wire = method === "POST" ? WIRES[path] : undefined;
    const isCount = method === "POST" && path === "/v1/messages/count_tokens";
    const isModels = isRead && /^\/v1\/models(?:\/[^/]{1,300})?$/.test(path);
    if (wire === undefined && !isCount && !isModels) {
      const message = `There is no ${method.slice(0, 10)} ${path.slice(0, 100)} here`;
      return refuse(exchange, { status: 404, code: "not_found", message });
    }
    const caller = await authenticate(exchange);
    if (caller === null) return;
    if (isModels) return sendModels(exchange, caller);

    const limits = { ...options.keyLimits, ...caller.grant.limits };
    const waitMs = state.limits.enter(caller.keyId, limits, deps.clock.now());
    if (waitMs > 0) return refuse(exchange, rateLimited(waitMs), caller);
    const callsMax = limits.callsAtOnce ?? options.callsPerKeyMax;
    if (!state.keys.enter(caller.keyId, callsMax)) {
      const message = `This key has ${callsMax} calls running. Wait for one to end.`;
      const refusal: Refusal = { status: 429, code: "too_many_calls", message, retryAfterS: 1 };
      return refuse(exchange, refusal, caller);
    }
    try {
      if (wire === undefined) await count(exchange, caller);
      else await call(exchange, caller, wire);
    } finally {
      state.keys.leave(caller.keyId);
    }
  }

  /** The key's grant; null when it was refused. */
  async function authenticate(exchange: Exchange): Promise<{ keyId: KeyId; grant: Grant } | null> {
    const secret = credential(exchange.incoming);
    if (secret === null) {
      const message = "Give the trial's key as a Bearer token or as x-api-key";
      refuse(exchange, { status: 401, code: "unauthenticated", message, isFinal: true });
      return null;
    }
    const found = await keys.find(secret).catch((error: unknown) => {
      log.error({ err: error }, "key not looked up");
      return null;
    });
    if (found === null) {
      refuse(exchange, LEDGER_UNAVAILABLE);
      return null;
    }
    if (found.outcome === "granted") return found;
    const message = `This key is ${found.outcome === "unknown" ? "not known" : found.outcome}`;
    refuse(exchange, { status: 401, code: "unauthenticated", message, isFinal: true });
    return null;
  }

  async function call(
    exchange: Exchange,
    caller: { keyId: KeyId; grant: Grant },
    wire: Wire,
  ): Promise<void> {
    const { incoming, response, id } = exchange;
    const body = await readBody(incoming, options.bodyBytesMax);
    if (body.outcome === "gone") return;
    if (body.outcome === "refused") return refuse(exchange, body.refusal, caller);
    exchange.body = body.bytes;
    const readAtMs = performance.now();
    const waiting = { incoming, response, closing, again: () => authenticate(exchange) };
    const asked = { id, wire, ...caller };
    const prepared = await prepareServed(deps, options, state, asked, body.bytes, waiting);
    if (prepared === null) return;
    if (prepared.outcome === "refused") return refuse(exchange, prepared.refusal, caller);
    state.metrics.addedBefore(performance.now() - readAtMs - prepared.waitedMs);
    await forwardCall(deps, options, state, prepared.call, incoming, response, (refusal) =>
      refuse(exchange, refusal),
    );
  }

  async function count(exchange: Exchange, caller: { keyId: KeyId; grant: Grant }): Promise<void> {
    const body = await readBody(exchange.incoming, options.bodyBytesMax);
    if (body.outcome === "gone") return;
    if (body.outcome === "refused") return refuse(exchange, body.refusal, caller);
    exchange.body = body.bytes;
    const counted = await countTokens(deps, caller.grant, exchange, body.bytes);
    if ("refusal" in counted) return refuse(exchange, counted.refusal, caller);
    const marks = counted.isEstimated ? { "x-autocode-estimated": "true" } : {};
    send(exchange, { input_tokens: counted.inputTokens }, caller.grant, marks);
  }

  function sendModels(exchange: Exchange, caller: { keyId: KeyId; grant: Grant }): void {
    const { grant } = caller;
    const isAnthropic = exchange.envelope === "anthropic";
    const list = listModels(grant, isAnthropic) as { data: { id: string }[] };
    const wanted = exchange.path.slice("/v1/models/".length);
    const one = list.data.find((model) => encodeURIComponent(model.id) === wanted);
    if (wanted === "") send(exchange, list, grant);
    else if (one !== undefined) send(exchange, one, grant);
    else {
      const refusal: Refusal = { status: 404, code: "model_not_found", message: "No such model" };
      refuse(exchange, refusal, caller);
    }
  }

  function send(
    exchange: Exchange,
    value: unknown,
    grant: Grant | null = null,
    more: Record<string, string> = {},
  ): void {
    const body = JSON.stringify(value);
    const { id } = exchange;
    const headers = { "content-type": "application/json", "x-request-id": id, "request-id": id };
    exchange.response.writeHead(200, {
      ...headers,
      "content-length": Buffer.byteLength(body),
      ...more,
    });
    exchange.response.end(exchange.incoming.method === "HEAD" ? undefined : body);
    if (grant === null) return;
    const own = { status: 200, headers: { ...headers, ...more }, body, refusal: null };
    recordOwnAnswer(deps, options, recorder, exchange, grant, own);
  }

  function refuse(
    exchange: Exchange,
    refusal: Refusal,
    caller?: { keyId: KeyId; grant: Grant },
  ): void {
    const { incoming, response, envelope, id } = exchange;
    state.metrics.countRefusal(refusal.code);
    if (caller !== undefined) {
      log.info({ call_id: id, trial_id: caller.grant.trialId, code: refusal.code }, "call refused");
      state.tell("onRefusal", () => deps.hooks?.onRefusal?.(refusal, caller.grant, caller.keyId));
    }
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const body = refusalBody(refusal, envelope, id);
    const headers = refusalHeaders(refusal, id);
    response.writeHead(refusal.status, { ...headers, "content-length": Buffer.byteLength(body) });
    if (caller !== undefined) {
      const own = { status: refusal.status, headers, body, refusal: refusal.message };
      recordOwnAnswer(deps, options, recorder, exchange, caller.grant, own);
    }
    const shown = incoming.method === "HEAD" ? "" : body;
    if (incoming.complete) {
      response.end(shown);
      return;
    }
    // Ending a response closes a connection that is not kept alive, and a client that still sends
    // would be reset before it reads: so the rest is read away first.
    response.write(shown);
    incoming.resume();
    const timer = setTimeout(() => incoming.socket.destroy(), LINGER_MS);
    incoming.once("end", () => response.end());
    incoming.once("close", () => clearTimeout(timer));
  }

  function tell(hook: string, run: () => void | Promise<void> | undefined): void {
    background(
      (async () => {
        try {
          await run();
        } catch (error) {
          log.error({ err: error, hook }, "hook failed");
        }
      })(),
    );
  }

  function background(promise: Promise<unknown>): void {
    const guarded = promise.catch((error: unknown) => log.error({ err: error }, "work failed"));
    work.add(guarded);
    void guarded.finally(() => work.delete(guarded));
  }

  async function listen(port = 0, host = "127.0.0.1"): Promise<{ url: string; port: number }> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen(port, host, resolve);
    await promise;
    server.off("error", reject);
    const address = server.address() as AddressInfo;
    const shown = host.includes(":") ? `[${host}]` : host;
    return { url: `http://${shown}:${address.port}`, port: address.port };
  }

  async function close(graceMs: number): Promise<void> {
    closing.abort();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    const timer = setTimeout(() => server.closeAllConnections(), graceMs);
    await closed;
    clearTimeout(timer);
    while (work.size > 0) await Promise.all(work);
    await finisher.drain(graceMs);
    await recorder.drain();
    // What was told of the last settlements.
    while (work.size > 0) await Promise.all(work);
    await deps.upstream.close();
  }
}
