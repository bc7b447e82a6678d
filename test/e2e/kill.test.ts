/**
 * Goal: nothing that is killed costs a trial its outcome or its owner a second charge: neither the
 * orchestrator in any state, nor the worker-agent, nor PostgreSQL.
 *
 * Method: kill -9 of the real processes at work, then a restart in the same home.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import type { Statement } from "../../orchestrator/contract/budgets.ts";
import type { CheckpointTree } from "../../orchestrator/contract/checkpoints.ts";
import type { TrialEvent } from "../../orchestrator/contract/events.ts";
import type { Trial, TrialState } from "../../orchestrator/contract/trials.ts";
import { eventually } from "../support/eventually.ts";
import {
  type Installation,
  makeProject,
  openFolder,
  runToEnd,
  startInstallation,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";

const skip = await whyNoAgents("claude-code");
/** The tests of the task take their time, so that the verifier can be met at work. */
const SCRIPT = `match: slowly mended
plan: [[{ say: Write it. }]]
steps:
  - - write: { path: mended.txt, content: "yes\\n" }
  - - shell: sleep 2.71
  - - say: It is mended.
delay_ms_per_event: 20
`;

test("kill -9 costs no outcome and no second charge", { skip }, async (t) => {
  await using scripts = await openFolder();
  await writeFile(join(scripts.path, "slow.yaml"), SCRIPT);
  await using installation = await startInstallation({
    env: { AUTOCODE_SCRIPTS: scripts.path, AUTOCODE_CHECKPOINT_EVERY_MS: "1000" },
  });
  await makeProject(installation, "example");
  const repository = await makeRepository(installation);

  for (const state of ["placed", "running", "verifying"] satisfies TrialState[]) {
    await t.test(`the orchestrator, while a trial is ${state}`, async () => {
      const id = await begin(installation, repository);
      await installation.untilState(id, [state]);
      // In the middle of its calls, not before the first.
      if (state === "running") await untilCalls(installation, id, 1);
      const before = await installation.calls(id);
      await installation.kill9();
      await installation.start();
      await endsOnce(installation, id);
      const kept = (await installation.calls(id)).filter((call) =>
        before.some((earlier) => earlier.id === call.id),
      );
      assert.deepEqual(kept, before, "what was charged before is charged as it was");
    });
  }

  await t.test(
    "the worker-agent: its agent goes with it, and the trial is tried again",
    async () => {
      const id = await begin(installation, repository);
      const started = await eventually(
        () => installation.processes(),
        (all) => all.some(({ command }) => command.includes("sleep 2.71")),
        60_000,
      );
      const worker = started.find(({ command }) => command.includes("worker-agent/main.ts"));
      assert.ok(worker !== undefined);
      const agents = started.filter(({ command }) => /claude|sleep 2\.71/.test(command));
      process.kill(worker.pid, "SIGKILL");
      const trial = await endsOnce(installation, id);
      assert.equal(trial.tries, 2);
      const retry = (await installation.events(id)).find(({ type }) => type === "trial.retry");
      assert.equal(retry?.data["failure_class"], "worker_lost");
      await wentOn(installation, id, retry);
      const left = (await installation.processes()).map(({ pid }) => pid);
      for (const { pid } of agents) assert.ok(!left.includes(pid), `${pid} outlived its worker`);
    },
  );

  await t.test("PostgreSQL comes back, and the trial ends", async () => {
    const id = await begin(installation, repository);
    await untilCalls(installation, id, 1);
    const server = (await installation.processes()).find(({ command }) =>
      /postgres.* -D /.test(command),
    );
    assert.ok(server !== undefined, "a server runs");
    process.kill(server.pid, "SIGKILL");
    await endsOnce(installation, id);
  });
});

async function makeRepository(installation: Installation): Promise<string> {
  const path = join(installation.folder, "repository");
  const git = (...args: string[]) =>
    runToEnd("git", ["-c", "user.name=a", "-c", "user.email=a@example.org", ...args]);
  await git("init", "-q", path);
  await writeFile(join(path, "README"), "To be mended.\n");
  await git("-C", path, "add", ".");
  assert.equal((await git("-C", path, "commit", "-qm", "start")).exit, 0);
  return path;
}

/** At the lost worker's last checkpoint: what was planned is not planned again. */
async function wentOn(installation: Installation, id: string, retry: TrialEvent | undefined) {
  const from = retry?.data["checkpoint_id"];
  assert.match(String(from), /^checkpoint_/);
  const after = (await installation.events(id)).filter(({ seq }) => seq > (retry?.seq ?? 0));
  const steps = after.map(({ data }) => `${data["step"]}: ${data["detail"]}`);
  assert.ok(
    steps.some((step) => step.startsWith("resumed: ") && step.endsWith(`from ${from}`)),
    steps.join("\n"),
  );
  const phases = after.filter(({ type }) => type === "phase.started");
  assert.deepEqual(
    phases.map(({ data }) => data["phase"]),
    ["execute"],
  );
  const tree = await installation.json<CheckpointTree>("trial", "checkpoints", id);
  assert.equal(tree.checkpoints.at(-1)?.cause, "end");
  assert.ok(tree.checkpoints.some((checkpoint) => checkpoint.id === from));
}

async function begin(installation: Installation, repository: string): Promise<string> {
  const task = ["-p", repository, "--instruction", "It is to be slowly mended"];
  const decides = ["--test", "sleep 1 && test -f mended.txt"];
  const what = ["--project", "example", "-a", "claude-code", "-m", "scripted", "--detach"];
  return (await installation.json<Trial>("trial", "run", ...task, ...decides, ...what)).id;
}

function untilCalls(installation: Installation, id: string, count: number) {
  const look = () => installation.calls(id);
  return eventually(look, (calls) => calls.length >= count, 60_000);
}

/** One end, of success, told once; every call charged once, nothing held, nothing running. */
async function endsOnce(installation: Installation, id: string): Promise<Trial> {
  const ended = await eventually(
    () => installation.trial(id).catch(() => null),
    (trial) => trial !== null && TERMINAL.includes(trial.state),
    90_000,
  );
  assert.equal(ended?.state, "succeeded", ended?.reason ?? "");
  const events = await installation.events(id);
  const ends = events.filter(
    ({ type, data }) => type === "trial.state" && TERMINAL.includes(data["to"] as TrialState),
  );
  assert.equal(ends.length, 1);
  const trial = await installation.trial(id);
  const calls = await installation.calls(id);
  assert.equal(new Set(calls.map((call) => call.id)).size, calls.length);
  const cost = calls.reduce((sum, call) => sum + BigInt(call.cost_nanos), 0n);
  assert.equal(trial.budget?.reserved_nanos, "0");
  const { lines } = await installation.get<Statement>(`budgets/${id}/statement?limit=200`);
  const posts = lines.filter(({ kind }) => kind === "post");
  // A call that the kill cut short has no row: its reservation is posted in full, once.
  const posted = posts.filter(({ reason }) => reason !== "expired");
  const cut = posts.filter(({ reason }) => reason === "expired");
  const cutNanos = cut.reduce((sum, line) => sum + BigInt(line.amount_nanos), 0n);
  assert.equal(trial.budget?.spent_nanos, String(cost + cutNanos));
  assert.equal(new Set(posted.map((line) => line.transfer_id)).size, posted.length);
  assert.equal(
    posted.reduce((sum, line) => sum + BigInt(line.amount_nanos), 0n),
    cost,
  );
  return trial;
}
