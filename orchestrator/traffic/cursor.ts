/**
 * Where a page ended: the last flow's time and id, which are the order of all lists. It holds
 * nothing of a store's own, so that it goes on beside writes, after a restart, on any replica.
 */
import { Problem } from "../problem.ts";
import type { EpochMs } from "../runtime/clock.ts";
import { type FlowId, isId } from "../runtime/ids.ts";

/** The years of four digits, which is what a record's time can say. */
const EARLIEST_MS = Date.parse("0001-01-01T00:00:00Z");
const LATEST_MS = Date.parse("9999-12-31T23:59:59.999Z");

export interface Position {
  readonly atMs: EpochMs;
  readonly id: FlowId;
}

export function writeCursor({ atMs, id }: Position): string {
  return Buffer.from(`${atMs}.${id}`).toString("base64url");
}

/** @throws Problem `invalid_request` for what is none of ours. */
export function readCursor(cursor: string): Position {
  const [, ms = "", id = ""] =
    /^(-?\d{1,16})\.(.+)$/.exec(Buffer.from(cursor, "base64url").toString("latin1")) ?? [];
  const atMs = Number(ms);
  const isTime = ms !== "" && atMs >= EARLIEST_MS && atMs <= LATEST_MS;
  if (isTime && isId("flow", id) && writeCursor({ atMs, id }) === cursor) return { atMs, id };
  throw new Problem(
    "invalid_request",
    "cursor: none of ours; give next_cursor of the page before, or none for the first page",
  );
}
