/** A handler that answers once for an `Idempotency-Key`: its answers and its problems are kept. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { Type } from "typebox";
import { PROBLEMS } from "../problem.ts";
import type { Answer } from "./idempotency.ts";
import { PROBLEM_TYPE, problemBody, toProblem } from "./problem-reply.ts";
import type { Services } from "./services.ts";

export const IDEMPOTENCY_HEADER = "idempotency-key";
export const IdempotencyHeaders = Type.Object({
  [IDEMPOTENCY_HEADER]: Type.String({
    minLength: 1,
    maxLength: 200,
    pattern: "^[\\x21-\\x7e]+$",
    description: "Made by the caller; a repeat with the same key and body gets the same answer",
  }),
});

interface Call {
  request: FastifyRequest;
  reply: FastifyReply;
  /** The status of a success. */
  status: number;
  /** Whether the effect is itself idempotent on the key. */
  isRepeatable: boolean;
  /** Makes what is sent of the answer that is kept: adds what must not lie in the database. */
  complete?: (kept: string) => Promise<string>;
}

/** Transient problems are not kept: nothing happened, and the same key may try again. */
export async function runOnce(
  { idempotency }: Pick<Services, "idempotency">,
  { request, reply, status, isRepeatable, complete }: Call,
  effect: (key: string) => Promise<unknown>,
): Promise<void> {
  const key = String(request.headers[IDEMPOTENCY_HEADER]);
  const route = `${request.method} ${request.url.replace(/\?.*/s, "").slice(0, 190)}`;
  const call = { key, route, body: request.body, isRepeatable };
  const answer = await idempotency.once(call, async (): Promise<Answer> => {
    try {
      return { status, body: JSON.stringify(await effect(key)) };
    } catch (error) {
      const problem = toProblem(error);
      if (PROBLEMS[problem.code].transient) throw error;
      if (problem.code === "internal") request.log.error({ err: error }, "request failed");
      return { status: PROBLEMS[problem.code].status, body: JSON.stringify(problemBody(problem)) };
    }
  });
  const isDone = answer.status < 400;
  const body = isDone && complete !== undefined ? await complete(answer.body) : answer.body;
  const type = isDone ? "application/json; charset=utf-8" : PROBLEM_TYPE;
  await reply.code(answer.status).type(type).send(body);
}
