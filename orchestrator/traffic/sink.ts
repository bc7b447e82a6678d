/**
 * Where the doors (the egress proxies, the gateway) leave what passed. A draft is raw: the sink
 * decompresses, cuts and redacts it, numbers it and writes it to the spool; nothing of it touches a
 * disk before it is redacted.
 */
import type { Decision } from "../contract/egress.ts";
import type { FlowRecord } from "../contract/flows.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { FlowId } from "../runtime/ids.ts";

/** What was kept of a body while it passed, as it was sent. */
export interface CapturedBody {
  /** The first bytes of it; `byteCount` passed. */
  readonly kept: Buffer;
  readonly byteCount: number;
}

export interface CapturedMessage {
  readonly atMs: EpochMs;
  readonly from: "client" | "server";
  readonly isText: boolean;
  readonly body: CapturedBody;
}

type HeaderList = readonly (readonly [string, string])[];

export interface FlowDraft {
  readonly id: FlowId;
  readonly kind: FlowRecord["kind"];
  /** Of packets. */
  readonly transport?: string;
  readonly engine: FlowRecord["engine"];
  readonly projectId: string | null;
  readonly trialId: string | null;
  readonly allocationId: string | null;
  readonly agent: string | null;
  readonly startedAtMs: EpochMs;
  readonly durationMs: number;
  readonly timings: FlowRecord["timings"];
  readonly client: FlowRecord["client"];
  readonly server: FlowRecord["server"];
  readonly request: {
    readonly method: string;
    readonly scheme: NonNullable<FlowRecord["request"]>["scheme"];
    readonly path: string;
    readonly query: string | null;
    /** As the worker sent them: with placeholders, never with what was put in. */
    readonly headers: HeaderList;
    readonly body: CapturedBody | null;
  } | null;
  readonly response: {
    readonly status: number;
    /** As the worker got them: scrubbed. */
    readonly headers: HeaderList;
    readonly body: CapturedBody | null;
  } | null;
  readonly messages: readonly CapturedMessage[] | null;
  readonly sentCount: number | null;
  readonly receivedCount: number | null;
  readonly decision: Decision;
  readonly credentials: readonly string[];
  readonly callId: string | null;
  readonly transferId: string | null;
  readonly cost: FlowRecord["cost"];
  readonly error: string | null;
  /** Values that must not be written, beyond what the sink knows of: what was put in, canaries. */
  readonly secrets: readonly string[];
}

export interface FlowSink {
  /** Every record of this sink names it. */
  readonly sourceId: string;
  /** How much of a body a door keeps for the record. */
  readonly bodyBytesMax: number;
  /** How much of a WebSocket's messages, all together. */
  readonly messageBytesMax: number;
  /**
   * Takes a record; resolves once it is durable. Doors do not wait for it on the way of a request,
   * but stop reading from whoever sends more while `isBehind`.
   *
   * @throws Problem `unavailable` when it could not be written: the spool is full, or its disk.
   */
  append(draft: FlowDraft): Promise<void>;
  /** Whether more than it can hold in memory waits to be written. */
  isBehind(): boolean;
  /** Why nothing more can be recorded now; null when it can. */
  fault(): string | null;
}
