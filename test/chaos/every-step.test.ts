/**
 * Goal (R5): the orchestrator's process is killed with SIGKILL at each step of a trial, and each
 * trial ends in exactly one terminal state, by allocations that counted one after another, with
 * each call charged once, nothing held, and no key that lives.
 *
 * Method: the real processes on one database, with a gateway, a provider that counts what it is
 * asked, workers, and a CLI that is small. The transaction that takes a trial over a step is held
 * by a trigger (`step-holds.ts`). At one kill it is rolled back after the process has died, at the
 * next the process dies when it has committed. One world for all. CI takes the steps that differ
 * most, once; KILLS_EACH=20, the full form, takes all (MINUTES=n ends it with a whole round).
 */
import assert from "node:assert/strict";
import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import type { ApprovalList } from "../../orchestrator/contract/approvals.ts";
import type { EventPage } from "../../orchestrator/contract/events.ts";
import type { LedgerReport } from "../../orchestrator/contract/ledger.ts";
import type { Trial, TrialState } from "../../orchestrator/contract/trials.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { inTime } from "../simulation/seeds.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { openFolder, processesOf, TERMINAL } from "../support/installation.ts";
import { openReplicas, type Replica, type Replicas } from "../support/replicas.ts";
import { isRunning } from "../support/worker-world.ts";
import { type Holds, openHolds, type Step } from "./step-holds.ts";

const KILLS_EACH = Number(process.env["KILLS_EACH"] ?? 1);
const IS_FULL = process.env["KILLS_EACH"] !== undefined;
/** More than the small calls cost, less than what the dear one reserves. */
const SMALL_NANOS = "25000000";
const TOP_UP_NANOS = "400000000";
const TRIAL_MS = 180_000;

const state = (to: TrialState, from?: TrialState): Step => ({
  table: "event",
  op: "insert",
  when: `new.type = 'trial.state' and new.data ->> 'to' = '${to}'${
    from === undefined ? "" : ` and new.data ->> 'from' = '${from}'`
  }`,
});
const event = (type: string, more = "true"): Step => ({
  table: "event",
  op: "insert",
  when: `new.type = '${type}' and ${more}`,
});
const allocation = (op: Step["op"], purpose: string, column?: string): Step => ({
  table: "allocation",
  op,
  when: `new.purpose = '${purpose}'${
    column === undefined ? "" : ` and old.${column} is null and new.${column} is not null`
  }`,
});

/** Of one trial that passes its tests, in their order. */
const PASSING: Readonly<Record<string, Step>> = {
  created: { table: "trial", op: "insert", when: "true" },
  admitted: state("admitted"),
  placed: state("placed"),
  enrolled: allocation("update", "agent", "enrolled_at"),
  running: state("running"),
  planning: event("phase.started", "new.data ->> 'phase' = 'plan'"),
  charged: { table: "call", op: "insert", when: "true", isGateways: true },
  checkpointed: { table: "checkpoint", op: "insert", when: "true" },
  executing: event("phase.started", "new.data ->> 'phase' = 'execute'"),
  uploaded: { table: "artefact", op: "insert", when: "new.name = 'changes.patch'" },
  reported: allocation("update", "agent", "reported_at"),
  verifying: state("verifying", "running"),
  "verifier placed": allocation("insert", "verify"),
  "verifier enrolled": allocation("update", "verify", "enrolled_at"),
  testing: event("verify.started"),
  judged: allocation("update", "verify", "reported_at"),
  succeeded: state("succeeded"),
};
/** Of one whose budget is too small, until a person tops it up. */
const PAUSING: Readonly<Record<string, Step>> = {
  refused: { ...event("call.refused"), isGateways: true },
  paused: state("paused"),
  resumed: state("queued", "paused"),
};
/** Of one whose worker dies, and which is cancelled when it runs again. */
const CANCELLING: Readonly<Record<string, Step>> = {
  retried: event("trial.retry"),
  cancelling: {
    table: "trial",
    op: "update",
    when: "new.cancel_requested and not old.cancel_requested",
  },
  cancelled: state("cancelled"),
};
const STEPS = { ...PASSING, ...PAUSING, ...CANCELLING };
/** Each is like one beside it. */
const FULL_ONLY = ["admitted", "running", "charged", "checkpointed", "uploaded"].concat([
  "verifier placed",
  "verifier enrolled",
  "testing",
  "refused",
]);
const NAMES = Object.keys(STEPS).filter((name) => IS_FULL || !FULL_ONLY.includes(name));

test(`R5: kill -9 at ${NAMES.length} steps of a trial, ${KILLS_EACH} times each`, async (t) => {
  await using world = await openWorld();
  const { database, deaths, replicas } = world;
  for (const round of inTime([...Array(KILLS_EACH).keys()])) {
    world.round = round;
    await pass(world);
    await pauseAndGoOn(world);
    await loseAndCancel(world);
    await auditLedger(database);
  }
  t.diagnostic(`${[...deaths.values()].reduce((a, b) => a + b)} kills: ${NAMES.join(", ")}`);
  assert.deepEqual(
    NAMES.map((name) => deaths.get(name)),
    NAMES.map(() => world.round + 1),
  );
  await checkCharges(world);
  assert.equal(await world.replica.stop(), 0, world.replica.output());
  const left = (await processesOf(replicas.home)).filter(({ command }) =>
    command.includes("worker-agent/"),
  );
  assert.deepEqual(left, [], "a worker outlived its trial");
});

interface World extends AsyncDisposable {
  database: TestDatabase;
  replicas: Replicas;
  holds: Holds;
  /** The orchestrator that lives at the moment. */
  replica: Replica;
  /** Requests so far: each has a key of its own. */
  asked: number;
  round: number;
  /** How often it died at each step. */
  deaths: Map<string, number>;
}

/** One trial through every step of success. */
async function pass(world: World): Promise<void> {
  const before = await trialIds(world);
  const made = async () => (await trialIds(world)).filter((id) => !before.includes(id));
  // Whether it was made is not told: who asked looks, and asks again if it was not.
  const steps = NAMES.filter((name) => name in PASSING);
  await killAtEach(world, steps, async () => {
    if ((await made()).length === 0) await create(world);
  });
  const ids = await made();
  assert.equal(ids.length, 1, "one trial was asked for");
  await endsOnce(world, ids[0] ?? "", "succeeded");
}

async function pauseAndGoOn(world: World): Promise<void> {
  const { replicas } = world;
  const begin = () => create(world, { limit_nanos: SMALL_NANOS });
  const steps = NAMES.filter((name) => name === "refused" || name === "paused");
  const id = await killAtEach(world, steps, begin);
  const find = async () => {
    const { approvals } = await replicas.get<ApprovalList>(world.replica, "approvals?state=open");
    return approvals.find(({ trial_id }) => trial_id === id);
  };
  const asked = await eventually(find, (found) => found !== undefined, TRIAL_MS);
  assert.ok(asked !== undefined);
  const body = { content_sha256: asked.content_sha256, amount_nanos: TOP_UP_NANOS };
  const key = keyOf(world);
  const path = `approvals/${asked.id}/approve`;
  const approve = () => replicas.post(world.replica, path, { body, key });
  await killAtEach(world, ["resumed"], approve);
  // What was answered is answered again, what was rolled back is done now.
  const { status, text } = await approve();
  assert.equal(status, 200, text);
  await endsOnce(world, id, "succeeded");
}

async function loseAndCancel(world: World): Promise<void> {
  const id = await killAtEach(world, ["retried"], async () => {
    const made = await create(world, { task: "slow" });
    await untilExecuting(world, made, 1);
    const workers = (await processesOf(world.replicas.home)).filter(({ command }) =>
      command.includes("worker-agent/main.ts"),
    );
    assert.ok(workers.length > 0);
    for (const { pid } of workers) if (isRunning(pid)) process.kill(pid, "SIGKILL");
    return made;
  });
  await untilExecuting(world, id, 2);
  await killAtEach(world, ["cancelling", "cancelled"], async () => {
    const path = `trials/${id}/stop`;
    const { status, text } = await world.replicas.post(world.replica, path, { key: keyOf(world) });
    assert.equal(status, 200, text);
  });
  await endsOnce(world, id, "cancelled");
}

/**
 * Kills the orchestrator at each of the steps, in the order in which they come, and starts another.
 *
 * @param act a person's request that leads there; the kill may cost its answer, so it is made
 * again until the first kill that it outlives. Its first answer is the result.
 */
async function killAtEach<Answer>(
  world: World,
  steps: readonly string[],
  act: () => Promise<Answer>,
): Promise<Answer> {
  const { holds, deaths } = world;
  const left = new Set(steps);
  await holds.arm(steps);
  let answer: Promise<Answer | null> = Promise.resolve(null);
  while (left.size > 0) {
    if ((await answer) === null) answer = act().catch(() => null);
    const { step, pid } = await holds.reached();
    left.delete(step);
    await killAt(world, { step, pid, left: [...left] });
    deaths.set(step, (deaths.get(step) ?? 0) + 1);
  }
  return (await answer) as Answer;
}

/** What is left is held from then on; the step itself is rolled back at every second kill. */
async function killAt(
  world: World,
  { step, pid, left }: { step: string; pid: number; left: readonly string[] },
): Promise<void> {
  const { holds, database } = world;
  const isGateways = STEPS[step]?.isGateways === true;
  const isRolledBack = !isGateways && (NAMES.indexOf(step) + world.round) % 2 === 0;
  if (isGateways || isRolledBack) await world.replica.kill9();
  await holds.arm(left);
  if (!isRolledBack) await holds.letThrough(step, pid);
  await world.replica.kill9();
  // What it had come to besides dies with it.
  await holds.takeBack();
  // As time does it: nobody renews what the dead process had claimed.
  const expire = sql`update trial set lease_until = null where lease_until is not null`;
  await database.sql.execute(expire);
  world.replica = await world.replicas.start();
}

async function create(world: World, more: object = {}): Promise<string> {
  const cell = { project: "steps", agent: "qwen-code", pair: "mine", task: "task" };
  const body = { ...cell, ...more };
  const { status, text } = await world.replicas.post(world.replica, "trials", {
    body,
    key: keyOf(world),
  });
  assert.equal(status, 201, text);
  return (JSON.parse(text) as Trial).id;
}

function keyOf(world: World): string {
  world.asked += 1;
  return `request-${world.asked}`;
}

async function trialIds({ database }: World): Promise<string[]> {
  return (await rows<{ id: string }>(database.sql, sql`select id from trial`)).map(({ id }) => id);
}

function untilExecuting({ database }: World, id: string, times: number) {
  const look = async () =>
    rows(
      database.sql,
      sql`select from event where trial_id = ${id} and type = 'phase.started'
        and data ->> 'phase' = 'execute'`,
    );
  return eventually(look, (found) => found.length >= times, TRIAL_MS);
}

async function endsOnce(world: World, id: string, end: TrialState): Promise<void> {
  const { replicas, database } = world;
  const trial = await eventually(
    () => replicas.get<Trial>(world.replica, `trials/${id}`),
    ({ state: now }) => TERMINAL.includes(now),
    TRIAL_MS,
  );
  assert.equal(trial.state, end, trial.reason ?? "");
  assert.equal(trial.budget?.reserved_nanos, "0", "nothing is held");
  const { events } = await replicas.get<EventPage>(world.replica, `trials/${id}/events?limit=1000`);
  const states = events.filter(({ type }) => type === "trial.state").map(({ data }) => data);
  assert.equal(states.filter(({ to }) => TERMINAL.includes(to as TrialState)).length, 1);
  for (const [at, { from }] of states.entries()) {
    assert.equal(from, at === 0 ? null : states[at - 1]?.["to"], "a chain of states");
  }
  const allocations = await rows<{ fence: number; is_over: boolean; overlaps: boolean }>(
    database.sql,
    sql`select fence, ended_at is not null as is_over,
        coalesce(created_at < lag(ended_at) over (order by fence), false) as overlaps
      from allocation where trial_id = ${id} order by fence`,
  );
  assert.deepEqual(
    allocations,
    allocations.map((_, at) => ({ fence: at + 1, is_over: true, overlaps: false })),
    "one counts at a time",
  );
  const keys = await rows(
    database.sql,
    sql`select from virtual_key where trial_id = ${id} and revoked_at is null`,
  );
  assert.equal(keys.length, 0, "a key outlived its trial");
}

/** What the provider was asked is what was charged, once each; the journal is whole. */
async function checkCharges({ database, replicas, replica }: World): Promise<void> {
  const [found] = await rows<{ calls: number; cost: string; spent: string; posts: number }>(
    database.sql,
    sql`select count(*) filter (where status = 200)::int as calls, sum(cost_nanos)::text as cost,
        (select sum(amount_nanos)::text from transfer where kind = 'post') as spent,
        (select count(*)::int from transfer where kind = 'post') as posts
      from call`,
  );
  const asked = replicas.asked().length;
  assert.deepEqual({ calls: found?.calls, posts: found?.posts }, { calls: asked, posts: asked });
  assert.equal(found?.spent, found?.cost);
  const report = await replicas.get<LedgerReport>(replica, "ledger/verify");
  assert.deepEqual([report.fault, report.is_intact], [null, true]);
}

async function openWorld(): Promise<World> {
  await using opening = new AsyncDisposableStack();
  const database = opening.use(await openTestDatabase());
  const folder = opening.use(await openFolder("autocode-steps-"));
  const agentsDir = await installCli(folder.path);
  const replicas = opening.use(
    await openReplicas({
      databaseUrl: database.url,
      scripts: { "any.yaml": "steps: [[{ say: It is done. }]]\n" },
      agentsDir,
    }),
  );
  const replica = await replicas.start();
  const applied = await replicas.cli("project", "apply", "-p", await writeProject(replicas));
  assert.equal(applied.exit, 0, applied.err);
  const holds = opening.use(await openHolds(database.url, STEPS));
  const opened = opening.move();
  const counts = { asked: 0, round: 0, deaths: new Map<string, number>() };
  const dispose = () => opened.disposeAsync();
  return { database, replicas, holds, replica, ...counts, [Symbol.asyncDispose]: dispose };
}

/** An installation of Qwen Code as the installer leaves one, with another program in it. */
async function installCli(folder: string): Promise<string> {
  const name = "qwen-code";
  const version = "0.24.4";
  const dir = join(folder, "agents", name, version);
  const file = join(dir, "node_modules/.bin/qwen");
  await mkdir(join(file, ".."), { recursive: true });
  await writeFile(join(dir, "package.json"), '{ "type": "module" }\n');
  await copyFile(join(import.meta.dirname, "small-cli.ts"), join(dir, "cli.ts"));
  await writeFile(file, `#!/bin/sh\nexec "${process.execPath}" "${join(dir, "cli.ts")}" "$@"\n`);
  await chmod(file, 0o755);
  await writeFile(join(dir, ".autocode-install.json"), JSON.stringify({ name, version }));
  return join(folder, "agents");
}

async function writeProject({ folder, providerUrl }: Replicas): Promise<string> {
  for (const [name, instruction] of [
    ["task", "Mend it.\n"],
    ["slow", "Mend it slowly.\n"],
  ] as const) {
    const dir = join(folder, name);
    await mkdir(join(dir, "tests"), { recursive: true });
    await mkdir(join(dir, "environment"));
    await writeFile(join(dir, "task.toml"), "[agent]\ntimeout_sec = 300\n");
    await writeFile(join(dir, "instruction.md"), instruction);
    await writeFile(join(dir, "tests/test.sh"), "test -f mended.txt\n");
    await writeFile(join(dir, "environment/README"), "To be mended.\n");
  }
  const model = (side: string) =>
    `${side}: { model: scripted-${side}, base_url: "${providerUrl}/v1", ` +
    'wires: [openai.chat], price: { input: "1", output: "2" } }';
  const path = join(folder, "steps.yaml");
  await writeFile(
    path,
    [
      "project: steps",
      "currency: CAD",
      "budget: { total: 1000, per_trial: 0.50 }",
      "agents: [qwen-code]",
      "pairs: [mine]",
      `tasks: [${join(folder, "task")}, ${join(folder, "slow")}]`,
      `models: { mine: { ${model("normal")}, ${model("thinking")} } }`,
      "",
    ].join("\n"),
  );
  return path;
}
