/** What a query asks of rows of `flow`, as SQL in which every value is a parameter. Pure. */
import { type SQL, sql } from "drizzle-orm";
import { Problem } from "../problem.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { Position } from "./cursor.ts";
import { hostPattern, statusRange } from "./parts.ts";
import { escapeText, jsonPatterns, like } from "./postgres-rows.ts";
import type { FlowQuery } from "./traffic.ts";

export type Direction = "newest_first" | "oldest_first";

/** All of the query but its text, on the alias `f`. @throws Problem `invalid_request`. */
export function conditions(query: FlowQuery): SQL {
  const { projectId, trial_id, host, path, method, status, action, reason, door } = query;
  const all: SQL[] = [sql`true`];
  if (projectId !== undefined) all.push(sql`f.project_id = ${escapeText(projectId)}`);
  if (trial_id !== undefined) all.push(sql`f.trial_id = ${escapeText(trial_id)}`);
  if (host !== undefined) all.push(hostCondition(host));
  if (path !== undefined) all.push(sql`starts_with(f.path, ${escapeText(path)})`);
  if (method !== undefined) all.push(sql`f.method = ${escapeText(method.toUpperCase())}`);
  if (status !== undefined) {
    const { from, to } = statusRange(status);
    all.push(sql`f.status between ${from} and ${to}`);
  }
  if (action !== undefined) all.push(sql`f.action = ${escapeText(action)}`);
  if (reason !== undefined) all.push(sql`f.reason = ${escapeText(reason)}`);
  if (door !== undefined) all.push(sql`f.door = ${escapeText(door)}`);
  if (query.since !== undefined) {
    all.push(sql`f.started_at >= ${timeOf("since", query.since)}::timestamptz`);
  }
  if (query.until !== undefined) {
    all.push(sql`f.started_at < ${timeOf("until", query.until)}::timestamptz`);
  }
  return sql.join(all, sql` and `);
}

/** Beyond a position, in the direction of reading. */
export function beyond(position: Position | null, direction: Direction): SQL {
  if (position === null) return sql`true`;
  const sign = direction === "newest_first" ? sql`<` : sql`>`;
  const { atMs, id } = position;
  return sql`(f.started_at, f.id) ${sign} (${rfc3339(atMs)}::timestamptz, ${id})`;
}

/** Up to a position, and with it. */
export function upTo({ atMs, id }: Position, direction: Direction): SQL {
  const sign = direction === "newest_first" ? sql`>=` : sql`<=`;
  return sql`(f.started_at, f.id) ${sign} (${rfc3339(atMs)}::timestamptz, ${id})`;
}

export function order(direction: Direction): SQL {
  return direction === "newest_first" ? sql`f.started_at desc, f.id desc` : sql`f.started_at, f.id`;
}

/** Whether the text is in the URL, a header (alias `h`) or a body (alias `b`). */
export function hasText(text: string): SQL {
  const { inText, inHeaders } = jsonPatterns(text);
  return sql`(f.url ilike ${like(escapeText(text))}
    or h.request ilike ${inText} or h.response ilike ${inText}
    or h.request ilike ${inHeaders} or h.response ilike ${inHeaders}
    or b.texts ilike ${inText})`;
}

function hostCondition(host: string): SQL {
  const pattern = hostPattern(host);
  if ("host" in pattern) return sql`f.host = ${escapeText(pattern.host)}`;
  const suffix = escapeText(pattern.suffix);
  return sql`right(f.host, length(${suffix}::text)) = ${suffix}`;
}

function timeOf(field: string, text: string): string {
  const time = new Date(text);
  const isTime = !Number.isNaN(time.getTime()) && /^\d{4}-/.test(time.toISOString());
  if (isTime) return time.toISOString();
  throw new Problem("invalid_request", `${field}: no time; write it as 2026-11-21T20:00:00Z`);
}
