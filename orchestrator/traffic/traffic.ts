/**
 * The traffic port: where flow records are kept and looked for. What arrives has been redacted and
 * is durable in a spool already, so that a store may be away for a while.
 */
import type { FlowGroup } from "../contract/flow-choices.ts";
import type { FlowFilter, FlowPage, FlowRecord, FlowTotals } from "../contract/flows.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { FlowId, ProjectId } from "../runtime/ids.ts";
import type { FlowLine } from "./flow-line.ts";

/** Of a record: what has a retention of its own. */
export type FieldClass = "meta" | "headers" | "body";

/** What the store would never take, however often it is asked; why, by the record's id. */
export type Rejected = ReadonlyMap<FlowId, string>;

/** A filter whose project is known by its id. */
export type FlowQuery = Omit<FlowFilter, "project"> & { projectId?: ProjectId };

export interface Page {
  /** At most so many: 1 to 1,000. */
  limit: number;
  /** As the last page told it. */
  cursor?: string;
}

export interface Traffic extends AsyncDisposable {
  readonly name: "postgres" | "elasticsearch";
  /**
   * Keeps records, in any order. Idempotent by their ids: one that is there already stays as it
   * is. Either it resolves, and all but the rejected ones are durable, or it throws, and any of
   * them may be.
   *
   * @throws Problem `unavailable` when the store does not answer, or is full.
   */
  append(flows: readonly FlowRecord[]): Promise<Rejected>;
  /** The same of lines of a spool, where a store keeps what is in them as it is. */
  appendLines?(lines: readonly FlowLine[]): Promise<Rejected>;
  /** The newest first. @throws Problem `invalid_request` for a cursor that is none of ours. */
  search(query: FlowQuery, page: Page): Promise<FlowPage>;
  /** One, with what retention has left of it. */
  find(id: FlowId): Promise<FlowRecord | null>;
  /** Whole records, the oldest first: what exports and replays are made of. */
  scan(query: FlowQuery): AsyncIterable<FlowRecord>;
  /** Totals, the largest group first; of hours, the earliest first. */
  totals(query: FlowQuery, by: FlowGroup): Promise<FlowTotals>;
  /** How many records of these sources there are, by source; for the proof of completeness. */
  countBySource(sourceIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /**
   * Drops a class of a project's fields (of flows without a project: null) that began before then;
   * of a dropped meta all is dropped. Of everyone's, whole days alone, which costs little whatever
   * is in them. How many records it was: a call does a bounded piece of work, the next one goes on.
   */
  expire(whose: ProjectId | null | "everyone", what: FieldClass, before: EpochMs): Promise<number>;
  /**
   * The time before which a project's headers and bodies are beyond its newest `bytesMax`; null
   * when they are not.
   */
  boundary(projectId: ProjectId, bytesMax: number): Promise<EpochMs | null>;
  /** Told to people: where it is, how large. @throws Problem `unavailable`. */
  describe(): Promise<string>;
}
