/**
 * Goal (R10): a worker that stands still past its lease, or is killed, is given up; when it goes on
 * later its report is refused by its token, what it had reserved is given back, and each of its
 * calls is charged once. The trial ends by the worker that took its place.
 *
 * Method: the engine, ledger, keys and API on a real database; workers as real processes of the
 * local scheduler, stopped with SIGSTOP. Their silence is made long in the database, by whose clock
 * it is measured; a host that cannot be reached is one whose scheduler is not obeyed.
 */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { createApi } from "../../orchestrator/api/server.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { AllocationId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type { Scheduler } from "../../orchestrator/scheduler/scheduler.ts";
import { isTerminal } from "../../orchestrator/trials/trial.ts";
import type { WorkerSessions } from "../../orchestrator/trials/worker-sessions.ts";
import { openWorld } from "../simulation/world.ts";
import { openApiServices } from "../support/api-services.ts";
import { auditLedger } from "../support/audit.ts";
import { eventually } from "../support/eventually.ts";
import { openSchedulerFolder } from "../support/local-scheduler.ts";
import { agentReport, writeTaskFolder } from "../support/trial-world.ts";
import { isRunning, markedProcesses } from "../support/worker-world.ts";

const ENTRY = join(import.meta.dirname, "../support/worker-entry.ts");
const STALE_MS = 60_000;
/** The first allocation says its key, and works until it is told; those after it are quick. */
const SCRIPT = {
  execute: [
    { run: 'umask 077; printf %s "$FAKE_KEY" > "$HOME/key"; echo done > work.txt' },
    { say: "at work" },
    { sleepMs: 6_000 },
    { say: "done" },
  ],
};
const AMOUNT_NANOS = 1_000n;
const COST_NANOS = 700n;

test("a worker that stood still reports late: refused, given back, charged once", async (t) => {
  await using world = await openLocalWorld();
  const { life } = world;
  const id = await world.create();
  const first = await world.untilAtWork(id);
  const grant = await world.grantOf(first);
  const [settled, running, idle] = await Promise.all([1, 2, 3].map(() => world.reserve(grant)));
  assert.ok(settled !== undefined && running !== undefined && idle !== undefined);
  await world.settle(settled);
  // One is answered still, by a gateway that lives; one was reserved and never sent.
  world.setReachable(false);
  const stopped = [first.pid, ...markedProcesses(first.allocationId)];
  for (const pid of stopped) process.kill(pid, "SIGSTOP");
  t.after(() => {
    for (const pid of stopped) if (isRunning(pid)) process.kill(pid, "SIGKILL");
  });
  const second = await world.untilReplaced(id, first.allocationId);
  assert.notEqual(second.pid, first.pid);
  assert.equal((await life.trials.get(id)).tries, 2);
  assert.equal((await life.keys.find(first.key)).outcome, "revoked", "it can buy nothing more");

  for (const pid of stopped) process.kill(pid, "SIGCONT");
  await eventually(
    () => isRunning(first.pid),
    (runs) => !runs,
    30_000,
  );
  const late = await world.reportWith(world.tokenOf(first.allocationId));
  assert.deepEqual(late, { status: 409, type: "/problems/fenced" });
  assert.equal((await world.settle(running)).outcome, "settled", "what was sent is paid for");
  assert.notEqual((await world.settle(running)).outcome, "settled", "and once");
  const released = { id: life.ids.next("transfer"), pendingId: idle };
  assert.equal((await life.ledger.release(released)).outcome, "released");

  world.setReachable(true);
  const ended = await world.untilEnded(id);
  assert.equal(ended.state, "succeeded", ended.reason ?? "");
  const reports = await rows<{ id: AllocationId; is_reported: boolean }>(
    life.db.sql,
    sql`select id, reported_at is not null as is_reported from allocation
      where trial_id = ${id} and purpose = 'agent' order by fence`,
  );
  assert.deepEqual(reports, [
    { id: first.allocationId, is_reported: false },
    { id: second.allocationId, is_reported: true },
  ]);
  const { budget } = await life.trials.get(id);
  assert.deepEqual(
    [budget?.spent_nanos, budget?.reserved_nanos],
    [String(2n * COST_NANOS), "0"],
    "two calls were made",
  );
  const events = await life.trials.events(id, 0, 1_000);
  const ends = events.filter(
    ({ type, data }) => type === "trial.state" && isTerminal(data["to"] as never),
  );
  assert.equal(ends.length, 1);
  await auditLedger(world.database);
});

test("a worker that stands still on a host that is reached is ended, and its agent with it", async () => {
  await using world = await openLocalWorld();
  const id = await world.create();
  const first = await world.untilAtWork(id);
  const stopped = [first.pid, ...markedProcesses(first.allocationId)];
  for (const pid of stopped) process.kill(pid, "SIGSTOP");
  const second = await world.untilReplaced(id, first.allocationId);
  assert.deepEqual(stopped.filter(isRunning), []);
  assert.notEqual(second.allocationId, first.allocationId);
  assert.equal((await world.untilEnded(id)).state, "succeeded");
});

test("a worker that is killed is given up at once, and its agent ended", async () => {
  await using world = await openLocalWorld();
  const id = await world.create();
  const first = await world.untilAtWork(id);
  const agents = markedProcesses(first.allocationId);
  assert.ok(agents.length > 0);
  process.kill(first.pid, "SIGKILL");
  await world.untilAtWork(id, first.allocationId);
  assert.deepEqual([first.pid, ...agents].filter(isRunning), []);
  const ended = await world.untilEnded(id);
  assert.deepEqual([ended.state, ended.tries], ["succeeded", 2]);
});

interface AtWork {
  allocationId: AllocationId;
  pid: number;
  key: string;
}

/** An orchestrator without its main: its API listens, its engine is moved by the test. */
async function openLocalWorld() {
  await using opening = new AsyncDisposableStack();
  // Its ids are marks of real processes: of no other run of this file on this machine.
  const world = opening.use(await openWorld(randomInt(2 ** 31)));
  const folder = opening.use(await openSchedulerFolder());
  const fixture = opening.use(await openApiServices());
  let url = "";
  const local = opening.use(
    await folder.open({
      command: [process.execPath, ENTRY, JSON.stringify(SCRIPT)],
      apiUrl: () => url,
      graceMs: 500,
    }),
  );
  let isReachable = true;
  const scheduler: Scheduler = {
    ...local,
    stop: async (id) => {
      if (isReachable) await local.stop(id);
    },
  };
  const operations = Number.MAX_SAFE_INTEGER;
  const common = { operations, isAppliedAtDeath: false, scheduler, staleMs: STALE_MS };
  const life = world.open(common);
  const { trials, projects, sessions } = life;
  const tokens = new Map<AllocationId, string>();
  const authenticate: WorkerSessions["authenticate"] = async (token) => {
    const session = await sessions.authenticate(token);
    tokens.set(session.allocationId, token);
    return session;
  };
  const workerSessions = { ...sessions, authenticate };
  const services = { ...fixture.services, trials, projects, workerSessions };
  const api = createApi(services, { version: "0.0.0" });
  opening.defer(() => api.close());
  url = await api.listen({ host: "127.0.0.1", port: 0 });
  await applyProject();
  const opened = opening.move();
  return {
    database: world.database,
    life,
    create,
    untilAtWork,
    untilReplaced,
    untilEnded,
    grantOf,
    reserve,
    settle,
    reportWith,
    tokenOf: (id: AllocationId) => tokens.get(id) ?? "",
    setReachable: (is: boolean) => {
      isReachable = is;
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  async function create(): Promise<TrialId> {
    const cell = { project: "p", agent: "aider", pair: "any", task: "task" };
    return (await life.trials.create({ ...cell, limit_nanos: "100000" })).id as TrialId;
  }

  /** The allocation of the agent after `former`, once its agent has begun. */
  async function untilAtWork(id: TrialId, former: AllocationId | null = null): Promise<AtWork> {
    return eventually(
      async () => {
        await life.engine.advance();
        const [found] = await rows<{ id: AllocationId }>(
          life.db.sql,
          sql`select id from allocation where trial_id = ${id} and purpose = 'agent'
            and id is distinct from ${former} order by fence desc limit 1`,
        );
        if (found === undefined) return null;
        const dir = join(folder.path, "allocations", found.id);
        const key = await readFile(join(dir, "home/key"), "utf8").catch(() => "");
        const text = await readFile(join(dir, "process.json"), "utf8").catch(() => "");
        if (key === "" || text === "") return null;
        return { allocationId: found.id, pid: (JSON.parse(text) as { pid: number }).pid, key };
      },
      (at): at is AtWork => at !== null,
      60_000,
    ) as Promise<AtWork>;
  }

  /**
   * The one after an allocation that has stood still for an hour, by the clock that silence is
   * measured with. Said at each look: what it had sent before it stopped may be heard yet.
   */
  async function untilReplaced(id: TrialId, former: AllocationId): Promise<AtWork> {
    await eventually(
      async () => {
        await life.db.sql.execute(sql`
          update allocation set heartbeat_at = clock_timestamp() - interval '1 hour'
            where id = ${former}`);
        await life.engine.advance();
        return (await life.trials.get(id)).tries;
      },
      (tries) => tries === 2,
    );
    return untilAtWork(id, former);
  }

  function untilEnded(id: TrialId) {
    return eventually(
      async () => {
        await life.engine.advance();
        return life.trials.get(id);
      },
      ({ state }) => isTerminal(state),
      60_000,
    );
  }

  async function grantOf({ key }: AtWork): Promise<Grant> {
    const found = await life.keys.find(key);
    assert.equal(found.outcome, "granted");
    return (found as { grant: Grant }).grant;
  }

  /** As the gateway does for a call. */
  async function reserve({ budget, enclosing, spend }: Grant) {
    const id = life.ids.next("transfer");
    const path = { budget, within: enclosing, spend };
    const asked = { id, ...path, amountNanos: AMOUNT_NANOS, timeoutMs: 3_600_000 };
    assert.equal((await life.ledger.reserve(asked)).outcome, "reserved");
    return id;
  }

  function settle(pendingId: Awaited<ReturnType<typeof reserve>>) {
    const id = life.ids.next("transfer");
    return life.ledger.settle({ id, pendingId, amountNanos: COST_NANOS });
  }

  /** What a worker's report is answered, by HTTP as ever. */
  async function reportWith(token: string): Promise<{ status: number; type: string }> {
    const response = await fetch(`${url}/api/v1/worker/report`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(agentReport("finished")),
    });
    const { type } = (await response.json()) as { type: string };
    return { status: response.status, type };
  }

  async function applyProject(): Promise<void> {
    const path = await writeTaskFolder();
    await projects.apply({
      file_name: "autocode.yaml",
      folder: path,
      file_text:
        "project: p\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.001 }\ntasks: [task]\n",
    });
    await rm(path, { recursive: true });
  }
}
