/**
 * Goal: whatever the installation keeps secret, or issued as a token, is known to the redaction
 * within a round, and stays known after it was rotated.
 *
 * Method: a sealed file and a real database.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { createKnownSecrets } from "../../../orchestrator/traffic/known-secrets.ts";
import { openTestDatabase } from "../../support/database.ts";

test("secrets by their values, the environment's own, and a key by its lines", async () => {
  await using db = await openTestDatabase();
  const kept = new Map([
    ["forge/token", "a-token-of-the-forge"],
    ["egress/authority", `-----BEGIN\n${"k".repeat(64)}\nshort\n`],
    ["word", "short"],
  ]);
  const secrets = {
    list: async () => [...kept.keys()],
    get: async (path: string) => ({ value: kept.get(path) ?? "", version: 1 }),
  };
  const known = createKnownSecrets(db, secrets, () => ["environment-key"]);
  assert.deepEqual(known.read().values, []);
  await known.task.activate();
  assert.deepEqual(known.read().values, [
    { value: "environment-key", kind: "provider_key" },
    { value: "a-token-of-the-forge", kind: "secret" },
    { value: "k".repeat(64), kind: "secret" },
  ]);
});

test("virtual keys are known by their hashes, each from the round after it was issued", async () => {
  await using db = await openTestDatabase();
  const known = createKnownSecrets(db, null, () => []);
  const issued: string[] = [];
  for (const name of ["one", "two", "three"]) {
    const id = `key_01j9zq2e5m000000000000000${issued.length}`;
    const hash = createHash("sha256").update(name).digest();
    issued.push(hash.toString("hex"));
    await insertKey(id, hash);
    await known.task.activate();
    assert.deepEqual([...known.read().sha256], issued);
  }

  /** Without its trial: what a key is for is of no matter here. */
  async function insertKey(id: string, hash: Buffer): Promise<void> {
    await db.sql.transaction(async (transaction) => {
      await transaction.execute(sql`set local session_replication_role = replica`);
      await transaction.execute(sql`
        insert into virtual_key (id, trial_id, token_sha256, "grant", expires_at, created_at)
        values (${id}, 'trial_01j9zq2e5m0000000000000000', ${hash}, '{}', now() + interval '1 h',
          now())`);
    });
  }
});
