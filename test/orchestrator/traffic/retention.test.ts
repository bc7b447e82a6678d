/**
 * Goal: every class of every project's fields goes when its retention is over, never before, and
 * nothing goes under a legal hold, in each store.
 *
 * Method: flows of a hundred days lie in the store; the clock is moved a day at a time past them,
 * the task runs, and what is left is compared with what the project's file says of its age.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { FlowRecord, Retention } from "../../../orchestrator/contract/flows.ts";
import type { Sql } from "../../../orchestrator/db/database.ts";
import { rfc3339 } from "../../../orchestrator/runtime/clock.ts";
import { createIds, type ProjectId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createPostgresTraffic } from "../../../orchestrator/traffic/postgres.ts";
import {
  beforeOf,
  createTrafficRetention,
  RETENTION_DEFAULTS,
} from "../../../orchestrator/traffic/retention.ts";
import type { Traffic } from "../../../orchestrator/traffic/traffic.ts";
import { openTestDatabase, type TestDatabase } from "../../support/database.ts";
import { elasticsearchSkip } from "../../support/elasticsearch.ts";
import { openElasticsearchTraffic } from "../../support/elasticsearch-traffic.ts";
import { flowRecord, textBody } from "../../support/flow-records.ts";

const DAY_MS = 86_400_000;
const NOW_MS = Date.UTC(2026, 10, 21, 12);
const log = createLog("silent");
const ids = createIds({ now: () => NOW_MS }, seededRandom(12));

testRetention("postgres", false, async (db) => {
  const traffic = createPostgresTraffic(db, { clock: { now: () => NOW_MS }, log });
  return { traffic, settle: async () => {}, [Symbol.asyncDispose]: async () => {} };
});
testRetention("elasticsearch", elasticsearchSkip, () => openElasticsearchTraffic());

test("headers and bodies never stay longer than their meta", () => {
  const days = (retention: Retention, what: "meta" | "headers" | "body") =>
    (NOW_MS - beforeOf(retention, what, NOW_MS)) / DAY_MS;
  assert.equal(days({}, "meta"), RETENTION_DEFAULTS.meta_days);
  assert.equal(days({}, "body"), RETENTION_DEFAULTS.body_days);
  assert.equal(days({ headers_days: 3 }, "headers"), 3);
  assert.equal(days({ meta_days: 5, body_days: 50 }, "body"), 5);
  assert.equal(days({ meta_days: 0 }, "headers"), 0);
});

function testRetention(
  name: string,
  skip: string | false,
  open: (
    db: TestDatabase,
  ) => Promise<{ traffic: Traffic; settle(): Promise<void> } & AsyncDisposable>,
): void {
  test(`${name}: a moved clock takes each class of each project in its time`, {
    skip,
  }, async () => {
    await using db = await openTestDatabase();
    await using opened = await open(db);
    const { traffic, settle } = opened;
    const files: [ProjectId | null, Retention][] = [
      [null, {}],
      [await addProject(db.sql, "usual", {}), {}],
      [...(await withRetention(db.sql, "short", { meta_days: 9, headers_days: 4, body_days: 2 }))],
      [...(await withRetention(db.sql, "none", { body_days: 0 }))],
    ];
    const flows = files.flatMap(([projectId]) =>
      [0, 1, 3, 5, 8, 12, 29, 31, 89, 91].map((days) => flowOf(projectId, NOW_MS - days * DAY_MS)),
    );
    await traffic.append(flows);
    await settle();
    for (const days of [0, 1, 2.5, 60]) {
      const now = NOW_MS + days * DAY_MS;
      const task = createTrafficRetention({ db, traffic, clock: { now: () => now }, log }, PERIOD);
      await task.activate();
      await settle();
      assert.deepEqual(await task.activate(), { meta: 0, headers: 0, body: 0 }, "nothing is left");
      await settle();
      const left = new Map(
        (await Array.fromAsync(traffic.scan({}))).map((each) => [each.id, each]),
      );
      for (const flow of flows) {
        const [, retention = {}] = files.find(([id]) => id === flow.project_id) ?? [];
        const age = (now - Date.parse(flow.started_at)) / DAY_MS;
        const keeps = { ...RETENTION_DEFAULTS, ...retention };
        const found = left.get(flow.id);
        const what = `${flow.project_id}, ${age} days old, ${days} days on`;
        assert.equal(found !== undefined, age <= keeps.meta_days, what);
        if (found === undefined) continue;
        assert.equal(
          found.request?.headers !== null,
          age <= keeps.headers_days,
          `${what}: headers`,
        );
        assert.equal(found.request?.body !== null, age <= keeps.body_days, `${what}: body`);
      }
    }
  });

  test(`${name}: nothing goes under a legal hold, and a day with it stays`, { skip }, async () => {
    await using db = await openTestDatabase();
    await using opened = await open(db);
    const { traffic, settle } = opened;
    const held = await addProject(db.sql, "held", { is_held: true, meta_days: 1, bytes_max: 0 });
    const other = await addProject(db.sql, "other", { meta_days: 1 });
    const flows = [held, other].flatMap((id) =>
      [0, 2, 400].map((days) => flowOf(id, NOW_MS - days * DAY_MS)),
    );
    await traffic.append(flows);
    await settle();
    const now = NOW_MS + 1_000 * DAY_MS;
    const task = createTrafficRetention({ db, traffic, clock: { now: () => now }, log }, PERIOD);
    await task.activate();
    await settle();
    const kept = flows.filter(({ project_id }) => project_id === held).reverse();
    assert.deepEqual(await Array.fromAsync(traffic.scan({})), kept);
    await db.sql.execute(
      sql`update project set config = config #- '{retention,is_held}' where id = ${held}`,
    );
    await task.activate();
    await settle();
    assert.deepEqual(await Array.fromAsync(traffic.scan({})), [], "once it is released, all goes");
  });

  test(`${name}: the newest bytes of a project stay, the oldest go first`, { skip }, async () => {
    await using db = await openTestDatabase();
    await using opened = await open(db);
    const { traffic, settle } = opened;
    // Each has a body of 900 bytes and a header of 3.
    const full = await addProject(db.sql, "full", { bytes_max: 2_709 });
    const free = await addProject(db.sql, "free", {});
    const flows = [full, free].flatMap((id) =>
      [0, 1, 2, 3, 4].map((hours) => flowOf(id, NOW_MS - hours * 3_600_000)),
    );
    await traffic.append(flows);
    await settle();
    const clock = { now: () => NOW_MS };
    await createTrafficRetention({ db, traffic, clock, log }, PERIOD).activate();
    await settle();
    const left = await Array.fromAsync(traffic.scan({ projectId: full }));
    const hasBody = left.map(({ request }) => request?.body !== null);
    assert.deepEqual(hasBody, [false, false, true, true, true]);
    assert.deepEqual(
      left.map(({ request }) => request?.headers !== null),
      hasBody,
    );
    const others = await Array.fromAsync(traffic.scan({ projectId: free }));
    assert.ok(others.every(({ request }) => request?.body !== null));
  });

  test(`${name}: a store that fails for one project is told, and the others go on`, {
    skip,
  }, async () => {
    await using db = await openTestDatabase();
    await using opened = await open(db);
    const { traffic, settle } = opened;
    const [first, second] = [
      await addProject(db.sql, "first", { meta_days: 1, bytes_max: 1 }),
      await addProject(db.sql, "second", { meta_days: 1 }),
    ];
    await traffic.append([flowOf(first, NOW_MS - 5 * DAY_MS), flowOf(second, NOW_MS - 5 * DAY_MS)]);
    await settle();
    const boundary = async () => {
      throw new Error("the store failed");
    };
    const failing = { ...traffic, boundary };
    const clock = { now: () => NOW_MS };
    const task = createTrafficRetention({ db, traffic: failing, clock, log }, PERIOD);
    await assert.rejects(task.activate(), /the store failed/);
    await settle();
    const left = await Array.fromAsync(traffic.scan({}));
    assert.deepEqual(
      left.map(({ project_id }) => project_id),
      [first],
    );
  });
}

const PERIOD = { periodMs: 1_000 };

async function withRetention(db: Sql, name: string, retention: Retention) {
  return [await addProject(db, name, retention), retention] as const;
}

async function addProject(db: Sql, name: string, retention: Retention): Promise<ProjectId> {
  const id = ids.next("project");
  const config = JSON.stringify({ project: name, currency: "CAD", retention });
  await db.execute(sql`
    insert into project (id, name, currency, time_zone, config, created_at, updated_at)
    values (${id}, ${name}, 'CAD', 'UTC', ${config}::jsonb, ${rfc3339(NOW_MS)}, ${rfc3339(NOW_MS)})`);
  return id;
}

function flowOf(projectId: ProjectId | null, atMs: number): FlowRecord {
  return flowRecord(ids, atMs, {
    project_id: projectId,
    request: { headers: [["a", "bc"]], body: textBody("x".repeat(900), null) },
    response: null,
  });
}
