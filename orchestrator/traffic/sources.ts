/**
 * The sources port: which processes record flows, how far they have counted, and which of their
 * records arrived in the store, so that what is missing has numbers.
 *
 * Every call is idempotent and may come in any order: `lastSequence` never goes back, ranges only
 * grow, and a source that nobody registered is registered by whoever drains its spool.
 */
import type { FlowRecord, TrafficSource } from "../contract/flows.ts";
import type { EpochMs } from "../runtime/clock.ts";

/** The first and the last of records that follow each other. */
export type SequenceRange = readonly [first: number, last: number];

export interface SourceFacts {
  readonly id: string;
  readonly door: FlowRecord["door"];
  readonly engine: FlowRecord["engine"];
  /** The machine's name. */
  readonly host: string;
  readonly startedAtMs: EpochMs;
}

export interface SourceProgress {
  /** The highest number it has given. */
  readonly lastSequence: number;
  /** Of its own records, how much waits on its disk. */
  readonly spooledBytes: number;
}

export interface TrafficSources {
  register(source: SourceFacts): Promise<void>;
  /** Told every few seconds by whoever records. */
  heartbeat(source: SourceFacts, progress: SourceProgress): Promise<void>;
  /** Nothing more comes from it, and nothing of it waits. */
  close(source: SourceFacts, lastSequence: number): Promise<void>;
  /** These are in the store. */
  markStored(source: SourceFacts, ranges: readonly SequenceRange[]): Promise<void>;
  /** These the store will never take; they lie in a dead-letter file. */
  markRejected(source: SourceFacts, ranges: readonly SequenceRange[]): Promise<void>;
  /** Those that are incomplete first, then the newest; at most 1,000. */
  list(): Promise<Omit<TrafficSource, "kept_count">[]>;
}
