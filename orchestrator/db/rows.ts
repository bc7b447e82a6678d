/** Reading what raw SQL returns: rows, times, and the errors that mean something to a caller. */
import type { SQL } from "drizzle-orm";
import type { Nanos } from "../money.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { Sql } from "./database.ts";

/**
 * The rows of a statement. `Row` is the caller's word for their shape: `bigint` columns come as
 * text, `timestamptz` as text (`readTime`), `jsonb` parsed, `bytea` as a Buffer.
 */
export async function rows<Row extends Record<string, unknown>>(
  sql: Pick<Sql, "execute">,
  statement: SQL,
): Promise<Row[]> {
  return (await sql.execute(statement)).rows as Row[];
}

/**
 * `value` as JSON that a `jsonb` column takes: NUL and halves of surrogate pairs, which agents'
 * output has and PostgreSQL refuses, become replacement characters.
 */
export function jsonText(value: unknown): string {
  // JSON.stringify writes both as escapes; an escaped backslash before them is text of its own.
  return JSON.stringify(value).replaceAll(/\\\\|\\u(?:0000|d[89a-f][0-9a-f]{2})/g, (found) =>
    found.startsWith("\\u") ? "\ufffd" : found,
  );
}

/** A `bigint` column of nano-units. */
export function readNanos(text: string): Nanos {
  return BigInt(text);
}

/** A `timestamptz` column, as milliseconds. */
export function readTime(text: string): EpochMs {
  const atMs = Date.parse(text);
  if (Number.isNaN(atMs)) throw new RangeError(`readTime: "${text}" is no time`);
  return atMs;
}

/** Whether `error` is the server's refusal of a second row, by `constraint` where it is given. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  const found = serverError(error);
  return found?.code === "23505" && (constraint === undefined || found.constraint === constraint);
}

/**
 * Whether `error` says that the database was not there to answer (down, restarting, unreachable,
 * too busy), so that the same request may succeed later. A statement it broke may have been
 * committed all the same: repeat it only where that is idempotent.
 */
export function isUnavailable(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const { code } = at as { code?: string };
    // 08: connection; 57P01..03: shutting down, crashed, starting; 53: out of connections.
    if (typeof code === "string" && /^(08...|57P0[1-3]|53...|E[A-Z]{4,})$/.test(code)) return true;
    if (
      /Connection terminated|not queryable|timeout exceeded when trying to connect/.test(at.message)
    ) {
      return true;
    }
  }
  return false;
}

/** The error that PostgreSQL sent, from under what the driver and drizzle wrapped around it. */
export function serverError(error: unknown): { code?: string; constraint?: string } | null {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (/^[0-9A-Z]{5}$/.test((at as { code?: string }).code ?? "")) return at as object;
  }
  return null;
}
