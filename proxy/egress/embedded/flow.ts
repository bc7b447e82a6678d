/** What is known of one flow while it passes, and the draft that is made of it when it ends. */
import type { Decision } from "../../../orchestrator/contract/egress.ts";
import { type Clock, monotonicMs } from "../../../orchestrator/runtime/clock.ts";
import type { FlowId, Ids } from "../../../orchestrator/runtime/ids.ts";
import type {
  CapturedBody,
  CapturedMessage,
  FlowDraft,
} from "../../../orchestrator/traffic/sink.ts";
import type { EgressSession, Place, Target } from "../guard.ts";

export type HeaderList = readonly (readonly [string, string])[];

/** A body as it passes: all of it counted, its first bytes kept. */
export interface Capture {
  add(chunk: Buffer): void;
  /** Null when nothing passed. */
  body(): CapturedBody | null;
}

/** @param place whose memory it is; null: nobody's, for what is of our own making. */
export function createCapture(bytesMax: number, place: Pick<Place, "hold"> | null): Capture {
  const kept: Buffer[] = [];
  let keptCount = 0;
  let byteCount = 0;
  let isCut = false;
  return { add, body };

  function add(chunk: Buffer): void {
    byteCount += chunk.length;
    if (isCut) return;
    const wanted = Math.min(chunk.length, bytesMax - keptCount);
    const part = chunk.subarray(0, place?.hold(wanted) ?? wanted);
    // What is kept has no gap, also when there is room again.
    isCut = part.length < chunk.length;
    if (part.length === 0) return;
    // A part of a chunk would keep all of it in memory.
    kept.push(part.length === chunk.length ? part : Buffer.from(part));
    keptCount += part.length;
  }

  function body(): CapturedBody | null {
    if (byteCount === 0) return null;
    const [only] = kept;
    const whole = kept.length === 1 && only !== undefined ? only : Buffer.concat(kept);
    return { kept: whole, byteCount };
  }
}

/** Filled while it passes; what `end` makes a draft of. */
export interface Flow {
  readonly id: FlowId;
  readonly startedAtMs: number;
  kind: FlowDraft["kind"];
  client: FlowDraft["client"];
  server: FlowDraft["server"];
  timings: FlowDraft["timings"];
  request: Omit<NonNullable<FlowDraft["request"]>, "body"> | null;
  requestBody: Capture | null;
  response: { status: number; headers: HeaderList } | null;
  responseBody: Capture | null;
  messages: CapturedMessage[] | null;
  sentCount: number | null;
  receivedCount: number | null;
  decision: Decision | null;
  credentials: readonly string[];
  secrets: readonly string[];
  error: string | null;
  /** The draft, once; what goes on after it is not in the record. */
  draft(session: EgressSession | null): FlowDraft;
}

const UNDECIDED: Decision = {
  action: "deny",
  reason: "session_ended",
  rule: null,
  detail: "It ended before it was decided",
};

export function openFlow(
  { ids, clock }: { ids: Ids; clock: Clock },
  kind: FlowDraft["kind"],
  target: Target,
  client: FlowDraft["client"],
): Flow {
  const startedMs = monotonicMs();
  const flow: Flow = {
    id: ids.next("flow"),
    startedAtMs: clock.now(),
    kind,
    client,
    server: {
      host: target.host.slice(0, 500),
      port: target.port,
      address: null,
      server_name: null,
      tls_version: null,
      http_version: null,
      certificate_sha256: null,
    },
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: null },
    request: null,
    requestBody: null,
    response: null,
    responseBody: null,
    messages: null,
    sentCount: null,
    receivedCount: null,
    decision: null,
    credentials: [],
    secrets: [],
    error: null,
    draft,
  };
  return flow;

  function draft(session: EgressSession | null): FlowDraft {
    const { request, response } = flow;
    return {
      ...{ id: flow.id, kind: flow.kind, engine: "embedded" as const },
      projectId: session?.projectId ?? null,
      trialId: session?.trialId ?? null,
      allocationId: session?.allocationId ?? null,
      agent: session?.agent ?? null,
      startedAtMs: flow.startedAtMs,
      durationMs: monotonicMs() - startedMs,
      timings: flow.timings,
      client: flow.client,
      server: flow.server,
      request: request === null ? null : { ...request, body: flow.requestBody?.body() ?? null },
      response: response === null ? null : { ...response, body: flow.responseBody?.body() ?? null },
      messages: flow.messages,
      sentCount: flow.sentCount,
      receivedCount: flow.receivedCount,
      decision: flow.decision ?? UNDECIDED,
      credentials: flow.credentials,
      ...{ callId: null, transferId: null, cost: null },
      error: flow.error === null ? null : flow.error.slice(0, 2_000),
      secrets: flow.secrets,
    };
  }
}
