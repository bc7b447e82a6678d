/**
 * The scripted model: a model server on loopback that plays scripts instead of running a model.
 * Every response carries `x-scripted-model: true`, so that nobody takes it for a real one.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { anthropicMessages } from "./anthropic-messages.ts";
import { type Dialect, type ModelRequest, ScriptedProblem, tokensOf } from "./dialect.ts";
import { embed } from "./embeddings.ts";
import { fixedLibrary, folderLibrary, type Library } from "./library.ts";
import { openaiChat, openaiError } from "./openai-chat.ts";
import { openaiCompletions } from "./openai-completions.ts";
import { openaiResponses } from "./openai-responses.ts";
import { createPlayer, SCRIPTED_MODELS } from "./player.ts";
import type { RequestSummary } from "./requests.ts";
import { type Script, ScriptError } from "./script.ts";
import { sendBody, sendJson } from "./send.ts";

const BODY_BYTES_MAX = 64 * 1024 * 1024;
const SUMMARIES_MAX = 1_000;

const DIALECTS: Readonly<Record<string, Dialect>> = {
  "/v1/chat/completions": openaiChat,
  "/v1/completions": openaiCompletions,
  "/v1/responses": openaiResponses,
  "/v1/messages": anthropicMessages,
};

/** Where the scripts are: a folder of `.yaml` files, read again when one changes, or here. */
export type ScriptSource = { scriptsDir: string } | { scripts: readonly Script[] };

export type ScriptedModelOptions = ScriptSource & {
  /** Called once for every request that was answered or given up. */
  log?: (summary: RequestSummary) => void;
};

export interface ScriptedModel {
  /** Listens on 127.0.0.1. @throws ScriptError when the port or the folder cannot be used. */
  listen(port?: number): Promise<{ url: string; port: number }>;
  /** Ends every connection. */
  close(): Promise<void>;
  /** The latest requests, oldest first. */
  requests(): readonly RequestSummary[];
}

export function createScriptedModel(options: ScriptedModelOptions): ScriptedModel {
  const library: Library =
    "scripts" in options ? fixedLibrary(options.scripts) : folderLibrary(options.scriptsDir);
  const player = createPlayer(library);
  const summaries: RequestSummary[] = [];
  const server = createServer((request, response) => void serve(request, response));
  return { listen, close, requests: () => summaries };

  async function listen(port = 0): Promise<{ url: string; port: number }> {
    await library.faults();
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause: NodeJS.ErrnoException) => {
        const why = cause.code === "EADDRINUSE" ? "is in use" : "cannot be listened on";
        const fix = "choose another, or 0 for any free one";
        reject(new ScriptError(`port ${port} ${why}: ${fix}`, { cause }));
      });
      server.listen(port, "127.0.0.1", resolve);
    });
    const address = server.address() as AddressInfo;
    return { url: `http://127.0.0.1:${address.port}`, port: address.port };
  }

  async function close(): Promise<void> {
    if (!server.listening) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(incoming.url ?? "/", "http://localhost").pathname;
    const summary: RequestSummary = { method: incoming.method ?? "GET", path, status: 200 };
    const aborted = new AbortController();
    response.on("close", () => {
      if (!response.writableFinished) aborted.abort();
    });
    response.on("error", () => aborted.abort());
    try {
      await route(incoming, response, summary, aborted.signal);
    } catch (error) {
      if (aborted.signal.aborted) summary.isAborted = true;
      else answerError(response, path, summary, error);
    }
    summary.status = response.statusCode;
    summaries.push(summary);
    if (summaries.length > SUMMARIES_MAX) summaries.shift();
    options.log?.(summary);
  }

  async function route(
    incoming: IncomingMessage,
    response: ServerResponse,
    summary: RequestSummary,
    signal: AbortSignal,
  ): Promise<void> {
    const { method, path } = summary;
    if (path === "/" && (method === "HEAD" || method === "GET")) {
      return sendJson(response, 200, { scripted: true });
    }
    if (path.startsWith("/v1/models") && method === "GET") {
      return sendModels(incoming, response, path.slice("/v1/models/".length));
    }
    const dialect = DIALECTS[path];
    if (method === "POST" && path === "/v1/messages/count_tokens") {
      const body = await readBody(incoming);
      parsed(anthropicMessages, body);
      return sendJson(response, 200, { input_tokens: tokensOf(body.length) });
    }
    if (method === "POST" && path === "/v1/embeddings") {
      const body = await readBody(incoming);
      return sendJson(response, 200, embed(readJson(body), body.length));
    }
    if (method !== "POST" || dialect === undefined) {
      throw new ScriptedProblem(404, "not_found", `there is no ${method} ${path}`);
    }
    await player.play(
      dialect,
      parsed(dialect, await readBody(incoming)),
      response,
      summary,
      signal,
    );
  }
}

function parsed(dialect: Dialect, body: Buffer): ModelRequest {
  const digest = createHash("sha256").update(body).digest("hex").slice(0, 24);
  return dialect.parse(readJson(body), { bodyBytes: body.length, digest });
}

function readJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    throw new ScriptedProblem(400, "invalid_request_error", "the body is not JSON");
  }
}

async function readBody(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) {
      throw new ScriptedProblem(
        413,
        "request_too_large",
        `the body is over ${BODY_BYTES_MAX} bytes`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The list of models, or one of them, as the client's protocol has it. */
function sendModels(incoming: IncomingMessage, response: ServerResponse, id: string): void {
  const isAnthropic = incoming.headers["anthropic-version"] !== undefined;
  const models = SCRIPTED_MODELS.map((name) =>
    isAnthropic
      ? { type: "model", id: name, display_name: name, created_at: "2023-11-14T22:13:20Z" }
      : { id: name, object: "model", created: 1_700_000_000, owned_by: "scripted" },
  );
  const page = { has_more: false, first_id: models.at(0)?.id, last_id: models.at(-1)?.id };
  const list = isAnthropic ? { data: models, ...page } : { object: "list", data: models };
  const found = id === "" ? list : models.find((model) => model.id === id);
  if (found === undefined) throw new ScriptedProblem(404, "model_not_found", `no model ${id}`);
  sendJson(response, 200, found);
}

/** The error in the envelope of the path's protocol; a defect tells the client nothing. */
function answerError(
  response: ServerResponse,
  path: string,
  summary: RequestSummary,
  error: unknown,
): void {
  const isTold = error instanceof ScriptedProblem || error instanceof ScriptError;
  summary.error = error instanceof Error ? error.message : String(error);
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const status = error instanceof ScriptedProblem ? error.status : isTold ? 400 : 500;
  const code =
    error instanceof ScriptedProblem ? error.code : isTold ? "script_invalid" : "internal";
  const message = isTold ? error.message : "the scripted model failed";
  const envelope = path.startsWith("/v1/messages") ? anthropicMessages.error : openaiError;
  sendBody(response, status, envelope(status, code, message));
}
