/** The spool of one process. */
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { SourceFacts } from "./sources.ts";

export interface SpoolOptions {
  /** `layout.spool`: the spool makes a folder of its own in it, named after the source. */
  dir: string;
  /** Its `id` names the folder: `ids.next("process")` for each sink. */
  source: SourceFacts;
  /** Of all that lies in `dir`, whoever wrote it. */
  bytesMax: number;
  /** The least time between two flushes to the disk; 0: as fast as it can. */
  fsyncEveryMs?: number;
  log: Log;
  clock: Clock;
}

export interface Spool extends AsyncDisposable {
  readonly source: SourceFacts;
  /**
   * Numbers a record (the JSON of an object without `source_id` and `sequence`) and writes it;
   * resolves with its number once it is durable.
   *
   * @throws Problem `unavailable`, when it was not written: the spool is full, or its disk.
   */
  append(record: string): Promise<number>;
  /** The last number given; 0 before the first. */
  lastSequence(): number;
  /** Bytes of this source that wait for the store, as last measured. */
  spooledBytes(): number;
  /** Why nothing can be written; null when it can. It heals by itself. */
  fault(): string | null;
}

/** @throws Problem `unavailable` when the folder cannot be made, `conflict` when it is in use. */
export declare function openSpool(options: SpoolOptions): Promise<Spool>;
