/**
 * Access over table `api_token`. Tokens are 256 random bits; only their SHA-256 is stored, and a
 * token is found by it, so no comparison of secrets takes place.
 */
import { createHash } from "node:crypto";
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { Ids } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import type { Access, Role } from "./access.ts";

type Purpose = "cli" | "login_link" | "session";

const DAY_MS = 86_400_000;
const SESSION_MS = 7 * DAY_MS;
/** Longer than an orchestrator runs without a restart, which issues a new one. */
const CLI_TOKEN_MS = 365 * DAY_MS;
const TOKEN_LENGTH_MAX = 200;

export function createAccess(
  database: Database,
  clock: Clock,
  { ids, random }: { ids: Ids; random: Random },
): Access {
  return { authenticate, issueCliToken, issueLoginLink, redeemLoginLink, revoke };

  async function authenticate(token: string): Promise<Role | null> {
    if (token.length > TOKEN_LENGTH_MAX) return null;
    const [found] = await rows<{ role: Role }>(
      database.sql,
      sql`select role from api_token
        where token_sha256 = ${sha256(token)} and purpose in ('cli', 'session')
          and revoked_at is null and expires_at > ${now()}`,
    );
    return found?.role ?? null;
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

  async function revoke(token: string): Promise<void> {
    await rows(
      database.sql,
      sql`update api_token set revoked_at = ${now()}
        where token_sha256 = ${sha256(token)} and revoked_at is null`,
    );
  }

  async function issue(
    on: Pick<Sql, "execute">,
    purpose: Purpose,
    validMs: number,
  ): Promise<string> {
    const token = `autocode_${purpose}_${Buffer.from(random.bytes(32)).toString("base64url")}`;
    await rows(
      on,
      sql`insert into api_token (id, token_sha256, role, purpose, expires_at, created_at)
        values (${ids.next("token")}, ${sha256(token)}, 'admin', ${purpose},
          ${rfc3339(clock.now() + validMs)}, ${now()})`,
    );
    return token;
  }

  function now(): string {
    return rfc3339(clock.now());
  }
}

function sha256(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
