/**
 * Goal: two orchestrators on one database. When one is killed the other leads its duties within
 * 10 s, and no trial is lost, done twice or charged twice; what cannot work together is refused.
 *
 * Method: real processes on a real server, with a gateway and a provider beside them, agents that
 * work, and kill -9 of whoever leads at moments that a seed draws. KILLS=n for more rounds, SEED=n
 * for other moments.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { sql } from "drizzle-orm";
import type { EventPage } from "../../orchestrator/contract/events.ts";
import type { LedgerReport } from "../../orchestrator/contract/ledger.ts";
import type { Trial, TrialState } from "../../orchestrator/contract/trials.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { openFolder, runToEnd, TERMINAL, whyNoAgents } from "../support/installation.ts";
import { openReplicas, type Replica, type Replicas } from "../support/replicas.ts";

const skip = await whyNoAgents("claude-code");
const KILLS = Number(process.env["KILLS"] ?? 2);
const SEED = Number(process.env["SEED"] ?? 1);
/** Judged where rounds are asked for (KILLS): a busy machine takes longer than the 8 s meant. */
const MOVE_MS = 10_000;
const MOVE_AT_MOST_MS = 30_000;
const IS_FULL = process.env["KILLS"] !== undefined;
const DUTIES = ["expire_reservations", "mark_budgets", "replenish_budgets", "seal_journal"];
const TRIALS_A_ROUND = 2;
/** A trial with some seconds of work in it, so that kills meet it at all its stages. */
const SCRIPT = `match: slowly mended
plan: [[{ say: Write it. }]]
steps:
  - - write: { path: mended.txt, content: "yes\\n" }
  - - shell: sleep 2
  - - say: It is mended.
delay_ms_per_event: 20
`;

test(`kill -9 of the leader, ${KILLS} times (SEED=${SEED})`, { skip }, async (t) => {
  const random = seededRandom(SEED);
  await using database = await openTestDatabase();
  await using replicas = await openReplicas({
    databaseUrl: database.url,
    scripts: { "slow.yaml": SCRIPT },
    env: { AUTOCODE_SLOTS: "2" },
  });
  let running = [await replicas.start(), await replicas.start()];
  await makeProject(replicas);
  const begun: string[] = [];
  for (let round = 0; round < KILLS; round++) {
    for (let count = 0; count < TRIALS_A_ROUND; count++) begun.push(await begin(replicas));
    await pause(random.below(8_000));
    const leader = await leaderOf(replicas, running);
    const other = running.find((replica) => replica !== leader);
    assert.ok(other !== undefined);
    await leader.kill9();
    const killedMs = performance.now();
    await eventually(
      () => ledBy(replicas, other),
      (duties) => DUTIES.every((duty) => duties.includes(duty)),
      MOVE_AT_MOST_MS,
    );
    const movedMs = Math.round(performance.now() - killedMs);
    t.diagnostic(`round ${round}: duties moved after ${movedMs} ms`);
    if (IS_FULL) assert.ok(movedMs <= MOVE_MS, `${movedMs} ms`);
    running = [other, await replicas.start()];
  }
  const [survivor] = running;
  assert.ok(survivor !== undefined);
  for (const id of begun) await endsOnce(replicas, survivor, id);
  await checkCharges(replicas, database, survivor);
  const [found] = await rows<{ tries: number; count: number }>(
    database.sql,
    sql`select sum(tries)::int as tries, count(*)::int as count from trial`,
  );
  t.diagnostic(`${found?.count} trials in ${found?.tries} tries, ${replicas.asked().length} calls`);
  for (const replica of running) assert.equal(await replica.stop(), 0, replica.output());
});

test("another data folder, and the embedded database, are refused by name", { skip }, async () => {
  await using database = await openTestDatabase();
  await using replicas = await openReplicas({ databaseUrl: database.url, scripts: {} });
  const one = await replicas.start();
  await using folder = await openFolder();
  const stranger = await replicas.refuse({ AUTOCODE_HOME: join(folder.path, "home") });
  assert.equal(stranger.exit, 5);
  assert.match(
    stranger.err,
    /uses this database with another data folder: give both one AUTOCODE_HOME/,
  );
  assert.match(stranger.err, new RegExp(one.url));
  const other = await replicas.refuse({ AUTOCODE_SCHEDULER: "fleet" });
  assert.match(other.err, /places trials with local, this one with fleet/);
  // It was started for this database, and is no part of the other one's home.
  const embedded = { DATABASE_URL: "", AUTOCODE_HOME: join(folder.path, "own") };
  const first = replicas.start(embedded);
  const ready = await first;
  const second = await replicas.refuse(embedded);
  assert.equal(second.exit, 5);
  assert.match(second.err, /several orchestrators of one installation need one DATABASE_URL/);
  assert.equal(await ready.stop(), 0);
  // An orderly stop frees its place at once.
  assert.equal(await one.stop(), 0);
  const left = await rows(database.sql, sql`select from orchestrator`);
  assert.equal(left.length, 0);
});

async function makeProject(replicas: Replicas): Promise<void> {
  const model = (side: string) =>
    `${side}: { model: scripted-${side}, base_url: "${replicas.providerUrl}", ` +
    'wires: [anthropic.messages], price: { input: "1", output: "2" } }';
  const path = join(replicas.folder, "ha.yaml");
  const text = `project: ha
currency: CAD
budget: { total: 25, per_trial: 0.50 }
agents: [claude-code]
pairs: [mine]
models: { mine: { ${model("normal")}, ${model("thinking")} } }
`;
  await writeFile(path, text);
  const applied = await replicas.cli("project", "apply", "-p", path);
  assert.equal(applied.exit, 0, applied.err);
  const repository = join(replicas.folder, "repository");
  const git = (...args: string[]) =>
    runToEnd("git", ["-c", "user.name=a", "-c", "user.email=a@example.org", ...args]);
  await git("init", "-q", repository);
  await writeFile(join(repository, "README"), "To be mended.\n");
  await git("-C", repository, "add", ".");
  assert.equal((await git("-C", repository, "commit", "-qm", "start")).exit, 0);
}

async function begin(replicas: Replicas): Promise<string> {
  const repository = join(replicas.folder, "repository");
  const task = ["-p", repository, "--instruction", "It is to be slowly mended"];
  const decides = ["--test", "sleep 1 && test -f mended.txt"];
  const what = ["--project", "ha", "-a", "claude-code", "-m", "mine", "--detach"];
  return (await replicas.json<Trial>("trial", "run", ...task, ...decides, ...what)).id;
}

/** Whoever leads most. */
async function leaderOf(replicas: Replicas, running: readonly Replica[]): Promise<Replica> {
  const [asked] = running;
  assert.ok(asked !== undefined);
  const listed = await replicas.orchestrators(asked);
  const [most] = listed.toSorted((a, b) => b.duties.length - a.duties.length);
  const leader = running.find(({ url }) => url === most?.url);
  assert.ok(leader !== undefined, JSON.stringify(listed));
  return leader;
}

async function ledBy(replicas: Replicas, replica: Replica): Promise<string[]> {
  const own = (await replicas.orchestrators(replica)).find((each) => each.is_this);
  return own?.duties ?? [];
}

/** One end, of success, told once. */
async function endsOnce(replicas: Replicas, replica: Replica, id: string): Promise<void> {
  const trial = await eventually(
    () => replicas.get<Trial>(replica, `trials/${id}`),
    ({ state }) => TERMINAL.includes(state),
    240_000,
  );
  assert.equal(trial.state, "succeeded", trial.reason ?? "");
  assert.equal(trial.budget?.reserved_nanos, "0");
  const { events } = await replicas.get<EventPage>(replica, `trials/${id}/events?limit=1000`);
  const ends = events.filter(
    ({ type, data }) => type === "trial.state" && TERMINAL.includes(data["to"] as TrialState),
  );
  assert.equal(ends.length, 1);
}

/** What the provider was asked is what the ledger charged, once each; the journal is whole. */
async function checkCharges(
  replicas: Replicas,
  database: TestDatabase,
  replica: Replica,
): Promise<void> {
  const [calls] = await rows<{ count: number; cost: string; spent: string }>(
    database.sql,
    sql`select count(*)::int as count, sum(cost_nanos)::text as cost,
        (select sum(amount_nanos)::text from transfer where kind = 'post') as spent
      from call`,
  );
  assert.equal(calls?.count, replicas.asked().length);
  assert.equal(calls?.spent, calls?.cost);
  await auditLedger(database);
  const report = await replicas.get<LedgerReport>(replica, "ledger/verify");
  assert.equal(report.fault, null);
  assert.ok(report.is_intact);
}
