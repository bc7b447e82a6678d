/**
 * Goal: a budget too small for its task stops the agent at once, is never overspent, and costs no
 * work: with more money the trial is finished, its CLI in the conversation in which it was
 * stopped. A day's allowance does the same.
 *
 * Method: the real CLIs with a script whose context grows, on budgets that cover the first calls.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import type { Approval } from "../../orchestrator/contract/approvals.ts";
import type { Call } from "../../orchestrator/contract/calls.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import {
  type Ended,
  type Installation,
  makeProject,
  openFolder,
  startInstallation,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";

const STOPPED_WITHIN_MS = 15_000;
const FINISHED_WITHIN_MS = 240_000;

/** Each covers its first call and not its last; all but one are met after the change was made. */
const BUDGETS: Record<string, { limit: string; hasPatch: boolean }> = {
  "qwen-code": { limit: "0.070", hasPatch: true },
  "claude-code": { limit: "0.035", hasPatch: true },
  codex: { limit: "0.034", hasPatch: true },
  opencode: { limit: "0.030", hasPatch: true },
  aider: { limit: "0.0069", hasPatch: false },
};

const LONG_PLAN = Array.from(
  { length: 150 },
  (_, at) => `Step ${at} is to think about step ${at + 1}.`,
);
const SCRIPT = `match: The median of an even number of values is wrong
plan:
  - - read: src/statistics.js
  - - say: |
        Sort a copy of the values as numbers, and return the mean of the two in the middle.
        ${LONG_PLAN.join("\n        ")}
steps:
  - - read: src/statistics.js
  - - edit:
        path: src/statistics.js
        old: |2
            const sorted = values.sort();
            return sorted[Math.floor(sorted.length / 2)];
        new: |2
            const sorted = values.toSorted((a, b) => a - b);
            const middle = Math.floor(sorted.length / 2);
            if (sorted.length % 2 === 1) return sorted[middle];
            return (sorted[middle - 1] + sorted[middle]) / 2;
  - - shell: seq 10000 14000
  - - shell: seq 20000 24000
  - - shell: seq 30000 34000
  - - shell: seq 40000 44000
  - - shell: seq 50000 54000
  - - shell: seq 60000 64000
  - - shell: node --test
  - - say: It is mended.
`;

test("a budget that is too small stops the agent, and more money finishes it", async (t) => {
  await using scripts = await openFolder();
  await writeFile(join(scripts.path, "median.yaml"), SCRIPT);
  await using installation = await startInstallation({ env: { AUTOCODE_SCRIPTS: scripts.path } });
  await makeProject(installation, "example");
  await makeProject(installation, "thrifty", [
    "budget: { total: 25, daily_allowance: 0.035, per_trial: 0.50 }",
  ]);

  const cases = Object.entries(BUDGETS).map(async ([agent, { limit, hasPatch }]) =>
    t.test(agent, { skip: await whyNoAgents(agent) }, async () => {
      const ended = await run(installation, "example", agent, ["--budget", limit]);
      const trial = await isPaused(installation, ended);
      assert.match(ended.err, /budget topup trial_\w+ <amount>/);
      const patch = await installation.cli("trial", "diff", trial.id);
      if (hasPatch) assert.match(patch.out, /^\+.*toSorted/m, "the work is kept");

      const early = await installation.cli("trial", "resume", trial.id);
      assert.equal(early.exit, 3, early.err);
      assert.match(
        early.err,
        /^autocode: The trial's budget is 0\.0\d+ CAD short of the next call/,
      );
      assert.equal((await installation.trial(trial.id)).state, "paused");

      const before = await installation.calls(trial.id);
      await approve(installation, trial, hasPatch);
      await isFinished(installation, trial.id, before);
      await wentOn(installation, trial, before);
    }),
  );
  await Promise.all(cases);

  await t.test("the day's allowance", { skip: await whyNoAgents("claude-code") }, async () => {
    const ended = await run(installation, "thrifty", "claude-code", []);
    const trial = await isPaused(installation, ended);
    assert.match(ended.err, /daily_allowance/);
    const early = await installation.cli("trial", "resume", trial.id);
    assert.equal(early.exit, 3, early.err);
    assert.match(early.err, /^autocode: .*0\.0\d+ CAD short .*daily_allowance/);

    await makeProject(installation, "thrifty", [
      "budget: { total: 25, daily_allowance: 0.50, per_trial: 0.50 }",
    ]);
    const before = await installation.calls(trial.id);
    const resumed = await installation.cli("trial", "resume", trial.id, "--detach");
    assert.equal(resumed.exit, 0, resumed.err);
    await isFinished(installation, trial.id, before);
  });
});

/** What is asked tells the case; its answer is more money and the trial queued, in one. */
async function approve(installation: Installation, trial: Trial, hasPatch: boolean) {
  const shown = await installation.cli("trial", "show", trial.id);
  assert.match(shown.out, /^suggested +0\.\d+ CAD$/m);
  const asked = await installation.json<Approval[]>("approval", "ls");
  assert.equal(asked.filter(({ trial_id }) => trial_id === trial.id).length, 1);
  const { facts, trial_id } = await installation.json<Approval>("approval", "show", trial.id);
  assert.equal(trial_id, trial.id);
  assert.equal(facts?.spent_nanos, trial.budget?.spent_nanos);
  assert.equal(facts?.shortage?.level, "trial");
  assert.equal((facts?.checkpoint.files_changed ?? 0) > 0, hasPatch);
  assert.equal(facts?.checkpoint.has_session, true);
  const granted = await installation.json<Approval>(
    ...["approval", "approve", trial.id, "--amount", "0.40"],
  );
  assert.deepEqual([granted.state, granted.topped_up_nanos], ["granted", "400000000"]);
  const late = await installation.cli("approval", "reject", trial.id, "--reason", "too late");
  assert.equal(late.exit, 1, late.err);
}

/** Its first call after the pause repeats what was said before it. */
async function wentOn(installation: Installation, { id, agent }: Trial, before: readonly Call[]) {
  const events = await installation.events(id);
  const steps = events.map(({ data }) => data["step"]);
  const [kept, restored] = [steps.indexOf("checkpoint"), steps.indexOf("session_restored")];
  assert.ok(kept !== -1 && restored > kept, steps.join(", "));
  assert.deepEqual(
    events.filter(({ type }) => type === "trial.note").map(({ data }) => data["message"]),
    [],
  );
  const first = (await installation.calls(id))[before.length];
  // Aider's two models have conversations of their own: it begins again with the first one's.
  const earlier = agent === "aider" ? before[0] : before.at(-1);
  assert.ok(first !== undefined && earlier !== undefined);
  const [now, then] = [first, earlier].map(({ usage }) => usage.input_tokens);
  assert.ok((now ?? 0) > (then ?? 0), `${now} input tokens after ${then}`);
}

function run(installation: Installation, project: string, agent: string, more: string[]) {
  const what = ["--project", project, "--task", "fix-median", "-a", agent, "-m", "scripted"];
  return installation.cli("trial", "run", ...what, "--json", ...more);
}

/** The gateway refused once money was short, forwarded nothing after, and never over the limit. */
async function isPaused(installation: Installation, { exit, out, err }: Ended): Promise<Trial> {
  assert.equal(exit, 3, `${out}${err}`);
  const trial = JSON.parse(out) as Trial;
  assert.equal(trial.state, "paused");
  assert.equal(trial.verdict, null);
  const { budget } = trial;
  assert.ok(budget !== null);
  const used = BigInt(budget.spent_nanos) + BigInt(budget.reserved_nanos);
  assert.ok(used > 0n && used <= BigInt(budget.funded_nanos), JSON.stringify(budget));

  const events = await installation.events(trial.id);
  const exhausted = events.findIndex(({ type }) => type === "budget.exhausted");
  const paused = events.findIndex(
    ({ type, data }) => type === "trial.state" && data["to"] === "paused",
  );
  assert.ok(exhausted !== -1 && paused > exhausted);
  const refusedAt = Date.parse(events[exhausted]?.at ?? "");
  const calls = await installation.calls(trial.id);
  const after = calls.filter(({ started_at: at }) => Date.parse(at) > refusedAt);
  assert.deepEqual(after, [], "calls that were forwarded after the refusal");
  const [from, to] = [exhausted, paused].map((at) => Date.parse(events[at]?.at ?? ""));
  assert.ok((to ?? 0) - (from ?? 0) < STOPPED_WITHIN_MS, `${(to ?? 0) - (from ?? 0)} ms`);
  const workers = (await installation.processes()).filter(({ command }) =>
    command.includes(`${trial.id}`),
  );
  assert.deepEqual(workers, []);
  return trial;
}

async function isFinished(installation: Installation, id: string, before: readonly Call[]) {
  const trial = await installation.untilState(id, [...TERMINAL, "paused"], FINISHED_WITHIN_MS);
  assert.equal(trial.state, "succeeded", trial.reason ?? "");
  assert.equal(trial.verdict, "passed");
  const calls = await installation.calls(id);
  assert.deepEqual(calls.slice(0, before.length), before, "the earlier calls stay as they were");
  const cost = calls.reduce((sum, call) => sum + BigInt(call.cost_nanos), 0n);
  assert.equal(trial.budget?.spent_nanos, String(cost));
}
