/** The HTTP edge of errors: RFC 9457 problems, the cause to the log, the detail to the caller. */
import type {
  FastifyError,
  FastifyReply,
  FastifyRequest,
  FastifySchemaValidationError,
} from "fastify";
import { isUnavailable } from "../db/rows.ts";
import { PROBLEMS, Problem } from "../problem.ts";

export const PROBLEM_TYPE = "application/problem+json";
const RETRY_AFTER_S = "1";

/** fastify's error handler: every error that leaves a handler is answered here, and logged once. */
export function replyWithProblem(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const problem = toProblem(error);
  const { status, transient } = PROBLEMS[problem.code];
  const facts = { code: problem.code, route: request.routeOptions.url ?? "unknown" };
  if (status >= 500) request.log.error({ ...facts, err: problem.cause ?? error }, "request failed");
  else request.log.debug({ ...facts, detail: problem.message }, "request refused");
  if (transient) reply.header("retry-after", RETRY_AFTER_S);
  if (status === 401) reply.header("www-authenticate", "Bearer");
  return reply
    .code(status)
    .type(PROBLEM_TYPE)
    .send(JSON.stringify(problemBody(problem)));
}

/** What crosses the wire of a problem. */
export function problemBody(problem: Problem): Record<string, string | number | boolean> {
  const { status, title } = PROBLEMS[problem.code];
  const type = `/problems/${problem.code}`;
  return { type, title, status, detail: problem.message, ...problem.facts };
}

/** A defect's message stays here: it may name what callers must not learn. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (isUnavailable(error)) {
    return new Problem("unavailable", "The database did not answer: try again", { cause: error });
  }
  const { statusCode = 500, validation, validationContext } = error as Partial<FastifyError>;
  if (validation !== undefined && error instanceof Error) {
    return new Problem("invalid_request", error.message, {
      facts: { part: validationContext ?? "body" },
    });
  }
  if (statusCode === 413) {
    return new Problem("too_large", "The body is larger than this route takes");
  }
  if (statusCode >= 400 && statusCode < 500 && error instanceof Error) {
    return new Problem("invalid_request", error.message);
  }
  const detail = "The server failed; its log says why";
  return new Problem("internal", detail, { cause: error });
}

/**
 * One sentence for the first fault that names a field. A union reports a fault for each of its
 * branches; the one deepest in the value is about the branch that was meant.
 */
export function describeFaults(
  faults: readonly FastifySchemaValidationError[],
  part: string,
): Error {
  const unknown = faults.find(({ keyword }) => keyword === "additionalProperties");
  const [missing] = faults.filter(({ keyword }) => keyword === "required");
  const [deepest] = faults.toSorted((a, b) => depth(b) - depth(a));
  const fault = unknown ?? missing ?? deepest;
  if (fault === undefined) return new Error(`${part} is not valid`);
  const at = [part, ...(fault.instancePath ?? "").split("/").slice(1)].join(".");
  return new Error(`${at}: ${explain(fault)}`);
}

function depth({ instancePath = "" }: FastifySchemaValidationError): number {
  return instancePath.split("/").length;
}

function explain({ keyword, params = {}, message }: FastifySchemaValidationError): string {
  const list = (names: unknown) => (Array.isArray(names) ? names.map(String).join(", ") : "");
  switch (keyword) {
    case "additionalProperties":
      return `unknown field ${list(params["additionalProperties"])}`;
    case "required":
      return `missing field ${list(params["requiredProperties"])}`;
    case "pattern":
      return `must match ${String(params["pattern"])}`;
    default:
      return message ?? "is not valid";
  }
}
