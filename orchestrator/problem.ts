/**
 * The error table: every fault a client may be told of. A code is never renamed or reused.
 * Refusals that a caller could expect are return values; defects are plain errors (500).
 */
export const PROBLEMS = {
  invalid_request: { status: 400, title: "The request is not valid", transient: false },
  unpriced_model: { status: 400, title: "The model has no price", transient: false },
  unauthenticated: { status: 401, title: "No valid credential was given", transient: false },
  forbidden: { status: 403, title: "This credential may not do that", transient: false },
  budget_exceeded: { status: 403, title: "The budget cannot cover this", transient: false },
  not_found: { status: 404, title: "There is no such thing", transient: false },
  conflict: { status: 409, title: "Its state does not allow that", transient: false },
  fenced: { status: 409, title: "Another allocation has taken this trial over", transient: false },
  too_large: { status: 413, title: "The request is too large", transient: false },
  idempotency_mismatch: {
    status: 422,
    title: "This idempotency key was used for another request",
    transient: false,
  },
  rate_limited: { status: 429, title: "Too many requests", transient: true },
  internal: { status: 500, title: "The server failed", transient: false },
  upstream_failed: { status: 502, title: "The model server failed", transient: true },
  unavailable: { status: 503, title: "A backend did not answer", transient: true },
  secrets_sealed: { status: 503, title: "The secrets cannot be opened", transient: true },
} as const satisfies Record<string, { status: number; title: string; transient: boolean }>;

export type ProblemCode = keyof typeof PROBLEMS;
export type ProblemFacts = Readonly<Record<string, string | number | boolean>>;

export class Problem extends Error {
  override readonly name = "Problem";
  readonly code: ProblemCode;
  /** Facts for the caller: safe to show, merged into the answer. Secrets never go here. */
  readonly facts: ProblemFacts;

  /** `detail`: one sentence that names the field, what was wrong and what to do. */
  constructor(
    code: ProblemCode,
    detail: string,
    { facts = {}, cause }: { facts?: ProblemFacts; cause?: unknown } = {},
  ) {
    super(detail, cause === undefined ? undefined : { cause });
    this.code = code;
    this.facts = facts;
  }
}
