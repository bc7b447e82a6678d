/** Records of flows, for whatever stores, shows or exports them. */
import type { FlowRecord } from "../../orchestrator/contract/flows.ts";
import { rfc3339 } from "../../orchestrator/runtime/clock.ts";
import type { Ids } from "../../orchestrator/runtime/ids.ts";

/** What a test says of a record; the rest is that of a usual one: a GET that was allowed. */
export type FlowChange = Omit<Partial<FlowRecord>, "request" | "response" | "decision"> & {
  request?: Partial<NonNullable<FlowRecord["request"]>> | null;
  response?: Partial<NonNullable<FlowRecord["response"]>> | null;
  decision?: Partial<FlowRecord["decision"]>;
};

const SOURCE = "process_01kah27zs8e4rsk0ncyqjpys5f";
let sequence = 0;

export function flowRecord(
  ids: Ids,
  startedAtMs: number,
  { request, response, decision, ...rest }: FlowChange = {},
): FlowRecord {
  sequence += 1;
  return {
    schema_version: 1,
    id: ids.next("flow"),
    source_id: SOURCE,
    sequence,
    door: "egress",
    engine: "embedded",
    kind: "http",
    project_id: null,
    trial_id: null,
    allocation_id: null,
    agent: "aider",
    started_at: rfc3339(startedAtMs),
    duration_ms: 84,
    timings: { dns_ms: 3, connect_ms: 11, tls_ms: 18, first_byte_ms: 37 },
    client: { address: "10.77.0.2", http_version: "HTTP/1.1" },
    server: {
      host: "api.example.org",
      port: 443,
      address: "203.0.113.7",
      server_name: "api.example.org",
      tls_version: "TLSv1.3",
      http_version: "HTTP/2",
      certificate_sha256: "5f".repeat(32),
    },
    request:
      request === null
        ? null
        : {
            method: "GET",
            scheme: "https",
            path: "/v1/items",
            query: "page=2&sort=name",
            byte_count: 0,
            headers: [
              ["Host", "api.example.org"],
              ["Accept", "application/json"],
              ["Cookie", "a=1; theme=dark"],
            ],
            body: null,
            ...request,
          },
    response:
      response === null
        ? null
        : {
            status: 200,
            byte_count: 27,
            headers: [
              ["content-type", "application/json"],
              ["set-cookie", "b=2; HttpOnly; Path=/"],
            ],
            body: textBody('{"items":[{"id":1}],"n":1}', "application/json"),
            ...response,
          },
    messages: null,
    sent_count: null,
    received_count: null,
    decision: {
      action: "allow",
      reason: "rule",
      rule: "rules[0]",
      detail: "rules[0] allows api.example.org",
      ...decision,
    },
    credentials: [],
    call_id: null,
    transfer_id: null,
    cost: null,
    redaction_count: 0,
    error: null,
    ...rest,
  };
}

/** One that was refused before anything was sent. */
export function refusedFlow(ids: Ids, startedAtMs: number, change: FlowChange = {}): FlowRecord {
  const { host = "evil.example" } = change.server ?? {};
  return flowRecord(ids, startedAtMs, {
    duration_ms: 1.4,
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: null },
    server: {
      ...{ host, port: 443, address: null, server_name: host },
      ...{ tls_version: null, http_version: null, certificate_sha256: null },
    },
    response: { status: 403, byte_count: 62, headers: [["content-type", "application/json"]] },
    ...change,
    decision: {
      action: "deny",
      reason: "no_rule",
      rule: null,
      detail: `No rule allows ${host}: add one to the project's egress, or ask with "allow this"`,
      ...change.decision,
    },
  });
}

export function textBody(
  content: string,
  mediaType: string | null,
  isTruncated = false,
): NonNullable<NonNullable<FlowRecord["request"]>["body"]> {
  return {
    byte_count: Buffer.byteLength(content),
    media_type: mediaType,
    encoding: "utf8",
    content,
    is_truncated: isTruncated,
  };
}
