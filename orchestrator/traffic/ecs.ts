/**
 * A record as documents of Elasticsearch, with the names of the Elastic Common Schema where it has
 * one and `autocode.*` where it has none; and back. Pure.
 *
 * Each class of fields is a document of its own, under the flow's id, in an index of its class and
 * day. All of them carry what filters ask for, so that a text in a body is found together with a
 * status. What is only given back, and never looked for, lies in members that are not indexed.
 */
import type { Body, FlowRecord, Headers } from "../contract/flows.ts";
import { type Day, dayOf } from "../db/partitions.ts";
import { summaryOf } from "./filter.ts";
import {
  type BodyPart,
  bodyBytes,
  type HeaderPart,
  headerBytes,
  joinFlow,
  splitFlow,
  urlOf,
} from "./parts.ts";
import type { FieldClass } from "./traffic.ts";

export const FIELD_CLASSES: readonly FieldClass[] = ["meta", "headers", "body"];

/** What filters, orders and groups ask of all three. */
export interface EcsShared {
  readonly "@timestamp": string;
  readonly ecs: { readonly version: "8.17.0" };
  readonly event: {
    readonly id: string;
    readonly kind: "event";
    readonly category: readonly ["network", "web"];
    readonly type: readonly ("allowed" | "denied" | "connection" | "error")[];
    readonly outcome: "success" | "failure";
  };
  readonly destination: { readonly domain: string };
  readonly url: { readonly path: string } | null;
  readonly http: Readonly<Record<string, unknown>>;
  readonly autocode: Readonly<Record<string, unknown>>;
}

export interface EcsDocument {
  readonly what: FieldClass;
  readonly id: string;
  readonly day: Day;
  readonly source: object;
}

/** The documents of a record: its meta's, and of the other classes what it has. */
export function toDocuments(record: FlowRecord): EcsDocument[] {
  const { meta, headers, bodies } = splitFlow(record);
  const day = dayOf(Date.parse(record.started_at));
  const documents: EcsDocument[] = [
    { what: "meta", id: record.id, day, source: metaDocument(meta, headers, bodies) },
  ];
  if (headers !== null) {
    documents.push({ what: "headers", id: record.id, day, source: headersDocument(meta, headers) });
  }
  if (bodies !== null) {
    documents.push({ what: "body", id: record.id, day, source: bodyDocument(meta, bodies) });
  }
  return documents;
}

/** What `toDocuments` made, of what is left. */
export function readMeta(source: unknown): FlowRecord {
  return ownOf(source)["record"] as FlowRecord;
}

export function fromDocuments(meta: unknown, headers: unknown, body: unknown): FlowRecord {
  const lines = headers === null ? null : (ownOf(headers)["lists"] as HeaderPart);
  return joinFlow(readMeta(meta), lines, body === null ? null : readBodies(body));
}

function shared(record: FlowRecord): EcsShared {
  const { decision, server, request, response } = record;
  const summary = summaryOf(record);
  const isRefused = decision.action === "deny";
  return {
    "@timestamp": new Date(record.started_at).toISOString(),
    ecs: { version: "8.17.0" },
    event: {
      id: record.id,
      kind: "event",
      category: ["network", "web"],
      type: record.error === null ? [isRefused ? "denied" : "allowed"] : ["connection", "error"],
      outcome: isRefused || record.error !== null ? "failure" : "success",
    },
    destination: { domain: server.host.toLowerCase().toWellFormed() },
    url: request === null ? null : { path: request.path.toWellFormed() },
    http: {
      ...(request === null ? {} : { request: { method: request.method.toWellFormed() } }),
      ...(response === null ? {} : { response: { status_code: response.status } }),
    },
    autocode: {
      project_id: record.project_id,
      trial_id: record.trial_id,
      agent: record.agent,
      door: record.door,
      action: decision.action,
      reason: decision.reason,
      sent_bytes: summary.sent_bytes,
      received_bytes: summary.received_bytes,
      is_error: record.error !== null,
    },
  };
}

function metaDocument(
  record: FlowRecord,
  headers: HeaderPart | null,
  bodies: BodyPart | null,
): object {
  const base = shared(record);
  const { client, decision, request, response, server } = record;
  const bytes =
    (headers === null ? 0 : headerBytes(headers)) + (bodies === null ? 0 : bodyBytes(bodies));
  return {
    ...base,
    event: { ...base.event, duration: Math.round(record.duration_ms * 1e6) },
    source: { ip: client.address },
    destination: { ...base.destination, ip: server.address, port: server.port },
    network: networkOf(record),
    tls: {
      version: server.tls_version?.replace(/^TLSv/, "") ?? null,
      client: { server_name: server.server_name },
      server: { hash: { sha256: server.certificate_sha256?.toUpperCase() ?? null } },
    },
    url: {
      full: urlOf(record),
      ...(request === null ? {} : { ...base.url, scheme: request.scheme, query: request.query }),
    },
    http: {
      version: client.http_version?.replace(/^HTTP\//, "") ?? null,
      ...(request === null
        ? {}
        : { request: { ...(base.http["request"] as object), bytes: request.byte_count } }),
      ...(response === null
        ? {}
        : { response: { status_code: response.status, bytes: response.byte_count } }),
    },
    rule: { name: decision.rule },
    error: { message: record.error },
    message: decision.detail,
    autocode: {
      ...base.autocode,
      source_id: record.source_id,
      sequence: record.sequence,
      call_id: record.call_id,
      transfer_id: record.transfer_id,
      content_bytes: bytes,
      record,
    },
  };
}

function networkOf({ kind, transport, sent_count: count }: FlowRecord): object {
  if (kind === "packet") return { transport: transport ?? null, packets: count };
  return { protocol: "http", transport: "tcp" };
}

function headersDocument(record: FlowRecord, headers: HeaderPart): object {
  const base = shared(record);
  const lines = (list: Headers | null) => (list ?? []).map(([name, value]) => `${name}: ${value}`);
  return {
    ...base,
    autocode: {
      ...base.autocode,
      content_bytes: headerBytes(headers),
      headers: [...lines(headers.request), ...lines(headers.response)],
      lists: headers,
    },
  };
}

/** Texts lie in the fields that are searched, bytes in those that are only kept. */
function bodyDocument(record: FlowRecord, bodies: BodyPart): object {
  const base = shared(record);
  const { request, response, messages } = bodies;
  const said = (messages ?? []).map(({ body }) => body);
  const http = base.http as { request?: object; response?: object };
  return {
    ...base,
    http: {
      request: { ...http.request, body: { content: textOf(request) } },
      response: { ...http.response, body: { content: textOf(response) } },
    },
    autocode: {
      ...base.autocode,
      content_bytes: bodyBytes(bodies),
      messages: said.flatMap((body) => textOf(body) ?? []),
      bodies: {
        request: withoutText(request),
        response: withoutText(response),
        messages: messages?.map((each) => ({ ...each, body: withoutText(each.body) })) ?? null,
      },
    },
  };
}

function textOf(body: Body | null): string | null {
  return body?.encoding === "utf8" ? body.content : null;
}

function withoutText(body: Body | null): Body | null {
  return body?.encoding === "utf8" ? { ...body, content: "" } : body;
}

function readBodies(source: unknown): BodyPart {
  const own = ownOf(source);
  const { request, response, messages } = own["bodies"] as BodyPart;
  const http = (source as { http: Record<string, { body: { content: string | null } }> }).http;
  const said = (own["messages"] as string[]).values();
  const whole = (body: Body | null, content: () => string | null | undefined): Body | null =>
    body?.encoding === "utf8" ? { ...body, content: content() ?? "" } : body;
  return {
    request: whole(request, () => http["request"]?.body.content),
    response: whole(response, () => http["response"]?.body.content),
    messages:
      messages?.map((each) => ({
        ...each,
        body: whole(each.body, () => said.next().value) ?? each.body,
      })) ?? null,
  };
}

function ownOf(source: unknown): Record<string, unknown> {
  return (source as { autocode: Record<string, unknown> }).autocode;
}
