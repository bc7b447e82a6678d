/**
 * Goal: trials are found by what is asked, an experiment can be made again from its seed, and what
 * cannot run is refused by the name of its field, with nothing made.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { loadCatalog } from "../../../models/catalog.ts";
import type { Experiment, NewExperiment, NewTrial } from "../../../orchestrator/contract/trials.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { ExperimentId, TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createCatalogPairs } from "../../../orchestrator/trials/catalog-pairs.ts";
import { createTrials } from "../../../orchestrator/trials/postgres.ts";
import { openWakes } from "../../../orchestrator/trials/wakes.ts";
import { AGENTS } from "../../../worker-agent/agents/registry.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const CELL = { project: "p", agent: "aider", pair: "any", task: "task" };
const EXPERIMENT: NewExperiment = {
  project: "p",
  name: "draw",
  agents: ["aider", "qwen-code", "claude-code"],
  pairs: ["any", "other"],
  tasks: ["task"],
  attempts: 6,
  assignment: "random",
};

async function countMade(life: Awaited<ReturnType<typeof openTrialLife>>) {
  const [made] = await rows(
    life.db.sql,
    sql`select (select count(*)::int from trial) as trials,
      (select count(*)::int from experiment) as experiments,
      (select count(*)::int from event) as events`,
  );
  return made;
}

test("trials are listed by project, state and experiment, newest first, page by page", async () => {
  await using life = await openTrialLife({});
  const { trials } = life;
  const alone = [await life.create(), await life.create(), await life.create()];
  const { id } = await trials.createExperiment({ ...EXPERIMENT, attempts: 4 });
  const experimentId = id as ExperimentId;
  await trials.cancel(alone[1] as TrialId);
  await life.engine.advance();
  const ids = async (filter: Omit<Parameters<typeof trials.list>[0], "limit">) =>
    (await trials.list({ limit: 50, ...filter })).map((trial) => trial.id);

  const all = await ids({});
  assert.equal(all.length, 7);
  assert.deepEqual(all.slice(4), alone.toReversed());
  assert.deepEqual(await ids({ project: "p" }), all);
  assert.deepEqual(await ids({ project: "q" }), []);
  assert.deepEqual(await ids({ state: "cancelled" }), [alone[1]]);
  assert.deepEqual(await ids({ experimentId }), all.slice(0, 4));
  assert.deepEqual(await ids({ experimentId, state: "cancelled" }), []);

  const paged: string[] = [];
  for (let before: TrialId | undefined; ; before = paged.at(-1) as TrialId) {
    const page = await trials.list({ limit: 3, ...(before === undefined ? {} : { before }) });
    if (page.length === 0) break;
    paged.push(...page.map((trial) => trial.id));
  }
  assert.deepEqual(paged, all);
});

test("trials made in one millisecond are paged without a gap", async () => {
  await using life = await openTrialLife({});
  for (let count = 0; count < 5; count++) await life.create();
  await life.db.sql.execute(sql`update trial set created_at = '2026-11-21T12:00:00Z'`);
  const all = (await life.trials.list({ limit: 50 })).map(({ id }) => id);
  const first = await life.trials.list({ limit: 2 });
  const rest = await life.trials.list({ limit: 50, before: first[1]?.id as TrialId });
  assert.deepEqual(
    [...first, ...rest].map(({ id }) => id),
    all,
  );
});

test("a random assignment records its seed, and the seed draws the same again", async () => {
  await using life = await openTrialLife({});
  const { trials } = life;
  const cells = (experiment: Experiment) =>
    experiment.trials
      .map(({ agent, pair, attempt, seed }) => `${attempt} ${agent} ${pair} ${seed}`)
      .toSorted();

  const first = await trials.createExperiment(EXPERIMENT);
  const { seed, assignment, trial_count, ended_count } = first;
  assert.deepEqual(
    { assignment, trial_count, ended_count },
    { assignment: "random", trial_count: 6, ended_count: 0 },
  );
  const again = await trials.createExperiment({ ...EXPERIMENT, name: "again", seed });
  assert.equal(again.seed, seed);
  assert.deepEqual(cells(again), cells(first));
  const other = await trials.createExperiment({ ...EXPERIMENT, name: "other" });
  assert.notDeepEqual(cells(other), cells(first));

  assert.deepEqual(await trials.experiment(first.id as ExperimentId), first);
  const listed = await trials.experiments("p");
  assert.deepEqual(
    listed.map(({ name }) => name),
    ["other", "again", "draw"],
  );
  assert.deepEqual(await trials.experiments("q"), []);
});

test("what cannot run is refused by the name of its field, and nothing is made", async (t) => {
  await using life = await openTrialLife({});
  const projectsFile = (rest: string) => ({
    file_name: "autocode.yaml",
    folder: life.world.home,
    file_text: `currency: JPY\nbudget: { total: 10, per_trial: 1 }\n${rest}`,
  });
  await life.projects.apply(projectsFile("project: yen\n"));
  await life.projects.apply(projectsFile("project: few\nagents: [aider]\npairs: [any]\n"));
  const catalog = await loadCatalog(join(import.meta.dirname, "../../../models"));
  const scripted = {
    name: "scripted",
    baseUrl: "http://127.0.0.1:1",
    apiKey: null,
    authStyle: "bearer",
    isHosted: false,
    hasContinuousUsage: true,
    hasTokenCount: true,
  } as const;
  const { clock, random, database } = life.world;
  await using wakes = await openWakes(database);
  const trials = createTrials({
    ...{ db: life.db, ledger: life.ledger, projects: life.projects, tasks: life.tasks },
    ...{ layout: life.layout, ids: life.ids, wakes, clock, random },
    traffic: createMemoryTraffic(),
    pairs: createCatalogPairs(
      catalog,
      () => [scripted],
      () => null,
      clock,
    ),
    agents: AGENTS.map(({ facts }) => facts),
  });
  const cell = { ...CELL, pair: "scripted" };
  const experiment = { ...EXPERIMENT, agents: ["aider"], pairs: ["scripted"] };
  const inline = { path: "/nonexistent/repo", instruction: "Do.", test_command: "true" };
  const tooMuch = "9223372036854775808";
  const cases: readonly [string, Partial<NewTrial>, RegExp, string?][] = [
    ["agent", { agent: "nobody" }, /^agent: unknown agent "nobody"; .*aider/],
    ["agent of another project", { project: "few", agent: "qwen-code" }, /^agent: .*: aider$/],
    ["pair", { pair: "nothing" }, /^pair: unknown pair "nothing"; known: .*scripted/],
    ["pair of another project", { project: "few" }, /^pair: .*"scripted"; .*: any$/],
    ["pair without its provider", { pair: "openai" }, /^pair: .*not set up; set OPENAI_API_KEY/],
    ["unpriced pair", { project: "yen" }, /no price in JPY; add models\./, "unpriced_model"],
    ["task", { task: "nothing" }, /^task: unknown task "nothing"; known: task; a folder's path/],
    ["task folder", { task: "/nonexistent/task" }, /^\/nonexistent\/task\/task\.toml is missing/],
    ["repository", { task: inline }, /^path: \/nonexistent\/repo is no git repository; .*git init/],
    ["project", { project: "nothing" }, /^There is no project "nothing"; .*apply$/, "not_found"],
    ["limit", { limit_nanos: tooMuch }, /^limit_nanos: .*at most 9223372036854775807$/],
  ];
  const before = await countMade(life);
  for (const [name, wrong, message, code = "invalid_request"] of cases) {
    await t.test(`a trial's ${name}`, async () => {
      await assert.rejects(trials.create({ ...cell, ...wrong }), { code, message });
    });
  }
  const wrongMatrices: readonly [string, Partial<NewExperiment>, RegExp, string?][] = [
    ["agent", { agents: ["aider", "nobody"] }, /^agents: unknown agent "nobody"/],
    ["pair", { pairs: ["scripted", "nothing"] }, /^pairs: unknown pair "nothing"/],
    ["unpriced pair", { project: "yen" }, /no price in JPY/, "unpriced_model"],
    ["task", { tasks: ["task", "nothing"] }, /^tasks: unknown task "nothing"; known: task/],
    ["size", { tasks: Array(1000).fill("task"), attempts: 11 }, /^attempts: 11000 trials/],
    ["limit", { trial_limit_nanos: tooMuch }, /^trial_limit_nanos: .*at most/],
  ];
  for (const [name, wrong, message, code = "invalid_request"] of wrongMatrices) {
    await t.test(`an experiment's ${name}`, async () => {
      const wanted = trials.createExperiment({ ...experiment, ...wrong });
      await assert.rejects(wanted, { code, message });
    });
  }
  assert.deepEqual(await countMade(life), before);
  assert.equal((await trials.create(cell)).is_scripted, true);
});

test("a resume is refused while its budget is short, and for what is not paused", async () => {
  await using life = await openTrialLife({});
  const { trials, ledger, ids } = life;
  const id = await life.create();
  await assert.rejects(trials.resume(id), {
    code: "conflict",
    message: /is queued; only a paused/,
  });
  await life.engine.advance();
  const token = await life.enrol(id);
  await life.engine.advance();
  const budget = await ledger.findAccount("budget", `trial/${id}`);
  const from = await ledger.findAccount("funding", "organisation/CAD");
  assert.ok(budget !== null && from !== null);
  await life.events.exhausted(id, {
    budget,
    requiredNanos: 3_000_000n,
    availableNanos: 1_000_000n,
  });
  await life.reportAgent(token, "budget");
  await life.engine.advance();
  assert.equal((await trials.get(id)).state, "paused");

  const topUp = (amountNanos: bigint) =>
    ledger.fund({ id: ids.next("transfer"), from, to: budget, amountNanos, reason: "topup" });
  const short = (missing: string) => ({
    code: "budget_exceeded",
    message: `The trial's budget is ${missing} CAD short of the next call; first: autocode budget topup ${id} <amount>`,
  });
  await assert.rejects(trials.resume(id), short("0.002"));
  await topUp(1_999_999n);
  await assert.rejects(trials.resume(id), short("0.000000001"));
  assert.equal((await trials.get(id)).state, "paused");
  await topUp(1n);
  assert.equal((await trials.resume(id)).state, "queued");
  await assert.rejects(trials.resume(id), { code: "conflict" });
});
