/**
 * Stands in the gateway's place for trials that are replayed: it answers their agents what the
 * recorded trial was answered, and nothing else. It knows no model server and no ledger, so that a
 * replay costs nothing and needs nobody.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Keys } from "../../orchestrator/keys/keys.ts";
import { PROBLEMS, Problem } from "../../orchestrator/problem.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import { readBody } from "../gateway/body.ts";
import { credential } from "../gateway/credential.ts";
import { type Envelope, type Refusal, refusalBody, refusalHeaders } from "../gateway/refusal.ts";
import type { Answer } from "./playback.ts";
import type { Replays } from "./replays.ts";

export interface ReplayServer {
  /** Port 0 is any free one. */
  listen(port?: number, host?: string): Promise<{ url: string; port: number }>;
  close(): Promise<void>;
}

const BODY_BYTES_MAX = 64 * 1024 * 1024;
/** Of the connection as it was, or made anew for this answer. */
const NOT_PLAYED = new Set([
  "connection",
  "content-encoding",
  "content-length",
  "date",
  "keep-alive",
  "trailer",
  "transfer-encoding",
]);

interface Exchange {
  incoming: IncomingMessage;
  response: ServerResponse;
  envelope: Envelope;
  requestId: string;
}

export function createReplayServer({
  keys,
  replays,
  ids,
  log,
}: {
  keys: Pick<Keys, "find">;
  replays: Pick<Replays, "ask" | "modelsOf">;
  ids: Ids;
  log: Log;
}): ReplayServer {
  const server = createServer((incoming, response) => void serve(incoming, response));
  return { listen, close };

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const isAnthropic =
      incoming.url?.startsWith("/v1/messages") || "anthropic-version" in incoming.headers;
    const envelope: Envelope = isAnthropic ? "anthropic" : "openai";
    const exchange = { incoming, response, envelope, requestId: ids.next("call") };
    response.on("error", () => undefined);
    try {
      await answer(exchange);
    } catch (error) {
      if (!(error instanceof Problem)) log.error({ err: error }, "replay failed");
      const message = error instanceof Problem ? error.message : "The replay failed.";
      const isFinal = !(error instanceof Problem && PROBLEMS[error.code].transient);
      refuse(exchange, { status: 503, code: "unavailable", message, isFinal });
    }
  }

  async function answer(exchange: Exchange): Promise<void> {
    const { incoming, response } = exchange;
    const { method = "GET", url: path = "/" } = incoming;
    const isRead = method === "GET" || method === "HEAD";
    if (path === "/" && isRead) return sendJson(exchange, { name: "autocode replay" });
    const secret = credential(incoming);
    const found = secret === null ? null : await keys.find(secret);
    if (found?.outcome !== "granted") {
      const message = "Give the trial's key as a Bearer token or as x-api-key";
      const refusal = { status: 401, code: "unauthenticated", message, isFinal: true } as const;
      return refuse(exchange, refusal);
    }
    const { keyId, grant } = found;
    // A gateway answers it from the key, and records no call.
    if (isRead && path.startsWith("/v1/models")) return sendModels(exchange, grant.trialId);
    const body = await readBody(incoming, BODY_BYTES_MAX);
    if (body.outcome === "gone") return;
    if (body.outcome === "refused") return refuse(exchange, body.refusal);
    const asked = { method, path, body: body.bytes.toString("utf8") };
    const played = await replays.ask(grant.trialId, keyId, asked);
    if (played.outcome === "played") {
      if (played.response === null) response.destroy();
      else await play(exchange, played.response);
      return;
    }
    const { position, expected, asked: told } = played.divergence;
    const message =
      "replay_diverged: The recorded trial asked something else. Stop here. " +
      `At ${position} it was: ${expected}. Now it is: ${told}`;
    log.info({ trial_id: grant.trialId, position }, "replay diverged");
    refuse(exchange, { status: 400, code: "replay_diverged", message, isFinal: true });
  }

  async function sendModels(exchange: Exchange, trialId: Parameters<typeof replays.modelsOf>[0]) {
    const names = await replays.modelsOf(trialId);
    const wanted = decodeURIComponent((exchange.incoming.url ?? "").slice("/v1/models/".length));
    const isAnthropic = exchange.envelope === "anthropic";
    const all = names.map((id) =>
      isAnthropic
        ? { type: "model", id, display_name: id, created_at: "1970-01-01T00:00:00Z" }
        : { id, object: "model", created: 0, owned_by: "autocode" },
    );
    if (wanted === "") {
      const page = { data: all, has_more: false, first_id: names[0], last_id: names.at(-1) };
      return sendJson(exchange, isAnthropic ? page : { object: "list", data: all });
    }
    const one = all.find(({ id }) => id === wanted);
    if (one !== undefined) return sendJson(exchange, one);
    refuse(exchange, { status: 404, code: "model_not_found", message: "No such model" });
  }

  function sendJson({ incoming, response, requestId }: Exchange, value: unknown): void {
    response.writeHead(200, { "content-type": "application/json", "x-request-id": requestId });
    response.end(incoming.method === "HEAD" ? undefined : JSON.stringify(value));
  }

  function refuse({ incoming, response, envelope, requestId }: Exchange, refusal: Refusal): void {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    response.writeHead(refusal.status, refusalHeaders(refusal, requestId));
    incoming.resume();
    response.end(refusalBody(refusal, envelope, requestId));
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

  async function close(): Promise<void> {
    if (!server.listening) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }
}

/** A stream goes out event by event, as a model server sends it. */
async function play(
  { incoming, response }: Pick<Exchange, "incoming" | "response">,
  { status, headers, body }: Answer,
): Promise<void> {
  const kept = headers.filter(([name]) => !NOT_PLAYED.has(name.toLowerCase()));
  const isStream = kept.some(
    ([name, value]) => name.toLowerCase() === "content-type" && /event-stream/i.test(value),
  );
  response.writeHead(status, kept.flat());
  if (incoming.method === "HEAD") {
    response.end();
    return;
  }
  if (!isStream) {
    response.end(body);
    return;
  }
  for (const event of body.toString("utf8").split(/(?<=\r?\n\r?\n)/)) {
    if (response.destroyed) return;
    await new Promise<void>((resolve) => response.write(event, () => resolve()));
  }
  response.end();
}
