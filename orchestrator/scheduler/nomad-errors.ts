/**
 * What Nomad's refusals mean. It answers errors as plain text, and most of them with status 500,
 * whether asking again would help or not: so the text decides (nomad/structs/errors.go and
 * nomad/job_endpoint.go of 2.0.5). Pure.
 *
 * Invariant: every problem made here carries Nomad's own words, in its message and as `said`.
 */
import { Problem, type ProblemCode } from "../problem.ts";

/** What would be refused again, however often it is asked: the request itself is wrong. */
const PERMANENT = [
  /parameterized job not found/,
  /is not a parameterized job/,
  /^Specified job .* is stopped/,
  /Dispatch did not provide required meta keys/,
  /Dispatch request included unpermitted metadata keys/,
  /Duplicate key .* in passed metadata/,
  /Payload (exceeds|is not provided|provided but)/,
  /priority must be between/,
  /is in nonexistent (node pool|namespace)/,
  /does not allow task driver|disallows the use of/,
  /errors? occurred:/,
  /validation failed/,
  /^[Mm]issing /,
  /Job (ID|Name|must)/,
  /Enforcing job modify index/,
  /node not found|index error: (UUID|Invalid|must be)/,
  /^[Ff]ailed to (parse|decode)/,
];

/** Texts that Nomad gives a status of 4xx, but that pass by themselves. */
const PASSING = /No cluster leader|No path to (region|node)|[Tt]oo many requests|limit exceeded/;
/** An expired or malformed token is a 500 to some endpoints. */
const DENIED = /Permission denied|ACL token (expired|is invalid)|compact JWS|claims/;
const SAID_MAX = 500;

/** A problem for an answer that is no success; 404 is the caller's to expect. */
export function refusalOf(
  { status, text, contentType }: { status: number; text: string; contentType: string },
  { address, what }: { address: string; what: string },
): Problem {
  if (/text\/html/.test(contentType)) {
    return new Problem(
      "unavailable",
      `NOMAD_ADDR: what answers at ${address} is no Nomad agent (${status}, a web page)`,
    );
  }
  const said = text.trim().slice(0, SAID_MAX) || `status ${status} without a word`;
  const facts = { engine: "nomad", status, said };
  return new Problem(codeOf(status, said), `Nomad refused to ${what}: ${said}`, { facts });
}

function codeOf(status: number, said: string): ProblemCode {
  // Also where a token has expired: the trial is not to blame, and waits for the operator.
  if (status === 401 || status === 403 || DENIED.test(said)) return "forbidden";
  if (PASSING.test(said)) return "unavailable";
  if (status === 404) return "not_found";
  if (status === 429 || status > 500) return "unavailable";
  if (status < 500 || PERMANENT.some((pattern) => pattern.test(said))) return "invalid_request";
  // What is not known may pass: better asked again than a trial given up.
  return "unavailable";
}

/** A problem for a request that got no answer, or half of one. */
export function unreachable(address: string, what: string, error: unknown): Problem {
  const { code = "", message = String(error) } = (error ?? {}) as Partial<NodeJS.ErrnoException>;
  const why = [code, message].filter((part) => part !== "").join(": ");
  return new Problem("unavailable", `Nomad at ${address} did not answer (${what}): ${why}`, {
    cause: error,
  });
}

/** Whether a problem is Nomad saying something that matches. */
export function hasSaid(error: unknown, pattern: RegExp): boolean {
  return error instanceof Problem && pattern.test(String(error.facts["said"] ?? ""));
}
