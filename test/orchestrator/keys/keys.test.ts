/** Virtual keys: found by their hash alone, one a trial, dead once expired or revoked. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { Grant } from "../../../orchestrator/keys/keys.ts";
import { createKeys } from "../../../orchestrator/keys/postgres.ts";
import { rfc3339 } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openTestDatabase } from "../../support/database.ts";
import { createTestClock } from "../../support/ledger.ts";

async function openFixture() {
  const database = await openTestDatabase();
  const clock = createTestClock();
  const ids = createIds(clock, systemRandom);
  const openKeys = () => createKeys(database, clock, ids, systemRandom);
  return {
    database,
    clock,
    openKeys,
    keys: openKeys(),
    grant: await insertTrial(),
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };

  /** A trial with the least a row needs, and a grant for it. */
  async function insertTrial(): Promise<Grant> {
    const [projectId, taskId, trialId] = [ids.next("project"), ids.next("task"), ids.next("trial")];
    const at = rfc3339(clock.now());
    await database.sql.execute(sql`
      insert into project (id, name, currency, time_zone, config, created_at, updated_at)
      values (${projectId}, 'p', 'CAD', 'UTC', '{}', ${at}, ${at})`);
    await database.sql.execute(sql`
      insert into task (id, project_id, name, content_sha256, instruction, base_commit, test,
        has_hidden_tests, agent_wall_ms, verify_wall_ms, source, created_at)
      values (${taskId}, ${projectId}, 't', ${"a".repeat(64)}, 'do', ${"b".repeat(40)}, '{}',
        false, 1, 1, 's', ${at})`);
    await database.sql.execute(sql`
      insert into trial (id, project_id, task_id, agent, pair, is_scripted, attempt, seed,
        limit_nanos, wall_ms, state, created_at, updated_at)
      values (${trialId}, ${projectId}, ${taskId}, 'a', 'p', true, 1, 0, 1, 1, 'queued', ${at},
        ${at})`);
    return {
      trialId,
      projectId,
      currency: "CAD",
      enclosing: [ids.next("account")],
      budget: ids.next("account"),
      spend: ids.next("account"),
      models: [],
      budgetStopStatus: 403,
    };
  }
}

test("a key grants what it was issued for, and its secret is nowhere", async () => {
  await using fixture = await openFixture();
  const { database, clock, keys, grant } = fixture;
  const { keyId, secret } = await keys.issue(grant, clock.ms + 10_000);
  assert.match(secret, /^ak-[A-Za-z0-9_-]{43}$/);
  for (const found of [await keys.find(secret), await keys.find(secret)]) {
    assert.deepEqual(found, { outcome: "granted", keyId, grant });
  }
  const stored = await rows(database.sql, sql`select virtual_key::text as row from virtual_key`);
  assert.equal(stored.length, 1);
  assert.ok(!JSON.stringify(stored).includes(secret.slice(3)));

  for (const unknown of ["", "ak-", secret.slice(0, -1), `${secret}a`, `ak-${"a".repeat(43)}`]) {
    assert.deepEqual(await keys.find(unknown), { outcome: "unknown" });
  }
  clock.ms += 10_000;
  assert.deepEqual(await keys.find(secret), { outcome: "expired" });
});

test("a trial has one key at a time, however many are issued at once", async () => {
  await using fixture = await openFixture();
  const { clock, keys, grant } = fixture;
  const issued = await Promise.all(
    Array.from({ length: 6 }, () => keys.issue(grant, clock.ms + 10_000)),
  );
  const found = await Promise.all(issued.map(({ secret }) => keys.find(secret)));
  assert.equal(found.filter(({ outcome }) => outcome === "granted").length, 1);
  assert.equal(found.filter(({ outcome }) => outcome === "revoked").length, 5);
});

test("a revoked key is dead here at once, and elsewhere within a second", async () => {
  await using fixture = await openFixture();
  const { clock, keys, grant } = fixture;
  const elsewhere = fixture.openKeys();
  const { secret } = await keys.issue(grant, clock.ms + 10_000);
  assert.equal((await keys.find(secret)).outcome, "granted");
  assert.equal((await elsewhere.find(secret)).outcome, "granted");

  await keys.revokeAll(grant.trialId);
  await keys.revokeAll(grant.trialId);
  assert.deepEqual(await keys.find(secret), { outcome: "revoked" });
  clock.ms += 1_000;
  assert.deepEqual(await elsewhere.find(secret), { outcome: "revoked" });
});

test("a key that is revoked while it is looked up is not remembered", async () => {
  await using fixture = await openFixture();
  const { clock, keys, grant } = fixture;
  const { secret } = await keys.issue(grant, clock.ms + 10_000);
  await Promise.all([keys.find(secret), keys.revokeAll(grant.trialId), keys.find(secret)]);
  assert.deepEqual(await keys.find(secret), { outcome: "revoked" });
});

test("whoever speaks for an older allocation neither revokes the key nor makes one", async () => {
  await using fixture = await openFixture();
  const { clock, keys, grant, database } = fixture;
  const trialIs = (fence: number) =>
    database.sql.execute(sql`update trial set fence = ${fence} where id = ${grant.trialId}`);
  await trialIs(2);
  const { secret } = await keys.issue(grant, clock.ms + 10_000, 2);
  await keys.revokeAll(grant.trialId, 1);
  await assert.rejects(keys.issue(grant, clock.ms + 10_000, 1), /taken this trial over/);
  assert.equal((await keys.find(secret)).outcome, "granted");
  await keys.revokeAll(grant.trialId, 2);
  assert.deepEqual(await keys.find(secret), { outcome: "revoked" });
});
