/** Drafts of flows as doors leave them, for tests of what comes after. */
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";
import type { CapturedBody, FlowDraft } from "../../orchestrator/traffic/sink.ts";

export function captureOf(content: string | Buffer): CapturedBody {
  const kept = Buffer.from(content);
  return { kept, byteCount: kept.length };
}

type Side<Name extends "request" | "response"> = Partial<NonNullable<FlowDraft[Name]>>;

export type DraftChange = Omit<Partial<FlowDraft>, "request" | "response"> & {
  request?: Side<"request">;
  response?: Side<"response">;
};

/** A GET that was allowed and answered "hello", but for `change`. */
export function flowDraft(ids: Ids, startedAtMs: EpochMs, change: DraftChange = {}): FlowDraft {
  const { request, response, ...rest } = change;
  return {
    id: ids.next("flow"),
    kind: "http",
    engine: "embedded",
    projectId: null,
    trialId: null,
    allocationId: null,
    agent: null,
    startedAtMs,
    durationMs: 5,
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: 2 },
    client: { address: "127.0.0.1", http_version: "1.1" },
    server: {
      host: "api.example.org",
      port: 443,
      address: "192.0.2.1",
      server_name: "api.example.org",
      tls_version: "TLSv1.3",
      http_version: "1.1",
      certificate_sha256: null,
    },
    request: {
      method: "GET",
      scheme: "https",
      path: "/",
      query: null,
      headers: [["Accept", "*/*"]],
      body: null,
      ...request,
    },
    response: {
      status: 200,
      headers: [["Content-Type", "text/plain"]],
      body: captureOf("hello"),
      ...response,
    },
    messages: null,
    sentCount: null,
    receivedCount: null,
    decision: { action: "allow", reason: "rule", rule: "rules[0]", detail: "A rule allows it" },
    credentials: [],
    callId: null,
    transferId: null,
    cost: null,
    error: null,
    secrets: [],
    ...rest,
  };
}
