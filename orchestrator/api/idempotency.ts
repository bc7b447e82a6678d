/**
 * Answers kept by `Idempotency-Key`, so that a POST which creates a trial or moves money has one
 * effect however often it is sent.
 *
 * The key is claimed before the effect starts (`status` 0) and answered after it, so a crash in
 * between leaves a claim without an answer: such a repeat is refused rather than run twice, unless
 * the effect is itself idempotent on the key.
 */
import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";

export interface IdempotentRequest {
  key: string;
  /** What the key belongs to: the method and the path. */
  route: string;
  body: unknown;
  /** Whether the effect may be run again for the same key: it is idempotent on its own. */
  isRepeatable: boolean;
}

/** `body` is JSON text, kept as it was sent. */
export interface Answer {
  status: number;
  body: string;
}

export interface Idempotency {
  /**
   * The answer of the first request with this key; `effect` runs for that one alone. An `effect`
   * that throws leaves no answer and frees the key: what should be kept must be returned.
   *
   * @throws Problem `idempotency_mismatch` for another body, `conflict` while an earlier request
   * with the key has no answer.
   */
  once(request: IdempotentRequest, effect: () => Promise<Answer>): Promise<Answer>;
}

const CLAIMED = 0;
const OTHERS_ANSWER_POLLS = 50;
const OTHERS_ANSWER_POLL_MS = 100;

type Stored = { request_sha256: Buffer; status: number; response: unknown };

/** Keeps the answers in table `idempotency`. */
export function createIdempotency(database: Database, clock: Clock): Idempotency {
  /** Requests of this process that are under way: their repeats wait for the same answer. */
  const underWay = new Map<string, { sha256: Buffer; answer: Promise<Answer> }>();
  return { once };

  async function once(request: IdempotentRequest, effect: () => Promise<Answer>): Promise<Answer> {
    const sha256 = createHash("sha256")
      .update(JSON.stringify(request.body ?? null))
      .digest();
    const name = JSON.stringify([request.key, request.route]);
    const running = underWay.get(name);
    if (running !== undefined) {
      refuseMismatch(running.sha256, sha256);
      return running.answer;
    }
    const answer = claimAndRun(request, sha256, effect);
    underWay.set(name, { sha256, answer });
    try {
      return await answer;
    } finally {
      underWay.delete(name);
    }
  }

  async function claimAndRun(
    request: IdempotentRequest,
    sha256: Buffer,
    effect: () => Promise<Answer>,
  ): Promise<Answer> {
    const { key, route } = request;
    const claimed = await rows(
      database.sql,
      sql`insert into idempotency (key, route, request_sha256, status, response, created_at)
        values (${key}, ${route}, ${sha256}, ${CLAIMED}, 'null', ${rfc3339(clock.now())})
        on conflict do nothing
        returning key`,
    );
    if (claimed.length === 1) return runClaimed(request, effect);

    const stored = await othersAnswer(request, sha256);
    if (stored !== null) return stored;
    if (request.isRepeatable) return runClaimed(request, effect);
    throw new Problem(
      "conflict",
      "An earlier request with this Idempotency-Key has no answer: it is under way or was cut " +
        "off. See whether it took effect before you send it with another key",
    );
  }

  async function runClaimed(
    { key, route }: IdempotentRequest,
    effect: () => Promise<Answer>,
  ): Promise<Answer> {
    let answer: Answer;
    try {
      answer = await effect();
    } catch (error) {
      await rows(
        database.sql,
        sql`delete from idempotency
          where key = ${key} and route = ${route} and status = ${CLAIMED}`,
      );
      throw error;
    }
    // A JSON text inside a jsonb string: a jsonb object would come back with its keys reordered.
    await rows(
      database.sql,
      sql`update idempotency
        set status = ${answer.status}, response = ${JSON.stringify(answer.body)}::jsonb
        where key = ${key} and route = ${route}`,
    );
    return answer;
  }

  /** The stored answer, waited for while another process works on it; null when none came. */
  async function othersAnswer(
    { key, route }: IdempotentRequest,
    sha256: Buffer,
  ): Promise<Answer | null> {
    for (let poll = 0; poll < OTHERS_ANSWER_POLLS; poll++) {
      const [stored] = await rows<Stored>(
        database.sql,
        sql`select request_sha256, status, response from idempotency
          where key = ${key} and route = ${route}`,
      );
      if (stored === undefined) return null;
      refuseMismatch(stored.request_sha256, sha256);
      if (stored.status !== CLAIMED) {
        return { status: stored.status, body: String(stored.response) };
      }
      await pause(OTHERS_ANSWER_POLL_MS);
    }
    return null;
  }
}

function refuseMismatch(first: Buffer, second: Buffer): void {
  if (first.equals(second)) return;
  throw new Problem(
    "idempotency_mismatch",
    "This Idempotency-Key was used with another body: use a new key for a new request",
  );
}
