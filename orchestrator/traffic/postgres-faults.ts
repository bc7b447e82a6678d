/** What PostgreSQL's errors mean to whoever asked the store. */
import { isUnavailable, serverError } from "../db/rows.ts";
import { Problem } from "../problem.ts";

const CANCELLED = "57014";

/** @throws Problem `unavailable`; `invalid_request` when a statement took too long. */
export async function guarded<Result>(use: () => Promise<Result>): Promise<Result> {
  try {
    return await use();
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    if (isUnavailable(cause)) {
      const detail = `The database does not take or give records of traffic: ${wordsOf(cause)}`;
      throw new Problem("unavailable", detail, { cause });
    }
    if (serverError(cause)?.code === CANCELLED) {
      const detail = "This search takes too long: narrow it by since, until, trial_id or host";
      throw new Problem("invalid_request", detail, { cause });
    }
    throw cause;
  }
}

/** The server's own words, from under what was wrapped around them. */
export function wordsOf(error: unknown): string {
  let words = String(error);
  for (let at = error; at instanceof Error; at = at.cause) words = at.message;
  return words;
}
