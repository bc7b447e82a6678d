/**
 * Flows as an HTTP Archive (HAR 1.2), which browsers and proxies read. What HAR has no place for is
 * in fields that begin with "_", as it asks: `_autocode`, and Chrome's `_webSocketMessages`. Pure.
 */
import type { Body, FlowRecord, Headers } from "../contract/flows.ts";

/**
 * The archive in pieces: whole only with the last of them, and never held as one.
 *
 * @param version the product's own
 */
export async function* harPieces(
  flows: AsyncIterable<FlowRecord>,
  version: string,
): AsyncGenerator<string> {
  const creator = JSON.stringify({ name: "autocode", version });
  yield `{"log":{"version":"1.2","creator":${creator},"entries":[`;
  let separator = "\n";
  for await (const flow of flows) {
    yield separator + JSON.stringify(harEntry(flow));
    separator = ",\n";
  }
  yield "\n]}}\n";
}

/** One flow as a HAR entry. A tunnel or dropped packets read as a CONNECT without an answer. */
export function harEntry(flow: FlowRecord) {
  const { request, response, server, messages } = flow;
  const timings = harTimings(flow);
  const { ssl: _within, ...whole } = timings;
  return {
    startedDateTime: flow.started_at,
    time: Object.values(whole).reduce((sum, ms) => sum + Math.max(0, ms), 0),
    request: harRequest(flow),
    response: harResponse(flow),
    cache: {},
    timings,
    ...(server.address === null ? {} : { serverIPAddress: server.address }),
    ...(messages === null
      ? {}
      : {
          _resourceType: "websocket",
          _webSocketMessages: messages.map(({ at_ms: atMs, from, body }) => ({
            type: from === "client" ? "send" : "receive",
            time: atMs / 1000,
            opcode: body.encoding === "utf8" ? 1 : 2,
            data: body.content,
          })),
        }),
    _autocode: {
      flow_id: flow.id,
      kind: flow.kind,
      door: flow.door,
      engine: flow.engine,
      project_id: flow.project_id,
      trial_id: flow.trial_id,
      allocation_id: flow.allocation_id,
      agent: flow.agent,
      decision: flow.decision,
      credentials: flow.credentials,
      call_id: flow.call_id,
      transfer_id: flow.transfer_id,
      cost: flow.cost,
      redaction_count: flow.redaction_count,
      sent_count: flow.sent_count,
      received_count: flow.received_count,
      request_is_truncated: request?.body?.is_truncated ?? false,
      response_is_truncated: response?.body?.is_truncated ?? false,
      error: flow.error,
    },
  };
}

function harRequest({ request, server, client }: FlowRecord) {
  const host = server.host.includes(":") ? `[${server.host}]` : server.host;
  if (request === null) {
    return {
      method: "CONNECT",
      url: `https://${host}:${server.port}/`,
      httpVersion: client.http_version ?? "",
      ...{ cookies: [], headers: [], queryString: [], headersSize: -1, bodySize: -1 },
    };
  }
  const { method, scheme, path, query, headers, body, byte_count: byteCount } = request;
  const isUsual = server.port === (scheme === "http" || scheme === "ws" ? 80 : 443);
  const at = `${host}${isUsual ? "" : `:${server.port}`}${path}`;
  return {
    method,
    url: `${scheme}://${at}${query === null ? "" : `?${query}`}`,
    httpVersion: client.http_version ?? "",
    cookies: cookiesOf(headers, "cookie"),
    headers: harHeaders(headers),
    queryString: [...new URLSearchParams(query ?? "")].map(([name, value]) => ({ name, value })),
    ...(body === null || body.content === "" ? {} : { postData: postData(body) }),
    headersSize: -1,
    bodySize: byteCount,
  };
}

function harResponse({ response, server, error }: FlowRecord) {
  if (response === null) {
    return {
      ...{ status: 0, statusText: "", httpVersion: "", cookies: [], headers: [] },
      content: { size: 0, mimeType: "x-unknown" },
      ...{ redirectURL: "", headersSize: -1, bodySize: -1 },
      ...(error === null ? {} : { _error: error }),
    };
  }
  const { status, headers, body, byte_count: byteCount } = response;
  return {
    status,
    statusText: "",
    httpVersion: server.http_version ?? "",
    cookies: cookiesOf(headers, "set-cookie"),
    headers: harHeaders(headers),
    content: {
      size: body === null ? byteCount : sizeOf(body),
      mimeType: body?.media_type ?? "x-unknown",
      ...(body === null ? {} : { text: body.content }),
      ...(body?.encoding === "base64" ? { encoding: "base64" } : {}),
    },
    redirectURL: (headers ?? []).find(([name]) => name.toLowerCase() === "location")?.[1] ?? "",
    headersSize: -1,
    bodySize: byteCount,
    ...(error === null ? {} : { _error: error }),
  };
}

/** HAR has no encoding for what is sent, so bytes say theirs in a field of their own. */
function postData({ media_type: mediaType, encoding, content }: Body) {
  const isForm = mediaType?.startsWith("application/x-www-form-urlencoded") === true;
  const params = isForm ? [...new URLSearchParams(content)] : [];
  return {
    mimeType: mediaType ?? "application/octet-stream",
    params: params.map(([name, value]) => ({ name, value })),
    text: content,
    ...(encoding === "base64" ? { _encoding: "base64" } : {}),
  };
}

/** The times that HAR adds up, -1 where unknown; `ssl` is part of `connect`. */
function harTimings({ timings, duration_ms: durationMs }: FlowRecord) {
  const { dns_ms: dns, connect_ms: connect, tls_ms: tls, first_byte_ms: firstByte } = timings;
  const before = (dns ?? 0) + (connect ?? 0) + (tls ?? 0);
  const left = Math.max(0, durationMs - before);
  const wait = firstByte === null ? left : Math.min(firstByte, left);
  return {
    blocked: -1,
    dns: dns ?? -1,
    connect: connect === null && tls === null ? -1 : (connect ?? 0) + (tls ?? 0),
    send: 0,
    wait,
    receive: left - wait,
    ssl: tls ?? -1,
  };
}

function harHeaders(headers: Headers | null): { name: string; value: string }[] {
  return (headers ?? []).map(([name, value]) => ({ name, value }));
}

function cookiesOf(headers: Headers | null, name: string): { name: string; value: string }[] {
  const lines = (headers ?? []).flatMap(([key, value]) =>
    key.toLowerCase() === name ? [value] : [],
  );
  const pairs = name === "cookie" ? lines.flatMap((line) => line.split(";")) : lines;
  return pairs.flatMap((pair) => {
    const [text = ""] = pair.split(";", 1);
    const at = text.indexOf("=");
    return at < 1 ? [] : [{ name: text.slice(0, at).trim(), value: text.slice(at + 1).trim() }];
  });
}

function sizeOf({ encoding, content }: Body): number {
  return Buffer.byteLength(content, encoding);
}
