/**
 * Goal: a paid call that no entry of the ledger is for raises an alarm within seconds, and once; an
 * entry without a record is told too; both stay until they are answered, or their half comes.
 *
 * Method: real calls through the real gateway and ledger; records as its door would write them.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import type { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { rfc3339, systemClock } from "../../../orchestrator/runtime/clock.ts";
import type { CallId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { createTrafficSources } from "../../../orchestrator/traffic/sources-postgres.ts";
import { watchStored } from "../../../orchestrator/traffic/stored.ts";
import { createMatcher, type MatcherOptions } from "../../../orchestrator/traffic/unmatched.ts";
import { createEgressEvents } from "../../../orchestrator/trials/egress-events.ts";
import { eventually } from "../../support/eventually.ts";
import { type FlowChange, flowRecord } from "../../support/flow-records.ts";
import { openTestGateway } from "../../support/gateway.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const GRACE_MS = 60_000;

type CallRow = { id: CallId; transfer_id: string; cost_nanos: string };

async function open() {
  const gateway = await openTestGateway();
  const { database, ids, grant } = gateway;
  const clock = { ms: systemClock.now(), now: () => clock.ms };
  const { traffic, onStored } = watchStored(createMemoryTraffic());
  const events = createEgressEvents(database, clock);
  const faults = { tell: false };
  const tell: typeof events.tell = async (...told) => {
    await events.tell(...told);
    if (faults.tell) throw new Error("the connection broke");
  };
  const log = createLog("silent");
  const matcher = createMatcher(
    { db: database, traffic, providers: () => ["http://10.0.0.7:8000"], tell, clock, log },
    { graceMs: GRACE_MS },
  );
  onStored(matcher.onStored);
  const sources = createTrafficSources(database, clock);
  const project = { project_id: grant.projectId, trial_id: grant.trialId };
  return {
    ...{ gateway, matcher, clock, faults, store, call, recordOf, told, deliver, register },
    [Symbol.asyncDispose]: () => gateway[Symbol.asyncDispose](),
  };

  async function store(change: FlowChange): Promise<FlowRecord> {
    const flow = flowRecord(ids, clock.ms, { ...project, ...change });
    await traffic.append([flow]);
    return flow;
  }

  /** A gateway that records from `startedAtMs` on. */
  async function register(startedAtMs: number): Promise<void> {
    const id = ids.next("process");
    await sources.register({ id, door: "gateway", engine: "gateway", host: "h", startedAtMs });
  }

  /** A matcher of its own, to which `count` calls around the gateway are told. */
  function deliver(count: number, options: Partial<MatcherOptions>) {
    const deps = { db: database, traffic, providers: () => [], tell, clock, log };
    const other = createMatcher(deps, { graceMs: GRACE_MS, ...options });
    for (let index = 0; index < count; index += 1) {
      other.onStored([flowRecord(ids, clock.ms, { ...project, ...OPENAI })]);
    }
    return other;
  }

  async function call(): Promise<CallRow> {
    assert.equal((await gateway.chat()).status, 200);
    const look = () =>
      rows<CallRow>(database.sql, sql`select id, transfer_id, cost_nanos from call`);
    // Its row is written behind its answer.
    const [made] = await eventually(look, ({ length }) => length === 1);
    assert.ok(made);
    return made;
  }

  function recordOf({ id, transfer_id, cost_nanos: amount_nanos }: CallRow): FlowChange {
    return {
      ...{ door: "gateway", engine: "gateway", call_id: id, transfer_id },
      decision: { reason: "gateway" },
      cost: { amount_nanos, currency: "CAD" },
    };
  }

  async function told(): Promise<unknown[]> {
    const found = await rows<{ data: unknown }>(
      database.sql,
      sql`select data from event where type = 'traffic.unmatched' order by seq`,
    );
    return found.map(({ data }) => data);
  }
}

const OPENAI: FlowChange = {
  request: { method: "POST", path: "/v1/responses", query: null },
  server: {
    ...{ host: "api.openai.com", port: 443, address: "203.0.113.7" },
    ...{ server_name: "api.openai.com", tls_version: "TLSv1.3", http_version: "HTTP/2" },
    certificate_sha256: null,
  },
};

test("a call around the gateway: a row, an event, a metric and a finding, until it is answered", async () => {
  await using t = await open();
  const flow = await t.store(OPENAI);
  await t.store({});
  assert.deepEqual(await t.matcher.task.activate(), { looked_at: 2, unmatched: 1 });
  const [alarm, ...others] = await t.matcher.list({ isAnsweredToo: false });
  assert.deepEqual(others, []);
  const detail =
    "POST /v1/responses of api.openai.com, around the gateway: nothing was reserved for it";
  assert.deepEqual(
    [alarm?.id, alarm?.kind, alarm?.trial_id, alarm?.host, alarm?.detail],
    [flow.id, "unpaid_flow", flow.trial_id, "api.openai.com", detail],
  );
  assert.deepEqual(await t.told(), [{ flow_id: flow.id, host: "api.openai.com", detail }]);
  assert.match(await t.matcher.metrics(), /_open\{kind="unpaid_flow"\} 1\n/);
  assert.equal((await t.matcher.describe()).status, "warn");

  // The sweep finds the same, and tells it no second time.
  t.clock.ms += GRACE_MS + 1;
  assert.equal(((await t.matcher.sweep.activate()) as { unmatched: number }).unmatched, 0);
  assert.equal((await t.told()).length, 1);

  const answered = await t.matcher.answer(flow.id, "my own key, by hand");
  assert.equal(answered.answer, "my own key, by hand");
  assert.deepEqual(await t.matcher.list({ isAnsweredToo: false }), []);
  assert.equal((await t.matcher.list({ isAnsweredToo: true })).length, 1);
  assert.match(await t.matcher.metrics(), /_open\{kind="unpaid_flow"\} 0\n/);
  assert.equal((await t.matcher.describe()).status, "ok");
  await assert.rejects(t.matcher.answer(flow.id, "again"), isProblem("conflict"));
  await assert.rejects(t.matcher.answer("flow_x", "what"), isProblem("not_found"));
});

test("calls at the gateway, straight or through the proxy, are matched to their transfers", async () => {
  await using t = await open();
  const call = await t.call();
  await t.store(t.recordOf(call));
  await t.store({
    decision: { reason: "gateway" },
    request: { method: "POST", path: "/v1/chat/completions" },
    response: { headers: [["x-request-id", call.id]] },
  });
  assert.deepEqual(await t.matcher.task.activate(), { looked_at: 2, unmatched: 0 });
  t.clock.ms += GRACE_MS + 1;
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 2, unmatched: 0, unrecorded: 0 });
});

test("what may still follow is waited for, and told when it did not come", async () => {
  await using t = await open();
  const flow = await t.store({
    ...t.recordOf({
      id: t.gateway.ids.next("call"),
      transfer_id: "transfer_none",
      cost_nanos: "5",
    }),
  });
  assert.deepEqual(await t.matcher.task.activate(), { looked_at: 0, unmatched: 0 });
  t.clock.ms += GRACE_MS;
  assert.deepEqual(await t.matcher.task.activate(), { looked_at: 1, unmatched: 1 });
  assert.deepEqual(
    (await t.matcher.list({ isAnsweredToo: false })).map(({ id }) => id),
    [flow.id],
  );
});

test("a settled call without a record is told after the grace, and settled when it comes", async () => {
  await using t = await open();
  await t.register(t.clock.ms);
  const call = await t.call();
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 0 });
  t.clock.ms += GRACE_MS + 60_000;
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 1 });
  const [alarm] = await t.matcher.list({ isAnsweredToo: false });
  assert.deepEqual([alarm?.id, alarm?.kind], [call.id, "unrecorded_call"]);
  await t.store(t.recordOf(call));
  await t.matcher.sweep.activate();
  const [settled] = await t.matcher.list({ isAnsweredToo: true });
  assert.equal(settled?.answer, "its record came after all");
});

test("a call of before there were records is no alarm, whoever made it", async () => {
  await using t = await open();
  await t.call();
  t.clock.ms += GRACE_MS + 60_000;
  const sweep = async () =>
    ((await t.matcher.sweep.activate()) as { unrecorded: number }).unrecorded;
  assert.equal(await sweep(), 0, "no gateway has registered yet");
  await t.register(t.clock.ms);
  assert.equal(await sweep(), 0, "the first registered after it");
  await t.register(t.clock.ms - 600_000);
  const { sql: database } = t.gateway.database;
  for (const column of ["request_gzip", "response_gzip"]) {
    await database.execute(sql`update call set ${sql.identifier(column)} = 'x'`);
    assert.equal(await sweep(), 0, "the release before kept it in the call's row");
    await database.execute(sql`update call set ${sql.identifier(column)} = null`);
  }
  assert.equal(await sweep(), 1);
});

test("a call whose record is past its project's retention is no alarm", async () => {
  await using t = await open();
  await t.register(t.clock.ms - 600_000);
  await t.call();
  t.clock.ms += GRACE_MS + 60_000;
  const keep = async (days: number) => {
    const config = JSON.stringify({ retention: { meta_days: days } });
    const { sql: database } = t.gateway.database;
    await database.execute(sql`update project set config = config || ${config}::jsonb`);
  };
  await keep(0);
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 0 });
  await keep(1);
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 1 });
});

test("what no process heard of, the sweep finds", async () => {
  await using t = await open();
  const flow = await t.store(OPENAI);
  const deaf = createMatcher({
    ...{ db: t.gateway.database, providers: () => [], clock: t.clock, log: createLog("silent") },
    traffic: { search: async () => ({ flows: [], next_cursor: null }), find: async () => null },
    tell: async () => assert.fail("there is nothing to tell"),
  });
  assert.deepEqual(await deaf.task.activate(), { looked_at: 0, unmatched: 0 });
  t.clock.ms += GRACE_MS + 1;
  assert.equal(((await t.matcher.sweep.activate()) as { unmatched: number }).unmatched, 1);
  assert.deepEqual(
    (await t.matcher.list({ isAnsweredToo: false })).map(({ id }) => id),
    [flow.id],
  );
});

test("a sweep goes on from the last one; at times it looks at the whole day again", async () => {
  await using t = await open();
  const sweep = async () => {
    const { flows, unmatched } = (await t.matcher.sweep.activate()) as Record<string, number>;
    return { flows, unmatched };
  };
  await t.store({});
  t.clock.ms += 3 * GRACE_MS;
  assert.deepEqual(await sweep(), { flows: 1, unmatched: 0 });
  await t.store(OPENAI);
  assert.deepEqual(await sweep(), { flows: 1, unmatched: 0 }, "it has not had its time");
  t.clock.ms += GRACE_MS + 1;
  assert.deepEqual(await sweep(), { flows: 1, unmatched: 1 });
  t.clock.ms += 3 * GRACE_MS;
  assert.deepEqual(await sweep(), { flows: 1, unmatched: 0 }, "the last grace once more");
  assert.deepEqual(await sweep(), { flows: 0, unmatched: 0 });
  await t.store({ ...OPENAI, started_at: rfc3339(t.clock.ms - 3_600_000) });
  assert.deepEqual(await sweep(), { flows: 0, unmatched: 0 }, "it came late");
  t.clock.ms += 6 * 3_600_000;
  assert.deepEqual(await sweep(), { flows: 3, unmatched: 1 });
});

test("the record of a call that began long before the sweep is looked for", async () => {
  await using t = await open();
  const beganMs = t.clock.ms - 600_000;
  await t.register(beganMs - 1);
  await t.matcher.sweep.activate();
  const call = await t.call();
  await t.gateway.database.sql.execute(sql`update call set started_at = ${rfc3339(beganMs)}`);
  t.clock.ms += GRACE_MS + 60_000;
  await t.store({ ...t.recordOf(call), started_at: rfc3339(beganMs) });
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 0 });
});

test("the record that comes late ends its alarm, however long ago the call was", async () => {
  await using t = await open();
  await t.register(t.clock.ms);
  const call = await t.call();
  const beganMs = t.clock.ms;
  t.clock.ms += GRACE_MS + 60_000;
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 1 });
  t.clock.ms += 3_600_000;
  await t.matcher.sweep.activate();
  await t.store({ ...t.recordOf(call), started_at: rfc3339(beganMs) });
  assert.deepEqual(await t.matcher.sweep.activate(), { flows: 0, unmatched: 0, unrecorded: 0 });
  assert.deepEqual(await t.matcher.list({ isAnsweredToo: false }), []);
});

test("while alarms cannot be kept nothing grows, and each is told when they can", async () => {
  await using t = await open();
  const alarm = await t.store(OPENAI);
  const id = t.gateway.ids.next("call");
  await t.store(t.recordOf({ id, transfer_id: "transfer_none", cost_nanos: "5" }));
  t.faults.tell = true;
  for (let failures = 0; failures < 16; failures += 1) {
    await assert.rejects(t.matcher.task.activate(), /the connection broke/);
  }
  assert.deepEqual(await t.matcher.list({ isAnsweredToo: true }), []);
  assert.deepEqual(await t.told(), []);
  t.faults.tell = false;
  t.clock.ms += GRACE_MS;
  assert.deepEqual(await t.matcher.task.activate(), { looked_at: 2, unmatched: 2 });
  const told = (await t.told()) as { flow_id: string }[];
  assert.deepEqual([told.length, told[0]?.flow_id], [2, alarm.id]);
});

test("what waits is bounded, also when it is put back", async () => {
  await using t = await open();
  const matcher = t.deliver(5, { waitingMax: 3 });
  t.faults.tell = true;
  await assert.rejects(matcher.task.activate(), /the connection broke/);
  t.faults.tell = false;
  assert.deepEqual(await matcher.task.activate(), { looked_at: 3, unmatched: 3 });
});

function isProblem(code: string) {
  return (error: unknown) => error instanceof Problem && error.code === code;
}
