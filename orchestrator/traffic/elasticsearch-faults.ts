/** What Elasticsearch's answers mean: whether to ask again, and what to tell. */
import type { estypes } from "@elastic/elasticsearch";
import { Problem } from "../problem.ts";

/** Statuses that another time may change: too much at once, not there now, no shard. */
const TRANSIENT = [408, 429, 500, 502, 503, 504];

interface ResponseFault extends Error {
  statusCode?: number | undefined;
  body?: unknown;
}

/** Whether the server answered, and may answer otherwise a moment later. */
export function isTransient(error: unknown): boolean {
  return TRANSIENT.includes(statusOf(error) ?? 0);
}

/** Of an answer; null when there was none. */
export function statusOf(error: unknown): number | null {
  return (error as ResponseFault | null)?.statusCode ?? null;
}

/** Whether this is the server's word of an index that is not there. */
export function isMissing(error: unknown): boolean {
  return statusOf(error) === 404;
}

/**
 * @throws Problem, in the engine's words: `invalid_request` for what it cannot do, such as a text
 *   that is too long for it, else `unavailable`.
 */
export async function guarded<Result>(address: string, use: () => Promise<Result>) {
  try {
    return await use();
  } catch (cause) {
    if (!isClientFault(cause)) throw cause;
    if (statusOf(cause) === 400) {
      throw new Problem("invalid_request", `Elasticsearch refuses this: ${wordsOf(cause)}`);
    }
    throw unavailable(address, wordsOf(cause), statusOf(cause));
  }
}

/** Without the client's error: it holds the request, and with it what was in the bodies. */
export function unavailable(address: string, words: string, status: number | null = null): Problem {
  const advice =
    status === 401 || status === 403
      ? "; check ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and its password"
      : "";
  return new Problem("unavailable", `Elasticsearch at ${address}: ${words}${advice}`);
}

/** Of a failed item: its cause, and what that was caused by. */
export function itemWords(error: estypes.ErrorCause): string {
  const { type, reason, caused_by: by } = error;
  const words = `${type}: ${reason ?? ""}`;
  return by === undefined ? words : `${words} (${by.type}: ${by.reason ?? ""})`;
}

const TOO_LARGE = 413;
/** What the server says of a document that its mapping will never take. */
const OF_DOCUMENT =
  /^(document_parsing_exception|mapper_parsing_exception|strict_dynamic_mapping_exception)$/;
/** Of illegal arguments, those that are in the document: a term beyond Lucene's limit. */
const OF_TERM = /immense term|max_bytes_length_exceeded/;

/**
 * Whether an item is refused for what it is, so that it never will be taken. Anything else is the
 * server's or its operator's to change: rights, a closed index, one that is missing, a full shard.
 */
export function isItemFinal(status: number, error: estypes.ErrorCause): boolean {
  if (status === TOO_LARGE) return true;
  if (status !== 400) return false;
  if (OF_DOCUMENT.test(error.type)) return true;
  return error.type === "illegal_argument_exception" && OF_TERM.test(itemWords(error));
}

/** The client's own errors all are named so. */
function isClientFault(error: unknown): error is ResponseFault {
  return (
    error instanceof Error &&
    /^(ConnectionError|TimeoutError|NoLivingConnectionsError|ResponseError|RequestAbortedError|ProductNotSupportedError|DeserializationError)$/.test(
      error.name,
    )
  );
}

export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = (error as ResponseFault).body as
    | { error?: estypes.ErrorCause | string }
    | undefined;
  const of = cause?.error;
  const told = typeof of === "string" ? of : (of?.root_cause?.[0]?.reason ?? of?.reason);
  const status = statusOf(error);
  return `${status === null ? "" : `${status}: `}${told ?? error.message}`;
}
