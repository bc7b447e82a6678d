/**
 * The record of a flow: one exchange between a worker and anything else, whichever door it took
 * (the egress proxy or the gateway), or packets that were dropped. Version 1 of the schema: lines
 * of the spool, of exports and answers of the API are all of it.
 *
 * Its fields are of three classes with retentions of their own: headers (`request.headers`,
 * `response.headers`), bodies (`request.body`, `response.body`, `messages`), and the rest, its
 * meta. What retention took away, or never came, is null; what is redacted says so in its place.
 */
import { type Static, Type } from "typebox";
import { Decision } from "./egress.ts";
import { CurrencyCode, NanosText } from "./money.ts";

export const FLOW_SCHEMA_VERSION = 1;

const Nullable = <Of extends Parameters<typeof Type.Union>[0][number]>(of: Of) =>
  Type.Union([of, Type.Null()]);
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Ms = Type.Number({ minimum: 0, description: "milliseconds" });

export type Body = Static<typeof Body>;
export const Body = Type.Object(
  {
    /** As sent, before compression was undone; what passed, also of what was not kept. */
    byte_count: Count,
    media_type: Nullable(Type.String({ maxLength: 200 })),
    /** Text as it is; else base64. */
    encoding: Type.Union([Type.Literal("utf8"), Type.Literal("base64")]),
    /** Decompressed and redacted. */
    content: Type.String(),
    is_truncated: Type.Boolean(),
  },
  { additionalProperties: false },
);

export type Headers = Static<typeof Headers>;
export const Headers = Type.Array(Type.Tuple([Type.String(), Type.String()]), {
  description: "in the order and the case they were sent",
});

export type Message = Static<typeof Message>;
export const Message = Type.Object(
  {
    at_ms: Ms,
    from: Type.Union([Type.Literal("client"), Type.Literal("server")]),
    body: Body,
  },
  { additionalProperties: false },
);

const Transport = Type.String({ pattern: "^[a-z0-9-]{1,20}$" });

export const FLOW_KINDS = [
  "http",
  "websocket",
  "tunnel", // TLS that was passed through, or refused before a request was read
  "packet", // dropped: no proxy was asked
] as const;

export type FlowRecord = Static<typeof FlowRecord>;
export const FlowRecord = Type.Object(
  {
    schema_version: Type.Literal(FLOW_SCHEMA_VERSION),
    id: Type.String({ pattern: "^flow_[0-7][0-9a-hjkmnp-tv-z]{25}$" }),
    /** The process that recorded it, and its number there: from 1, without gaps. */
    source_id: Type.String({ pattern: "^process_[0-7][0-9a-hjkmnp-tv-z]{25}$" }),
    sequence: Type.Integer({ minimum: 1 }),
    door: Type.Union([Type.Literal("egress"), Type.Literal("gateway")]),
    engine: Type.Union([
      Type.Literal("embedded"),
      Type.Literal("mitmproxy"),
      Type.Literal("gateway"),
      Type.Literal("worker"),
    ]),
    kind: Type.Enum(FLOW_KINDS),
    /** Of packets: "tcp", "udp", "icmp", …; "any" of those that were not told apart. */
    transport: Type.Optional(Transport),
    /** Null: nobody we know. */
    project_id: Nullable(Type.String()),
    trial_id: Nullable(Type.String()),
    allocation_id: Nullable(Type.String()),
    agent: Nullable(Type.String()),
    started_at: Type.String({ format: "date-time" }),
    duration_ms: Ms,
    timings: Type.Object(
      {
        dns_ms: Nullable(Ms),
        connect_ms: Nullable(Ms),
        tls_ms: Nullable(Ms),
        /** From the request's last byte to the answer's first. */
        first_byte_ms: Nullable(Ms),
      },
      { additionalProperties: false },
    ),
    client: Type.Object(
      { address: Nullable(Type.String()), http_version: Nullable(Type.String()) },
      { additionalProperties: false },
    ),
    server: Type.Object(
      {
        host: Type.String({ maxLength: 500 }),
        port: Type.Integer({ minimum: 0, maximum: 65_535 }),
        /** The one that was checked and connected to. */
        address: Nullable(Type.String()),
        server_name: Nullable(Type.String({ maxLength: 500 })),
        tls_version: Nullable(Type.String()),
        http_version: Nullable(Type.String()),
        certificate_sha256: Nullable(Type.String()),
      },
      { additionalProperties: false },
    ),
    /** Null: no request was read (`tunnel`, `packet`). */
    request: Nullable(
      Type.Object(
        {
          method: Type.String({ maxLength: 100 }),
          scheme: Type.Union([
            Type.Literal("http"),
            Type.Literal("https"),
            Type.Literal("ws"),
            Type.Literal("wss"),
          ]),
          path: Type.String({ maxLength: 8_000 }),
          query: Nullable(Type.String({ maxLength: 16_000 })),
          byte_count: Count,
          headers: Nullable(Headers),
          body: Nullable(Body),
        },
        { additionalProperties: false },
      ),
    ),
    response: Nullable(
      Type.Object(
        {
          status: Type.Integer({ minimum: 100, maximum: 999 }),
          byte_count: Count,
          headers: Nullable(Headers),
          body: Nullable(Body),
        },
        { additionalProperties: false },
      ),
    ),
    /** Of a WebSocket; null for anything else, and once retention took them. */
    messages: Nullable(Type.Array(Message)),
    /** Of a tunnel: bytes each way. Of packets: how many were dropped meanwhile, in `sent`. */
    sent_count: Nullable(Count),
    received_count: Nullable(Count),
    decision: Decision,
    /** The secrets that were put in, by their paths. */
    credentials: Type.Array(Type.String()),
    /** Of an LLM call: what it cost, by which call and which reservation. */
    call_id: Nullable(Type.String()),
    transfer_id: Nullable(Type.String()),
    cost: Nullable(
      Type.Object(
        { amount_nanos: NanosText, currency: CurrencyCode },
        { additionalProperties: false },
      ),
    ),
    /** Pieces that were redacted before anything was written. */
    redaction_count: Count,
    error: Nullable(Type.String({ maxLength: 2_000 })),
  },
  { additionalProperties: false, $id: "https://autocode.invalid/schemas/flow/v1" },
);

/** What is looked for; everything given must hold. */
export type FlowFilter = Static<typeof FlowFilter>;
export const FlowFilter = Type.Object(
  {
    project: Type.Optional(Type.String({ description: "A project's name" })),
    trial_id: Type.Optional(Type.String()),
    host: Type.Optional(
      Type.String({ maxLength: 253, description: '"*.example.org": all below it' }),
    ),
    path: Type.Optional(Type.String({ maxLength: 1000, description: "What it begins with" })),
    method: Type.Optional(Type.String({ maxLength: 20 })),
    status: Type.Optional(
      Type.String({ pattern: "^([1-9][0-9]{2}|[1-9]xx)$", description: "404, or 5xx" }),
    ),
    action: Type.Optional(Decision.properties.action),
    reason: Type.Optional(Decision.properties.reason),
    door: Type.Optional(Type.Union([Type.Literal("egress"), Type.Literal("gateway")])),
    text: Type.Optional(
      Type.String({ minLength: 2, maxLength: 200, description: "In a URL, a header or a body" }),
    ),
    since: Type.Optional(Type.String({ format: "date-time" })),
    until: Type.Optional(Type.String({ format: "date-time" })),
  },
  { additionalProperties: false },
);

/** A flow in a list: its meta alone. */
export type FlowSummary = Static<typeof FlowSummary>;
export const FlowSummary = Type.Object(
  {
    id: Type.String(),
    started_at: Type.String({ format: "date-time" }),
    duration_ms: Ms,
    door: FlowRecord.properties.door,
    kind: FlowRecord.properties.kind,
    project_id: FlowRecord.properties.project_id,
    trial_id: FlowRecord.properties.trial_id,
    agent: FlowRecord.properties.agent,
    method: Nullable(Type.String()),
    scheme: Nullable(Type.String()),
    host: Type.String(),
    port: Type.Integer(),
    path: Nullable(Type.String()),
    query: Nullable(Type.String()),
    status: Nullable(Type.Integer()),
    sent_bytes: Count,
    received_bytes: Count,
    /** Of packets alone: what they were, and how many to this destination in `duration_ms`. */
    packets: Type.Optional(
      Type.Object({ transport: Transport, count: Count }, { additionalProperties: false }),
    ),
    decision: Decision,
    call_id: FlowRecord.properties.call_id,
    cost: FlowRecord.properties.cost,
    error: FlowRecord.properties.error,
  },
  { additionalProperties: false },
);

export type FlowPage = Static<typeof FlowPage>;
export const FlowPage = Type.Object(
  {
    flows: Type.Array(FlowSummary, { description: "The newest first" }),
    next_cursor: Nullable(Type.String()),
  },
  { additionalProperties: false },
);

export type FlowTotals = Static<typeof FlowTotals>;
export const FlowTotals = Type.Object(
  {
    groups: Type.Array(
      Type.Object(
        {
          key: Nullable(Type.String()),
          flow_count: Count,
          refused_count: Count,
          error_count: Count,
          sent_bytes: Count,
          received_bytes: Count,
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

/** How long each class is kept: days, or the newest so many bytes; all of it while `is_held`. */
export type Retention = Static<typeof Retention>;
const Days = Type.Integer({ minimum: 0, maximum: 36_500, description: "a whole number of days" });
export const Retention = Type.Object(
  {
    meta_days: Type.Optional(Days),
    headers_days: Type.Optional(Days),
    body_days: Type.Optional(Days),
    /** Of headers and bodies together, over all of the project: the oldest go first. */
    bytes_max: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    is_held: Type.Optional(Type.Boolean({ description: "a legal hold: nothing is dropped" })),
  },
  { additionalProperties: false },
);

/** `GET /api/v1/traffic/sources`: whether all that was recorded arrived. */
export type TrafficSource = Static<typeof TrafficSource>;
export const TrafficSource = Type.Object(
  {
    id: Type.String(),
    door: FlowRecord.properties.door,
    engine: FlowRecord.properties.engine,
    host: Type.String(),
    started_at: Type.String({ format: "date-time" }),
    closed_at: Nullable(Type.String({ format: "date-time" })),
    /** As the source last said. */
    last_sequence: Count,
    /** Records that arrived in the store, also those that retention took since. */
    stored_count: Count,
    /** Records that the store has now; null when it does not say. */
    kept_count: Nullable(Count),
    /** Records that the store refused for good: they lie in a dead-letter file of the host. */
    rejected_count: Count,
    /** Ranges that are recorded and not in the store: [first, last]. */
    missing: Type.Array(Type.Tuple([Count, Count]), { maxItems: 100 }),
    spooled_bytes: Count,
  },
  { additionalProperties: false },
);

export type TrafficSourceList = Static<typeof TrafficSourceList>;
export const TrafficSourceList = Type.Object(
  {
    sources: Type.Array(TrafficSource, {
      description: "Those that are incomplete first, then the newest",
    }),
  },
  { additionalProperties: false },
);
