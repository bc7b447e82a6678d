/**
 * Access over table `api_token`. Tokens are 256 random bits; only their SHA-256 is stored, and a
 * token is found by it, so no comparison of secrets takes place.
 */
import { createHash } from "node:crypto";
import { sql } from "drizzle-orm";
import type { ApiToken, ApiTokenFacts, NewApiToken } from "../contract/tokens.ts";
import type { Database, Sql } from "../db/database.ts";
import { isUniqueViolation, readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { Ids } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { Access, Caller, Role } from "./access.ts";

type Purpose = "cli" | "login_link" | "session" | "named";

const DAY_MS = 86_400_000;
const SESSION_MS = 7 * DAY_MS;
/** Longer than an orchestrator runs without a restart, which issues a new one. */
const CLI_TOKEN_MS = 365 * DAY_MS;
const TOKEN_LENGTH_MAX = 200;
/** When a token was last used is written down so often at most: most requests write nothing. */
const USE_NOTED_MS = 60_000;

type Found = {
  id: string;
  role: Role;
  name: string | null;
  used_at: string | null;
  revoked_at: string | null;
  expires_at: string | null;
};

type Listed = Omit<ApiTokenFacts, "last_used_at" | "is_expired"> & { used_at: string | null };

export function createAccess(
  database: Database,
  clock: Clock,
  { ids, random }: { ids: Ids; random: Random },
): Access {
  return {
    ...{ authenticate, issueCliToken, issueLoginLink, redeemLoginLink, endSession },
    ...{ createToken, renewToken, listTokens, revokeToken },
  };

  async function authenticate(token: string): Promise<Caller | null> {
    if (token.length > TOKEN_LENGTH_MAX) return null;
    const [found] = await rows<Found>(
      database.sql,
      sql`select id, role, name, used_at, revoked_at, expires_at from api_token
        where token_sha256 = ${sha256(token)} and purpose in ('cli', 'session', 'named')`,
    );
    if (found === undefined) return null;
    const { role, name, revoked_at: revokedAt, expires_at: expiresAt } = found;
    const isExpired = expiresAt !== null && readTime(expiresAt) <= clock.now();
    if (name === null) return revokedAt !== null || isExpired ? null : { role, name };
    if (revokedAt !== null) throw refusal(name, "revoked", revokedAt);
    if (expiresAt !== null && isExpired) throw refusal(name, "expired", expiresAt);
    await noteUse(found);
    return { role, name };
  }

  async function noteUse({ id, used_at: usedAt }: Found): Promise<void> {
    const sinceMs = clock.now() - USE_NOTED_MS;
    if (usedAt !== null && readTime(usedAt) > sinceMs) return;
    await rows(
      database.sql,
      sql`update api_token set used_at = ${now()}
        where id = ${id} and (used_at is null or used_at <= ${rfc3339(sinceMs)})`,
    );
  }

  async function issueCliToken(kept: readonly string[] = []): Promise<string> {
    const others = kept.map(sha256);
    return database.sql.transaction(async (tx) => {
      await rows(
        tx,
        sql`update api_token set revoked_at = ${now()}
          where purpose = 'cli' and revoked_at is null
            and token_sha256 <> all(${sql.param(others)}::bytea[])`,
      );
      return issue(tx, "cli", CLI_TOKEN_MS);
    });
  }

  async function issueLoginLink(validMs: number): Promise<string> {
    return issue(database.sql, "login_link", validMs);
  }

  async function redeemLoginLink(
    secret: string,
  ): Promise<{ sessionToken: string; expiresAtMs: number } | null> {
    if (secret.length > TOKEN_LENGTH_MAX) return null;
    return database.sql.transaction(async (tx) => {
      const redeemed = await rows(
        tx,
        sql`update api_token set used_at = ${now()}
          where token_sha256 = ${sha256(secret)} and purpose = 'login_link'
            and used_at is null and revoked_at is null and expires_at > ${now()}
          returning id`,
      );
      if (redeemed.length === 0) return null;
      const expiresAtMs = clock.now() + SESSION_MS;
      return { sessionToken: await issue(tx, "session", SESSION_MS), expiresAtMs };
    });
  }

  async function endSession(token: string): Promise<void> {
    await rows(
      database.sql,
      sql`update api_token set revoked_at = ${now()}
        where token_sha256 = ${sha256(token)} and purpose = 'session' and revoked_at is null`,
    );
  }

  async function createToken({ name, role, ttl_ms: ttlMs }: NewApiToken): Promise<ApiToken> {
    const id = ids.next("token");
    const token = draw("named");
    const createdAt = now();
    const expiresAt = ttlMs === null ? null : rfc3339(clock.now() + ttlMs);
    try {
      await rows(
        database.sql,
        sql`insert into api_token (id, token_sha256, role, purpose, name, expires_at, created_at)
          values (${id}, ${sha256(token)}, ${role}, 'named', ${name}, ${expiresAt}, ${createdAt})`,
      );
    } catch (error) {
      if (!isUniqueViolation(error, "api_token_one_by_name")) throw error;
      const detail = `name: there is a token "${name}": revoke it first, or take another name`;
      throw new Problem("conflict", detail);
    }
    return { id, name, role, created_at: createdAt, expires_at: expiresAt, token };
  }

  async function renewToken(id: string): Promise<string> {
    const token = draw("named");
    const renewed = await rows(
      database.sql,
      sql`update api_token set token_sha256 = ${sha256(token)}
        where id = ${id} and purpose = 'named' and used_at is null and revoked_at is null
        returning id`,
    );
    if (renewed.length === 1) return token;
    throw new Problem(
      "conflict",
      "The token that this Idempotency-Key made was used or revoked since, and is told once: " +
        "revoke it and make another with a new key",
    );
  }

  async function listTokens(): Promise<ApiTokenFacts[]> {
    const found = await rows<Listed>(
      database.sql,
      sql`select id, name, role, created_at, used_at, expires_at from api_token
        where purpose = 'named' and revoked_at is null order by name collate "C"`,
    );
    return found.map(({ used_at: usedAt, expires_at: expiresAt, ...row }) => ({
      ...row,
      created_at: rfc3339(readTime(row.created_at)),
      expires_at: expiresAt === null ? null : rfc3339(readTime(expiresAt)),
      last_used_at: usedAt === null ? null : rfc3339(readTime(usedAt)),
      is_expired: expiresAt !== null && readTime(expiresAt) <= clock.now(),
    }));
  }

  async function revokeToken(name: string): Promise<boolean> {
    const revoked = await rows(
      database.sql,
      sql`update api_token set revoked_at = ${now()}
        where name = ${name} and revoked_at is null returning id`,
    );
    if (revoked.length > 0) return true;
    const before = await rows(
      database.sql,
      sql`select id from api_token where name = ${name} limit 1`,
    );
    if (before.length > 0) return false;
    throw new Problem("not_found", `There is no token "${name}": \`autocode token ls\` lists them`);
  }

  async function issue(
    on: Pick<Sql, "execute">,
    purpose: Exclude<Purpose, "named">,
    validMs: number,
  ): Promise<string> {
    const token = draw(purpose);
    await rows(
      on,
      sql`insert into api_token (id, token_sha256, role, purpose, expires_at, created_at)
        values (${ids.next("token")}, ${sha256(token)}, 'admin', ${purpose},
          ${rfc3339(clock.now() + validMs)}, ${now()})`,
    );
    return token;
  }

  function draw(purpose: Purpose): string {
    return `autocode_${purpose}_${Buffer.from(random.bytes(32)).toString("base64url")}`;
  }

  function now(): string {
    return rfc3339(clock.now());
  }
}

function refusal(name: string, reason: "revoked" | "expired", at: string): Problem {
  return new Problem(
    "unauthenticated",
    `The token "${name}" ${reason === "revoked" ? "was revoked" : "expired"} at ` +
      `${rfc3339(readTime(at))}: ask an admin for another (\`autocode token create\`)`,
    { facts: { reason } },
  );
}

function sha256(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
