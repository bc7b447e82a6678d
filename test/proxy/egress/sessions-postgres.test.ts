/**
 * Goal: a session at the proxy is its allocation's for as long as that runs, and decides by what
 * the project says now; a canary ends its trial.
 *
 * Method: trials as the engine makes them over a real database, enrolled with a door; the guard
 * over the same database with a clock that is moved.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { ProjectFile } from "../../../orchestrator/contract/projects.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { AllocationId, FlowId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import type { FlowDraft } from "../../../orchestrator/traffic/sink.ts";
import { createEgressEvents } from "../../../orchestrator/trials/egress-events.ts";
import { issueEgressSession } from "../../../orchestrator/trials/egress-sessions.ts";
import { findTrial } from "../../../orchestrator/trials/rows.ts";
import { createEgressGuard } from "../../../proxy/egress/sessions-postgres.ts";
import { eventually } from "../../support/eventually.ts";
import { createTestClock } from "../../support/ledger.ts";
import { openTrialLife } from "../../support/trial-life.ts";
import { headOf, PUBLIC } from "./deciding.ts";

const URL = "https://api.example.org/v1";
const DOOR = { url: "http://127.0.0.1:3128", authorityPem: "-----BEGIN CERTIFICATE-----" };
const EGRESS: ProjectFile["egress"] = {
  rules: [{ action: "allow", hosts: ["api.example.org"] }],
  request_bytes_per_trial_max: 1_000,
  environment: { FORGE_TOKEN: "{{secret:forge/token}}" },
};

async function openGuarded() {
  const life = await openTrialLife({});
  const { db } = life;
  const trialId = await life.create();
  await life.engine.advance();
  const clock = createTestClock();
  const drafts: FlowDraft[] = [];
  const sink = {
    sourceId: "process_01j9zq2e5m0000000000000000",
    ...{ bodyBytesMax: 0, messageBytesMax: 0 },
    append: async (draft: FlowDraft) => void drafts.push(draft),
    isBehind: () => false,
    fault: () => null,
  };
  const events = createEgressEvents(db, clock);
  const failures = { stops: 0, stoppedMs: 0 };
  const openGuard = () =>
    createEgressGuard(
      {
        ...{ db, clock, sink, log: createLog("silent"), projects: life.projects },
        secrets: { get: async () => null },
        resolver: { resolve: async () => [PUBLIC] },
        tell: events.tell,
        stopTrial: async (id, reason) => {
          failures.stoppedMs ||= performance.now();
          if (failures.stops-- > 0) throw new Error("the database is away");
          await events.stopTrial(id, reason);
        },
      },
      { ownAddresses: () => [], gatewayUrl: () => "http://127.0.0.1:1" },
    );
  const trial = await findTrial(db.sql, trialId);
  assert.ok(trial?.allocation_id);
  const allocationId = trial.allocation_id;
  const issue = async (id: AllocationId = allocationId) => {
    const project = await life.projects.findById(trial.project_id);
    const issuer = { db, clock, random: systemRandom, egress: () => DOOR };
    const spec = await issueEgressSession(issuer, project, trial, id);
    assert.ok(spec.kind === "proxied");
    return spec;
  };
  const configure = (egress: ProjectFile["egress"]) =>
    db.sql.execute(sql`
      update project set config = config || ${JSON.stringify({ egress })}::jsonb`);
  await configure(EGRESS);
  return { ...life, trialId, allocationId, clock, drafts, failures, openGuard, issue, configure };
}

function draftOf(id: string, reason: FlowDraft["decision"]["reason"]): FlowDraft {
  return {
    ...{ id: id as FlowId, kind: "http", engine: "embedded" },
    ...{ projectId: null, trialId: null, allocationId: null, agent: null },
    ...{ startedAtMs: 0, durationMs: 0, client: { address: null, http_version: null } },
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: null },
    server: {
      ...{ host: "evil.example", port: 443, address: null, server_name: null },
      ...{ tls_version: null, http_version: null, certificate_sha256: null },
    },
    ...{ request: null, response: null, messages: null, sentCount: null, receivedCount: null },
    decision: { action: "deny", reason, rule: null, detail: "No rule allows it" },
    credentials: ["forge/token"],
    ...{ callId: null, transferId: null, cost: null, error: null, secrets: ["other"] },
  };
}

test("what a worker is told, and that nothing but it has the password", async () => {
  await using world = await openGuarded();
  const spec = await world.issue();
  assert.equal(spec.username, world.allocationId);
  assert.equal(spec.proxy_url, DOOR.url);
  assert.match(spec.password, /^[\w-]{43}$/);
  assert.equal(spec.environment["FORGE_TOKEN"], "{{secret:forge/token}}");
  const canary = spec.environment["DEPLOY_AWS_ACCESS_KEY_ID"] ?? "";
  assert.match(canary, /^AKIA[A-Z2-7]{16}$/);
  const kept = await rows(world.db.sql, sql`select * from egress_session`);
  assert.equal(kept.length, 1);
  assert.ok(!JSON.stringify(kept).includes(spec.password));

  const again = await world.issue();
  assert.notEqual(again.password, spec.password);
  const guard = world.openGuard();
  assert.equal(await guard.session(spec.username, spec.password), null);
  assert.ok(await guard.session(again.username, again.password));
});

test("without a door an allocation is closed, and open where its project says so", async () => {
  await using world = await openGuarded();
  const trial = await findTrial(world.db.sql, world.trialId);
  assert.ok(trial !== null);
  const issuer = { db: world.db, clock: world.clock, random: systemRandom };
  const kind = async (egress: ProjectFile["egress"], door: typeof DOOR | null) => {
    const project = { config: egress === undefined ? {} : { egress } };
    const given = { ...issuer, egress: () => door };
    return (await issueEgressSession(given, project, trial, world.allocationId)).kind;
  };
  assert.equal(await kind("open", DOOR), "open");
  assert.equal(await kind("deny", DOOR), "proxied");
  assert.equal(await kind(undefined, DOOR), "proxied");
  assert.equal(await kind("deny", null), "closed");
});

test("a wrong password, another's name and one that is none are nobody", async () => {
  await using world = await openGuarded();
  const { username, password } = await world.issue();
  const guard = world.openGuard();
  for (const [name, word] of [
    [username, `${password}x`],
    [username, ""],
    ["allocation_01j9zq2e5m0000000000000000", password],
    ["'; drop table egress_session --", password],
    ["", ""],
  ] as const) {
    assert.equal(await guard.session(name, word), null, name);
  }
  const one = await guard.session(username, password);
  assert.equal(one, await guard.session(username, password));
  assert.equal(one?.trialId, world.trialId);
  assert.equal(one?.agent, "aider");
  assert.equal(guard.stranger.refusal.status, 407);
});

test("a policy that changed decides within a second, and an allocation that ended not at all", async () => {
  await using world = await openGuarded();
  const { username, password } = await world.issue();
  const guard = world.openGuard();
  const session = await guard.session(username, password);
  assert.ok(session !== null);
  assert.equal((await session.request(headOf(URL))).outcome, "forward");
  await world.configure("deny");
  world.clock.ms += 1_000;
  assert.equal((await session.request(headOf(URL))).decision.reason, "no_rule");
  await world.configure(EGRESS);
  world.clock.ms += 1_000;
  assert.equal((await session.request(headOf(URL))).outcome, "forward");

  const other = world.openGuard();
  const watched = await other.session(username, password);
  const { db, allocationId } = world;
  await db.sql.execute(sql`update allocation set ended_at = now() where id = ${allocationId}`);
  assert.ok(!session.signal.aborted && watched !== null && !watched.signal.aborted);
  world.clock.ms += 1_000;
  // Whoever asks is told; what waits for an answer is cut by the watch.
  assert.equal((await session.request(headOf(URL))).decision.reason, "session_ended");
  assert.ok(session.signal.aborted);
  await other.watch.activate();
  assert.ok(watched.signal.aborted);
  await guard.watch.activate();
  world.clock.ms += 1_000;
  assert.equal(await guard.session(username, password), null);
  assert.deepEqual(await guard.watch.activate(), { sessions: 0, ended: 0 });
});

test("a trial's own rules come first, and a trial that replays is forwarded nothing", async () => {
  await using world = await openGuarded();
  const { username, password } = await world.issue();
  const rules = { rules: [{ action: "deny", hosts: ["*"] }] };
  await world.db.sql.execute(sql`update trial set egress = ${JSON.stringify(rules)}::jsonb`);
  const session = await world.openGuard().session(username, password);
  assert.equal((await session?.request(headOf(URL)))?.decision.rule, "trial rules[0]");
  await world.db.sql.execute(sql`update trial set egress = null, replay_of = id`);
  const replaying = await world.openGuard().session(username, password);
  const tunnel = await replaying?.connect({ host: "api.example.org", port: 443 });
  assert.ok(tunnel?.outcome === "open");
  assert.deepEqual(tunnel.addresses, []);
  assert.equal((await replaying?.request(headOf(URL)))?.decision.reason, "diverged");
});

test("what a trial sent is counted over its sessions and survives the proxy", async () => {
  await using world = await openGuarded();
  const { username, password } = await world.issue();
  const guard = world.openGuard();
  const session = await guard.session(username, password);
  assert.ok(session !== null);
  // Its head has 20 bytes.
  await session.request(headOf(URL));
  assert.equal(session.sent(580), true);
  await guard.watch.activate();
  assert.equal(session.sent(400), true);
  assert.equal(session.sent(1), false);
  assert.equal((await session.request(headOf(URL))).decision.reason, "too_large");
  await guard.watch.activate();

  const next = await world.openGuard().session(username, password);
  assert.equal((await next?.request(headOf(URL)))?.decision.reason, "too_large");
});

test("S4: a canary stops its trial at once, is told once, and is in no record", async () => {
  await using world = await openGuarded();
  const spec = await world.issue();
  const guard = world.openGuard();
  const session = await guard.session(spec.username, spec.password);
  assert.ok(session !== null);
  const canary = spec.environment["DEPLOY_AWS_SECRET_ACCESS_KEY"] ?? "";
  const path = `/?x=${Buffer.from(canary).toString("base64url")}`;
  world.failures.stops = 1;
  const startedMs = performance.now();
  assert.equal((await session.request(headOf(URL, { path }))).decision.reason, "canary");
  assert.equal((await session.request(headOf(URL))).decision.reason, "session_ended");
  session.record(draftOf("flow_01j9zq2e5m0000000000000001", "canary"));
  session.onCanary("flow_01j9zq2e5m0000000000000002", "evil.example");
  // The first stop failed; the watch tries it again.
  await guard.watch.activate();
  await guard.watch.activate();
  await eventually(
    async () => (await findTrial(world.db.sql, world.trialId))?.cancel_requested,
    (isStopping) => isStopping === true,
  );
  const events = await eventually(
    () => world.trials.events(world.trialId, 0, 100),
    (all) => all.some(({ type }) => type === "egress.canary"),
  );
  assert.ok(world.failures.stoppedMs - startedMs < 10_000);
  assert.ok(session.signal.aborted);
  const told = events.filter(({ type }) => type === "egress.canary");
  assert.deepEqual(
    told.map(({ data }) => data),
    [{ flow_id: "flow_01j9zq2e5m0000000000000001", host: "evil.example" }],
  );
  const [draft] = world.drafts;
  assert.ok(draft?.secrets.includes(canary) && draft.secrets.includes("other"));
});

test("S4: after its canary a trial gets no session again, here or at another proxy", async () => {
  await using world = await openGuarded();
  const { username, password } = await world.issue();
  const guard = world.openGuard();
  const other = world.openGuard();
  const session = await guard.session(username, password);
  const elsewhere = await other.session(username, password);
  assert.ok(session !== null && elsewhere !== null);
  world.failures.stops = 1;
  session.onCanary("flow_01j9zq2e5m0000000000000001", "evil.example");
  await eventually(
    () => world.failures.stops,
    (left) => left === 0,
  );
  // It was not written down at first: whoever saw it refuses all the same.
  assert.equal(await guard.session(username, password), null);
  await guard.watch.activate();
  assert.equal(await guard.session(username, password), null);
  await eventually(
    async () => (await findTrial(world.db.sql, world.trialId))?.cancel_requested,
    (isStopping) => isStopping === true,
  );
  // What was read of the trial before that is kept for a moment; this clock stands still.
  await guard.watch.activate();
  assert.equal(await guard.session(username, password), null);

  world.clock.ms += 1_000;
  for (const proxy of [guard, other, world.openGuard()]) {
    assert.equal(await proxy.session(username, password), null);
  }
  assert.equal((await elsewhere.request(headOf(URL))).decision.reason, "session_ended");
  await other.watch.activate();
  assert.ok(session.signal.aborted && elsewhere.signal.aborted);
  await guard.watch.activate();
  for (const proxy of [guard, other]) {
    assert.deepEqual(await proxy.watch.activate(), { sessions: 0, ended: 0 });
  }
});

test("a refusal and a credential's use are told to the trial, so many a minute at most", async () => {
  await using world = await openGuarded();
  const { username, password } = await world.issue();
  const session = await world.openGuard().session(username, password);
  assert.ok(session !== null);
  for (let count = 0; count < 100; count++) {
    session.record(draftOf("flow_01j9zq2e5m0000000000000001", "no_rule"));
  }
  assert.equal(world.drafts.length, 100);
  const told = await eventually(
    async () => {
      const events = await world.trials.events(world.trialId, 0, 500);
      return events.map(({ type }) => type).filter((type) => type.startsWith("egress."));
    },
    ({ length }) => length >= 120,
  );
  assert.equal(told.length, 120);
  assert.equal(told.filter((type) => type === "egress.credential").length, 60);
});
