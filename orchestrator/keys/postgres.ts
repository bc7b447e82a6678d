/** Virtual keys in Postgres. */
import { hash } from "node:crypto";
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { Ids, KeyId, TrialId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { Grant, KeyLookup, Keys } from "./keys.ts";

const SECRET_BYTES = 32;
/** How long another process may go on serving a key that was revoked here. */
const CACHED_MS = 1_000;
const CACHED_MAX = 10_000;

interface Cached {
  keyId: KeyId;
  grant: Grant;
  expiresAtMs: EpochMs;
  readAtMs: EpochMs;
}

export function createKeys(
  db: Pick<Database, "sql">,
  clock: Clock,
  ids: Ids,
  random: Random,
): Keys {
  /** Granted look-ups by the hash of their secret. */
  const cached = new Map<string, Cached>();
  /** Grows with each revocation: a look-up that began before one is not kept. */
  let revocations = 0;
  return { issue, find, revokeAll };

  async function issue(
    grant: Grant,
    expiresAtMs: EpochMs,
    fence?: number,
  ): Promise<{ keyId: KeyId; secret: string }> {
    const keyId = ids.next("key");
    const secret = `ak-${Buffer.from(random.bytes(SECRET_BYTES)).toString("base64url")}`;
    await db.sql.transaction(async (tx) => {
      // Two that issue at once: the second waits here, and revokes the first one's key.
      const [trial] = await rows<{ fence: number }>(
        tx,
        sql`select fence from trial where id = ${grant.trialId} for no key update`,
      );
      if (fence !== undefined && trial?.fence !== fence) {
        throw new Problem("fenced", "Another allocation has taken this trial over");
      }
      await tx.execute(revocation(grant.trialId));
      await tx.execute(sql`
        insert into virtual_key (id, trial_id, token_sha256, "grant", expires_at, created_at)
        values (${keyId}, ${grant.trialId}, ${hash("sha256", secret, "buffer")},
          ${JSON.stringify(grant)}::jsonb,
          ${rfc3339(expiresAtMs)}, ${rfc3339(clock.now())})`);
    });
    forget(grant.trialId);
    return { keyId, secret };
  }

  async function find(secret: string): Promise<KeyLookup> {
    if (!/^ak-[A-Za-z0-9_-]{43}$/.test(secret)) return { outcome: "unknown" };
    const sha256 = hash("sha256", secret, "hex");
    const now = clock.now();
    const kept = cached.get(sha256);
    // A clock that was set back must not keep a key from being looked up again.
    if (kept !== undefined && now >= kept.readAtMs && now < kept.readAtMs + CACHED_MS) {
      if (now >= kept.expiresAtMs) return { outcome: "expired" };
      return { outcome: "granted", keyId: kept.keyId, grant: kept.grant };
    }

    const revocationsBefore = revocations;
    const [row] = await rows<{
      id: KeyId;
      grant: Grant;
      expires_at: string;
      revoked_at: string | null;
    }>(
      db.sql,
      sql`
        select id, "grant", expires_at, revoked_at from virtual_key
        where token_sha256 = ${Buffer.from(sha256, "hex")}`,
    );
    if (row === undefined) return { outcome: "unknown" };
    if (row.revoked_at !== null) return { outcome: "revoked" };
    const expiresAtMs = readTime(row.expires_at);
    if (now >= expiresAtMs) return { outcome: "expired" };
    if (revocations === revocationsBefore) {
      if (cached.size >= CACHED_MAX) cached.clear();
      const { id: keyId, grant } = row;
      cached.set(sha256, { keyId, grant, expiresAtMs, readAtMs: now });
    }
    return { outcome: "granted", keyId: row.id, grant: row.grant };
  }

  async function revokeAll(trialId: TrialId, fence?: number): Promise<void> {
    await db.sql.execute(revocation(trialId, fence));
    forget(trialId);
  }

  /** A step that was overtaken must not take away the key of the allocation that runs now. */
  function revocation(trialId: TrialId, fence?: number) {
    const isCurrent =
      fence === undefined
        ? sql`true`
        : sql`exists (select from trial where id = ${trialId} and fence = ${fence})`;
    return sql`
      update virtual_key set revoked_at = ${rfc3339(clock.now())}
      where trial_id = ${trialId} and revoked_at is null and ${isCurrent}`;
  }

  function forget(trialId: TrialId): void {
    revocations++;
    for (const [sha256, { grant }] of cached) {
      if (grant.trialId === trialId) cached.delete(sha256);
    }
  }
}
