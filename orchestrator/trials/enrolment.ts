/**
 * Enrolment tokens: what a scheduler hands to a worker, good once, for one allocation. The
 * installation's key signs them, so that who can write into the database alone makes none.
 *
 * Invariant: of an allocation's tokens the newest alone is good, until its first use, until it
 * expires by the database's clock, or until the allocation ends, whichever is first.
 */
import { createHash } from "node:crypto";
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type AllocationId, isId, type TrialId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { Secrets } from "../secrets/secrets.ts";

export interface EnrolmentToken {
  token: string;
  /** What the database keeps of it: `allocation.enrolment_sha256`. */
  sha256: Buffer;
}

/** An allocation whose worker has just proved itself, and the token it goes on with. */
export interface Redeemed {
  allocationId: AllocationId;
  trialId: TrialId;
  purpose: "agent" | "verify";
  allocationToken: string;
}

export interface Enrolments {
  /**
   * A token for an allocation whose row the caller writes, with the token's hash in it.
   *
   * @throws Problem `secrets_sealed` or `unavailable` when it cannot be signed.
   */
  prepare(allocationId: AllocationId): Promise<EnrolmentToken>;
  /**
   * A token for an allocation that is there; the one before it is good for nothing from here on.
   *
   * @throws Problem `conflict` when the allocation has enrolled or ended, `secrets_sealed` or
   * `unavailable` when it cannot be signed.
   */
  issue(allocationId: AllocationId): Promise<string>;
  /** Uses the token up. @throws Problem `unauthenticated` for any that is not good. */
  redeem(token: string): Promise<Redeemed>;
}

export interface EnrolmentsOptions {
  /** Longer than an allocation may wait in a scheduler's line. */
  lifetimeMs?: number;
}

/** A signature for this can never be one for anything else, nor the reverse. */
const PURPOSE = "autocode enrolment 1";
const LIFETIME_MS = 24 * 60 * 60_000;
const NONCE_BYTES = 16;
const KEY_ID_PREFIX = "ed25519:";
const FORM =
  /^et-([0-7][0-9a-hjkmnp-tv-z]{25})\.([0-9a-z]{1,9})\.([\w-]{22})\.([\w-]{43})\.([\w-]{86})$/;

export function createEnrolments(
  {
    db,
    secrets,
    clock,
    random,
  }: {
    db: Pick<Database, "sql">;
    secrets: Pick<Secrets, "sign" | "verify">;
    clock: Clock;
    random: Random;
  },
  { lifetimeMs = LIFETIME_MS }: EnrolmentsOptions = {},
): Enrolments {
  return { prepare, issue, redeem };

  async function prepare(allocationId: AllocationId): Promise<EnrolmentToken> {
    const [time] = await rows<{ now_ms: string }>(
      db.sql,
      sql`select (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms`,
    );
    if (time === undefined) throw new Error("enrolment: the server gave no time");
    const expires = (Number(time.now_ms) + lifetimeMs).toString(36);
    const nonce = Buffer.from(random.bytes(NONCE_BYTES)).toString("base64url");
    const { keyId, signature } = await secrets.sign(messageOf(allocationId, expires, nonce));
    const parts = [
      allocationId.slice("allocation_".length),
      expires,
      nonce,
      keyId.slice(KEY_ID_PREFIX.length),
      Buffer.from(signature, "base64").toString("base64url"),
    ];
    const token = `et-${parts.join(".")}`;
    return { token, sha256: sha256(token) };
  }

  async function issue(allocationId: AllocationId): Promise<string> {
    const prepared = await prepare(allocationId);
    const replaced = await rows(
      db.sql,
      sql`update allocation set enrolment_sha256 = ${prepared.sha256}
        where id = ${allocationId} and enrolled_at is null and ended_at is null
        returning id`,
    );
    if (replaced.length > 0) return prepared.token;
    throw new Problem("conflict", "The allocation has enrolled or ended: place the trial anew");
  }

  async function redeem(token: string): Promise<Redeemed> {
    const { allocationId, expiresMs } = await verified(token);
    const allocationToken = `at-${Buffer.from(random.bytes(32)).toString("base64url")}`;
    // What is compared here are hashes: how long it takes tells nothing of a token.
    const [found] = await rows<{ trial_id: TrialId; purpose: "agent" | "verify" }>(
      db.sql,
      sql`update allocation set enrolled_at = ${rfc3339(clock.now())},
          heartbeat_at = clock_timestamp(), token_sha256 = ${sha256(allocationToken)}
        where id = ${allocationId} and enrolment_sha256 = ${sha256(token)}
          and enrolled_at is null and ended_at is null
          and clock_timestamp() < to_timestamp(${expiresMs}::double precision / 1000)
        returning trial_id, purpose`,
    );
    if (found === undefined)
      throw refused("is unknown, has expired, was replaced or has been used");
    return { allocationId, trialId: found.trial_id, purpose: found.purpose, allocationToken };
  }

  /** What a token says, once its signature holds. */
  async function verified(
    token: string,
  ): Promise<{ allocationId: AllocationId; expiresMs: number }> {
    const [, suffix, expires, nonce, key, signature] = FORM.exec(token) ?? [];
    const allocationId = `allocation_${suffix}`;
    if (expires === undefined || nonce === undefined || signature === undefined) {
      throw refused("is not of the form that this installation makes");
    }
    if (!isId("allocation", allocationId)) throw new Error("enrolment: FORM takes what is no id");
    const isOurs = await secrets.verify(messageOf(allocationId, expires, nonce), {
      keyId: `${KEY_ID_PREFIX}${key}`,
      signature: Buffer.from(signature, "base64url").toString("base64"),
    });
    if (!isOurs) throw refused("was not signed by this installation");
    return { allocationId, expiresMs: Number.parseInt(expires, 36) };
  }
}

function messageOf(allocationId: AllocationId, expires: string, nonce: string): Buffer {
  return Buffer.from(`${PURPOSE}\n${allocationId}\n${expires}\n${nonce}\n`);
}

function refused(what: string): Problem {
  return new Problem("unauthenticated", `The enrolment token ${what}`);
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
