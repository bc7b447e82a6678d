/**
 * What must not be written into a record: every secret of the installation by its value, and by
 * their hashes the tokens that it issued and does not know any more.
 *
 * Invariant: it never forgets while it runs. A secret that was rotated may still be on its way; and
 * while the secrets are sealed, what was known stays known.
 */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { monotonicMs } from "../runtime/clock.ts";
import type { Secrets } from "../secrets/secrets.ts";
import type { KnownSecrets } from "./secret-forms.ts";

export interface KeptSecrets {
  read(): KnownSecrets;
  /** Each process has its own memory: no duty. */
  readonly task: BackgroundTask;
}

const PERIOD_MS = 2_000;
/** A proxy tells the sink itself what it put into a request. */
const SECRETS_PERIOD_MS = 30_000;
/** Shorter ones would redact words. */
const VALUE_LENGTH_MIN = 8;
/** Larger ones are no tokens: certificates, keys; their lines are looked for. */
const LINE_LENGTH_MIN = 40;
const HASHES_MAX = 200_000;

/** @param own values that the process knows by itself: the environment's keys. */
export function createKnownSecrets(
  db: Pick<Database, "sql">,
  secrets: Pick<Secrets, "get" | "list"> | null,
  own: () => readonly string[],
): KeptSecrets {
  const values = new Map<string, string>();
  const hashes = new Set<string>();
  let known: KnownSecrets = { values: [], sha256: hashes };
  let from = "";
  let last = "";
  let secretsReadMs = Number.NEGATIVE_INFINITY;
  return { read: () => known, task: { name: "known_secrets", periodMs: PERIOD_MS, activate } };

  async function activate(): Promise<{ values: number; hashes: number }> {
    for (const value of own()) add(value, "provider_key");
    await Promise.all([readSecrets(), readHashes()]);
    known = {
      values: [...values].map(([value, kind]) => ({ value, kind })),
      sha256: hashes,
    };
    return { values: values.size, hashes: hashes.size };
  }

  function add(value: string, kind: string): void {
    const lines = value.includes("\n") ? value.split("\n") : [value];
    const min = lines.length > 1 ? LINE_LENGTH_MIN : VALUE_LENGTH_MIN;
    for (const line of lines) if (line.trim().length >= min) values.set(line.trim(), kind);
  }

  async function readSecrets(): Promise<void> {
    const nowMs = monotonicMs();
    if (secrets === null || nowMs - secretsReadMs < SECRETS_PERIOD_MS) return;
    try {
      for (const path of await secrets.list()) {
        const secret = await secrets.get(path);
        if (secret !== null) add(secret.value, "secret");
      }
      secretsReadMs = nowMs;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "secrets_sealed") throw error;
    }
  }

  /** Ids sort by time; those of the last round are asked for again, since others make them too. */
  async function readHashes(): Promise<void> {
    const found = await rows<{ id: string; hash: string }>(
      db.sql,
      sql`select id, encode(token_sha256, 'hex') as hash from virtual_key
        where id > ${from} and expires_at > now() order by id limit ${HASHES_MAX}`,
    );
    for (const { hash } of found) hashes.add(hash);
    from = last;
    last = found.at(-1)?.id ?? last;
  }
}
