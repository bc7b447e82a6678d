/**
 * What decides for the egress proxies. An engine (our own, mitmproxy) reads the worker's bytes and
 * carries them; whatever it may do with them it asks here, so that both do the same.
 *
 * The order of questions: `session` for each connection's credentials; `connect` for a tunnel, then
 * `hello` for the first bytes inside of it; `request` for each request before anything of it is
 * forwarded. Every answer that refuses carries what the worker is told. An engine connects to an
 * address of the answer alone: it resolves no name by itself.
 */
import type { Decision } from "../../orchestrator/contract/egress.ts";
import type { FlowDraft } from "../../orchestrator/traffic/sink.ts";

/** How a worker is told: the same bytes from every engine. */
export interface Refusal {
  /** 400, 403, 407, 413, 429, 502, 503. */
  readonly status: number;
  readonly headers: readonly (readonly [string, string])[];
  /** JSON: `{"error":{"type":"egress_refused","code":…,"message":…}}`. */
  readonly body: string;
}

export interface Target {
  /** As the worker wrote it. */
  readonly host: string;
  readonly port: number;
}

/** A tunnel's first bytes, when they are a TLS ClientHello. */
export interface ClientHello {
  readonly serverName: string | null;
  readonly protocols: readonly string[];
  /** The real name is encrypted. */
  readonly hasEncryptedHello: boolean;
}

export type TunnelDecision =
  | {
      readonly outcome: "open";
      readonly decision: Decision;
      /** `intercept`: the engine speaks TLS, or HTTP, itself. */
      readonly how: "intercept" | "passthrough";
      /** The target, as it was understood: lower case, no trailing dot. */
      readonly host: string;
      /** Checked; to be connected to in this order. */
      readonly addresses: readonly string[];
    }
  | { readonly outcome: "refuse"; readonly decision: Decision; readonly refusal: Refusal };

export interface RequestHead {
  readonly method: string;
  readonly scheme: "http" | "https" | "ws" | "wss";
  /** Of the tunnel, or of an absolute URL. */
  readonly target: Target;
  /** `Host`, or `:authority`; null when there is none. */
  readonly authority: string | null;
  /** What TLS was opened for; null without TLS. */
  readonly serverName: string | null;
  /** Path and query, as sent. */
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  /** As declared; null when it is not known beforehand. */
  readonly bodyByteCount: number | null;
}

/** A value that the answer must not bring back, and what stands in its place. */
export interface Scrub {
  readonly value: string;
  readonly placeholder: string;
}

export type RequestDecision =
  | {
      readonly outcome: "forward";
      readonly decision: Decision;
      readonly host: string;
      readonly addresses: readonly string[];
      /** Sent in place of the worker's own: with credentials, without those for a proxy. */
      readonly headers: readonly (readonly [string, string])[];
      /** The secrets that were put in, by their paths. */
      readonly credentials: readonly string[];
      /** Of the answer's headers and body, decompressed where it must be. */
      readonly scrubs: readonly Scrub[];
      /** None of these byte strings (latin1) may leave in the body: `onCanary`, and cut. */
      readonly canaries: readonly string[];
      /** Of the body: what its head left of what a request may have. */
      readonly requestBytesMax: number;
      readonly responseBytesMax: number;
    }
  | {
      /** From the record, for a replay: nothing is forwarded. */
      readonly outcome: "answer";
      readonly decision: Decision;
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: Buffer;
    }
  | { readonly outcome: "refuse"; readonly decision: Decision; readonly refusal: Refusal };

/** Why bytes are kept: to be recorded, or until they are whole and may pass. */
export type Held = "record" | "traffic";

/** One connection or exchange of a session, while it lasts. */
export interface Place {
  readonly outcome: "entered";
  /**
   * Of so many bytes as many as may be kept in memory for it; 0 once the session has its all. What
   * is kept for the record (unless told) has half of the room at most: traffic, which cannot pass
   * before it is whole, always has a share.
   */
  hold(byteCount: number, what?: Held): number;
  give(byteCount: number, what?: Held): void;
  /** Gives back what it holds; again does nothing. */
  leave(): void;
}

/** What a session has under way in this process: bounded, so that none starves the others. */
export interface Places {
  /** What the holds of all of them come to at most. */
  readonly heldBytesMax: number;
  enter(
    what: "connection" | "exchange",
  ): Place | { readonly outcome: "refuse"; readonly decision: Decision; readonly refusal: Refusal };
}

/** One allocation at the proxy. */
export interface EgressSession {
  readonly allocationId: string;
  readonly trialId: string;
  readonly projectId: string;
  readonly agent: string | null;
  /** Aborted when the allocation ends or its trial is stopped: its connections are closed. */
  readonly signal: AbortSignal;
  readonly places: Places;
  connect(target: Target): Promise<TunnelDecision>;
  /** `hello` is null where the first bytes are no TLS. */
  hello(target: Target, hello: ClientHello | null): Promise<TunnelDecision>;
  request(head: RequestHead): Promise<RequestDecision>;
  /** Counts bodies as they leave; `request` counts heads. False: the trial sent all it may. */
  sent(byteCount: number): boolean;
  /** The canary was about to leave: the trial is stopped. */
  onCanary(flowId: string, host: string): void;
  /** How a flow ended that this session made; writes its record and tells its trial. */
  record(draft: FlowDraft): void;
}

export interface EgressGuard {
  /** By the proxy's credentials; null: nobody we know, or whose allocation has ended. */
  session(username: string, password: string): Promise<EgressSession | null>;
  /** What whoever has no session is told: 407. */
  readonly stranger: { readonly decision: Decision; readonly refusal: Refusal };
  /** Records a flow of nobody we know. */
  recordStranger(draft: FlowDraft): void;
}

/** An engine that runs. */
export interface EgressProxy extends AsyncDisposable {
  readonly engine: "embedded" | "mitmproxy";
  /** Where workers connect to: `http://host:port`. */
  readonly url: string;
  /** Why it serves nobody now; null when it does. */
  fault(): Promise<string | null>;
}
