/**
 * Whether a record is one that is looked for, and how it reads in a list: the meaning of a filter,
 * which stores hold to in words of their own. Pure.
 */
import type { FlowRecord, FlowSummary } from "../contract/flows.ts";
import type { FlowQuery } from "./traffic.ts";

/** A record's meta: without headers, bodies and messages. */
export function withoutContents(flow: FlowRecord): FlowRecord {
  const { request, response } = flow;
  return {
    ...flow,
    request: request === null ? null : { ...request, headers: null, body: null },
    response: response === null ? null : { ...response, headers: null, body: null },
    messages: null,
  };
}

/** A record as it stands in a list. */
export function summaryOf(flow: FlowRecord): FlowSummary {
  const { request, response, server } = flow;
  return {
    id: flow.id,
    started_at: flow.started_at,
    duration_ms: flow.duration_ms,
    door: flow.door,
    kind: flow.kind,
    project_id: flow.project_id,
    trial_id: flow.trial_id,
    agent: flow.agent,
    method: request?.method ?? null,
    scheme: request?.scheme ?? null,
    host: server.host,
    port: server.port,
    path: request?.path ?? null,
    query: request?.query ?? null,
    status: response?.status ?? null,
    // Of packets it is their number.
    sent_bytes: (request?.byte_count ?? 0) + (flow.kind === "packet" ? 0 : (flow.sent_count ?? 0)),
    received_bytes: (response?.byte_count ?? 0) + (flow.received_count ?? 0),
    ...(flow.kind === "packet"
      ? { packets: { transport: flow.transport ?? "any", count: flow.sent_count ?? 0 } }
      : {}),
    decision: flow.decision,
    call_id: flow.call_id,
    cost: flow.cost,
    error: flow.error,
  };
}

/** Whether everything that the query names holds; `until` itself is outside. */
export function matchesQuery(query: FlowQuery, flow: FlowRecord): boolean {
  const { request, decision, server } = flow;
  const startedMs = Date.parse(flow.started_at);
  return (
    is(query.projectId, flow.project_id) &&
    is(query.trial_id, flow.trial_id) &&
    (query.host === undefined || isHost(query.host, server.host)) &&
    (query.path === undefined || (request?.path ?? "").startsWith(query.path)) &&
    is(query.method?.toUpperCase(), request?.method.toUpperCase() ?? null) &&
    (query.status === undefined || isStatus(query.status, flow.response?.status ?? null)) &&
    is(query.action, decision.action) &&
    is(query.reason, decision.reason) &&
    is(query.door, flow.door) &&
    (query.since === undefined || startedMs >= Date.parse(query.since)) &&
    (query.until === undefined || startedMs < Date.parse(query.until)) &&
    (query.text === undefined || hasText(flow, query.text))
  );
}

function is(wanted: string | undefined, found: string | null): boolean {
  return wanted === undefined || wanted === found;
}

/** "*.example.org" is all below it, and not itself. */
function isHost(wanted: string, host: string): boolean {
  const [asked, found] = [wanted.toLowerCase(), host.toLowerCase()];
  return asked.startsWith("*.") ? found.endsWith(asked.slice(1)) : found === asked;
}

function isStatus(wanted: string, status: number | null): boolean {
  if (status === null) return false;
  return wanted.endsWith("xx")
    ? Math.floor(status / 100) === Number(wanted[0])
    : status === Number(wanted);
}

/** In the address, a header or a text; bytes that are no text are not looked into. */
function hasText({ server, request, response, messages }: FlowRecord, text: string): boolean {
  const bodies = [request?.body, response?.body, ...(messages ?? []).map(({ body }) => body)];
  const places = [
    server.host,
    `${request?.path ?? ""}${request?.query == null ? "" : `?${request.query}`}`,
    ...[request?.headers, response?.headers].flatMap((headers) =>
      (headers ?? []).map(([name, value]) => `${name}: ${value}`),
    ),
    ...bodies.flatMap((body) => (body?.encoding === "utf8" ? [body.content] : [])),
  ];
  const wanted = text.toLowerCase();
  return places.some((place) => place.toLowerCase().includes(wanted));
}
