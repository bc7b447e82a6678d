/** The register: who lives by the database's clock, what each leads, what becomes of the dead. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { Database } from "../../../orchestrator/db/database.ts";
import { openDuties } from "../../../orchestrator/duties/postgres.ts";
import { createRegister } from "../../../orchestrator/duties/register.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openTestDatabase } from "../../support/database.ts";
import { eventually } from "../../support/eventually.ts";

const log = createLog("silent");
const ids = createIds(systemClock, systemRandom);

test("two know each other, and the one that says goodbye is gone", async () => {
  await using db = await openTestDatabase();
  const [one, two] = [open(db), open(db)];
  await one.register.enter("http://one");
  await two.register.enter("http://two");
  assert.deepEqual(two.register.urls(), ["http://two", "http://one"]);
  await eventually(
    () => one.register.urls(),
    (urls) => urls.length === 2,
  );
  await using duties = await openDuties(db, log, {
    holder: one.id,
    leaseMs: 60_000,
    renewMs: 20_000,
  });
  await duties.lead("seal");
  const list = await two.register.list();
  assert.deepEqual(
    list.map(({ url, is_alive, is_this, duties: led }) => ({ url, is_alive, is_this, led })),
    [
      { url: "http://one", is_alive: true, is_this: false, led: ["seal"] },
      { url: "http://two", is_alive: true, is_this: true, led: [] },
    ],
  );
  await one.register[Symbol.asyncDispose]();
  assert.deepEqual(
    (await two.register.list()).map(({ url, duties: led }) => ({ url, led })),
    [{ url: "http://two", led: [] }],
  );
  await two.register[Symbol.asyncDispose]();
});

test("a silent one is listed as such, and no worker is sent to it", async () => {
  await using db = await openTestDatabase();
  const [one, two] = [open(db), open(db)];
  await one.register.enter("http://one");
  await two.register.enter("http://two");
  await one.register[Symbol.asyncDispose]();
  await db.sql.execute(sql`
    insert into orchestrator (id, host, url, version, started_at, heartbeat_at)
    values (${ids.next("process")}, 'h', 'http://dead', '1', now(), now() - interval '1 hour'),
      (${ids.next("process")}, 'h', 'http://long-dead', '1', now(), now() - interval '2 days')`);
  await eventually(
    async () => (await two.register.list()).map(({ url }) => url).toSorted(),
    (urls) => urls.join() === "http://dead,http://two",
  );
  const dead = (await two.register.list()).find(({ url }) => url === "http://dead");
  assert.equal(dead?.is_alive, false);
  await eventually(
    () => two.register.urls(),
    (urls) => urls.join() === "http://two",
  );
  await two.register[Symbol.asyncDispose]();
});

function open(db: Database) {
  const id = ids.next("process");
  const times = { heartbeatMs: 50, silentMs: 2_000 };
  return { id, register: createRegister(db, log, { id, host: "h", version: "1", ...times }) };
}
