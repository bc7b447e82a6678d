/**
 * The cassette of a trial: its recorded exchanges of both doors, whole and in order. Pure.
 *
 * Invariant: a cassette is made of everything that the trial was answered, or not at all. What was
 * refused is left out, since a replay's own policy refuses it again; so are, at the egress door,
 * calls on their way to our gateway, which recorded them too.
 */
import {
  CASSETTE_SCHEMA_VERSION,
  type Cassette,
  type CassetteBody,
  type Exchange,
} from "../contract/cassettes.ts";
import type { Body, FlowRecord } from "../contract/flows.ts";

/** A recorded flow that cannot be played. */
export interface Unplayable {
  readonly flowId: string;
  /** `POST api.example.org/v1/x`. */
  readonly what: string;
  readonly why: string;
}

export type CassetteMade =
  | { readonly outcome: "made"; readonly cassette: Cassette }
  | { readonly outcome: "unplayable"; readonly flows: readonly Unplayable[] };

type Request = NonNullable<FlowRecord["request"]>;

/** @param flows all that were recorded of the trial, in any order. */
export function makeCassette(trial: Cassette["trial"], flows: readonly FlowRecord[]): CassetteMade {
  const ordered = flows.filter(isAnswered).toSorted(byStart);
  const unplayable = ordered.flatMap((flow) => whyNot(flow) ?? []);
  if (unplayable.length > 0) return { outcome: "unplayable", flows: unplayable };
  const exchanges = ordered.flatMap((flow, index) => {
    const { request } = flow;
    return request === null ? [] : [toExchange(flow, request, index + 1)];
  });
  return {
    outcome: "made",
    cassette: { schema_version: CASSETTE_SCHEMA_VERSION, trial, exchanges },
  };
}

/** One sentence that names the flows, the first of many. */
export function tellUnplayable(flows: readonly Unplayable[]): string {
  const shown = flows.slice(0, 5).map(({ flowId, what, why }) => `${flowId} (${what}): ${why}`);
  const more = flows.length > 5 ? `; and ${flows.length - 5} more` : "";
  return `${flows.length} of its flows cannot be played: ${shown.join("; ")}${more}`;
}

/** Refused flows were answered by us, and stranger's flows are nobody's. */
function isAnswered(flow: FlowRecord): boolean {
  if (flow.kind === "packet" || flow.decision.action === "deny") return false;
  if (flow.door === "egress" && (flow.call_id !== null || flow.decision.reason === "gateway")) {
    return false;
  }
  return true;
}

function byStart(a: FlowRecord, b: FlowRecord): number {
  const byTime = Date.parse(a.started_at) - Date.parse(b.started_at);
  if (byTime !== 0) return byTime;
  if (a.source_id === b.source_id) return a.sequence - b.sequence;
  return a.id < b.id ? -1 : 1;
}

function whyNot(flow: FlowRecord): Unplayable | null {
  const { request, response } = flow;
  const path = request === null ? "" : request.path;
  const what = `${request?.method ?? flow.kind} ${flow.server.host}${path}`;
  const because = (why: string): Unplayable => ({ flowId: flow.id, what, why });
  if (flow.kind === "tunnel") return because("its TLS was passed through, so nothing was read");
  if (flow.kind === "websocket") return because("the messages of a WebSocket cannot be played");
  if (request === null) return because("it has no request");
  const asked = bodyFault(request.byte_count, request.body);
  // The egress door matches by the request's line alone.
  if (asked !== null && flow.door === "gateway") return because(`its request's body ${asked}`);
  if (response === null) return null;
  if (response.headers === null) return because("its headers are gone: their retention is over");
  const answered = bodyFault(response.byte_count, response.body);
  return answered === null ? null : because(`its answer's body ${answered}`);
}

function bodyFault(byteCount: number, body: Body | null): string | null {
  if (body === null) return byteCount > 0 ? "is gone: its retention is over" : null;
  if (!body.is_truncated) return null;
  return `was not kept whole: ${body.byte_count} bytes passed (AUTOCODE_BODY_BYTES says how many are kept)`;
}

function toExchange(flow: FlowRecord, request: Request, position: number): Exchange {
  const { response } = flow;
  return {
    position,
    flow_id: flow.id,
    door: flow.door,
    request: {
      method: request.method,
      scheme: request.scheme === "https" || request.scheme === "wss" ? "https" : "http",
      host: flow.server.host,
      port: flow.server.port,
      path: request.path,
      query: request.query,
      body: toBody(request.body),
    },
    response:
      response === null
        ? null
        : {
            status: response.status,
            headers: response.headers ?? [],
            body: toBody(response.body),
          },
  };
}

function toBody(body: Body | null): CassetteBody | null {
  if (body === null) return null;
  const { media_type, encoding, content } = body;
  return { media_type, encoding, content };
}
