/** The sink port over a spool: a draft becomes a redacted record, and is written. */
import type { BackgroundTask } from "../runtime/background.ts";
import type { Log } from "../runtime/log.ts";
import type { FlowSink } from "./sink.ts";
import type { TrafficSources } from "./sources.ts";
import type { Spool } from "./spool.ts";

/** What must not be written, wherever it is seen. */
export interface KnownSecrets {
  /** At least 8 characters each; `kind` is what stands in their place: `[redacted:kind]`. */
  readonly values: readonly { readonly value: string; readonly kind: string }[];
  /** Of tokens that only their hash is known of: SHA-256, in hexadecimal. */
  readonly sha256: ReadonlySet<string>;
}

export interface FlowSinkDeps {
  spool: Spool;
  sources: TrafficSources;
  /** Asked again at most once a second; must not wait for anything. */
  knownSecrets: () => KnownSecrets;
  log: Log;
}

export interface FlowSinkOptions {
  bodyBytesMax: number;
  messageBytesMax: number;
  /** Of drafts that wait to be written; beyond it `isBehind`, beyond twice it refused. */
  waitingBytesMax: number;
}

export interface SpooledFlowSink extends FlowSink, AsyncDisposable {
  /** Registers the source and tells how far it is: start it with `startBackground`, not a duty. */
  readonly beat: BackgroundTask;
}

export const FLOW_SINK_DEFAULTS: FlowSinkOptions = {
  bodyBytesMax: 2 ** 20,
  messageBytesMax: 2 ** 20,
  waitingBytesMax: 64 * 2 ** 20,
};

/** `[Symbol.asyncDispose]` waits for what is accepted, and closes the spool. */
export declare function createFlowSink(
  deps: FlowSinkDeps,
  options?: Partial<FlowSinkOptions>,
): SpooledFlowSink;
