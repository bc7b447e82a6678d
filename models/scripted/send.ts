/** How the scripted model's responses are written: bodies, streams, cuts. */
import { createHash } from "node:crypto";
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { StreamEvent } from "./dialect.ts";

export interface StreamOptions {
  /** The connection is broken after this many events. */
  cutAfterEvents: number | undefined;
  delayMsPerEvent: number;
  digest: string;
  signal: AbortSignal;
}

export async function sendEvents(
  response: ServerResponse,
  events: readonly StreamEvent[],
  { cutAfterEvents, delayMsPerEvent, digest, signal }: StreamOptions,
): Promise<void> {
  response.writeHead(200, {
    ...headersOf("text/event-stream; charset=utf-8", digest),
    "cache-control": "no-cache",
  });
  response.flushHeaders();
  for (const { event, data } of events.slice(0, cutAfterEvents)) {
    if (delayMsPerEvent > 0) await sleep(delayMsPerEvent, undefined, { signal });
    signal.throwIfAborted();
    await written(response, `${event === undefined ? "" : `event: ${event}\n`}data: ${data}\n\n`);
  }
  if (cutAfterEvents !== undefined) response.destroy();
  else response.end();
}

/** Resolves when the kernel has the bytes, so that a cut comes after them. */
function written(response: ServerResponse, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    response.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** Half of the body, then a broken connection. */
export async function cutBody(
  response: ServerResponse,
  body: string,
  digest: string,
): Promise<void> {
  const headers = headersOf("application/json", digest);
  response.writeHead(200, { ...headers, "content-length": Buffer.byteLength(body) });
  await written(response, body.slice(0, Math.floor(body.length / 2)));
  response.destroy();
}

export function headersOf(contentType: string, digest: string): Record<string, string> {
  return {
    "content-type": contentType,
    "x-scripted-model": "true",
    "request-id": `req_${digest}`,
    "x-request-id": `req_${digest}`,
  };
}

export function sendJson(response: ServerResponse, status: number, body: object): void {
  sendBody(response, status, body);
}

export function sendBody(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const digest = createHash("sha256").update(text).digest("hex").slice(0, 24);
  response.writeHead(status, { ...headersOf("application/json", digest), ...headers });
  response.end(text);
}
