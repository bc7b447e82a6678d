/**
 * Goal: an agent's work is kept while it runs and at each of its ends; a worker that is killed
 * loses nothing but what came after its last checkpoint; and no fault of keeping ends a trial.
 *
 * Method: the real worker and a fake CLI, against the contract's own server.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { goOnFrom } from "../support/worker-checkpoints.ts";
import { openWorkerOrchestrator, type WorkerOrchestrator } from "../support/worker-orchestrator.ts";
import {
  agentSpec,
  type FakeScript,
  fakeAgent,
  makeRepository,
  markedProcesses,
  openFolder,
  runInProcess,
  startWorker,
} from "../support/worker-world.ts";

const FILES = { "a.txt": "a\n", "b.txt": "b\n" };
const OFTEN = { every_ms: 50, bytes_max: 4_000_000 };

const causesOf = ({ checkpoints }: WorkerOrchestrator) =>
  checkpoints.made.map(({ cause }) => cause);
const notesOf = (orchestrator: WorkerOrchestrator) =>
  orchestrator.eventsOf("trial.note").map(({ message }) => String(message));

test("it is kept after a phase, while it changes, and at the end; nothing twice", async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, FILES);
  const spec = agentSpec(source.baseCommit, { checkpoints: OFTEN });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  const script: FakeScript = {
    plan: [{ say: "the plan" }],
    execute: [
      { run: "mkdir -p $HOME/.fake/session; echo s > $HOME/.fake/session/a" },
      { write: "a.txt", content: "half\n" },
      { say: "half" },
      { run: "while [ ! -e $HOME/go-on ]; do sleep 0.02; done" },
      { remove: "b.txt" },
    ],
  };
  const ending = runInProcess(orchestrator, { folder: folder.path, agent: fakeAgent(script) });
  const isHalf = () =>
    orchestrator.checkpoints.made.some(({ cause, manifest }) => {
      return cause === "periodic" && manifest.work.some(({ path }) => path === "a.txt");
    });
  await orchestrator.until("it is kept while it runs", isHalf);
  writeFileSync(join(folder.path, "allocation/home/go-on"), "");
  assert.equal(await ending, "reported");

  const { made, puts, blobs } = orchestrator.checkpoints;
  assert.equal(made.filter(({ cause }) => cause === "phase").length, 1);
  const [afterPlan, last] = [made.find(({ cause }) => cause === "phase"), made.at(-1)];
  assert.deepEqual(
    [afterPlan?.phase, afterPlan?.resume.completed_phases, afterPlan?.resume.plan_text],
    ["plan", ["plan"], "the plan"],
  );
  assert.deepEqual(
    [last?.cause, last?.resume.completed_phases, last?.resume.session?.phase],
    ["end", ["plan", "execute"], "execute"],
  );
  assert.deepEqual(
    last?.manifest.work.map(({ path, type }) => [path, type]),
    [
      ["a.txt", "file"],
      ["b.txt", "deleted"],
    ],
  );
  assert.equal(puts.contents, blobs.size, "each content was sent once");
  assert.deepEqual(
    made.map(({ sequence }) => sequence),
    made.map((_, index) => index + 1),
  );
  const prints = made
    .filter(({ cause }) => cause === "periodic")
    .map(({ manifest, resume, phase }) => JSON.stringify([manifest, resume, phase]));
  assert.equal(new Set(prints).size, prints.length, "what did not change is not kept again");
  const steps = orchestrator.eventsOf("worker.step").filter(({ step }) => step === "checkpoint");
  assert.equal(steps.length, made.length);
  assert.deepEqual(notesOf(orchestrator), []);
});

test("a worker killed in the middle: another goes on with its files, plan and session", async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, FILES);
  const script: FakeScript = {
    plan: [{ say: "the plan" }],
    execute: [
      { write: "src/half.js", content: "half\n" },
      { run: "mkdir -p $HOME/.fake/session; echo kept > $HOME/.fake/session/a" },
      { say: "half" },
      { sleepMs: 60_000 },
    ],
  };
  const spec = agentSpec(source.baseCommit, { checkpoints: OFTEN });
  const first = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  await using _first = first;
  const worker = startWorker(first, { folder: folder.path, script });
  const isKept = () =>
    first.checkpoints.made.some(({ manifest, resume }) => {
      return manifest.work.length === 1 && resume.session !== undefined;
    });
  await first.until("half of it is kept", isKept);
  worker.child.kill("SIGKILL");
  await worker.exited;
  for (const pid of markedProcesses(spec.allocation_id)) process.kill(pid, "SIGKILL");
  assert.equal(first.reports.length, 0);

  using elsewhere = openFolder();
  const kept = first.checkpoints.made.at(-1);
  assert.ok(kept !== undefined);
  const { resume, checkpoint } = await goOnFrom(first.checkpoints, kept);
  const next = agentSpec(source.baseCommit, { resume });
  await using second = await openWorkerOrchestrator({
    ...{ spec: next, bundle: source.bundle, checkpoint },
  });
  const agent = fakeAgent({
    plan: [{ exit: 9 }],
    execute: [{ exit: 9 }],
    resumed: [
      { run: "cat src/half.js $HOME/.fake/session/a > both.txt" },
      { write: "src/more.js", content: "more\n" },
    ],
  });
  assert.equal(await runInProcess(second, { folder: elsewhere.path, agent }), "reported");
  const [report] = second.reports;
  assert.ok(report?.purpose === "agent");
  assert.deepEqual(
    [report.outcome, report.completed_phases, report.plan_text, report.diff.files_changed],
    ["finished", ["plan", "execute"], "the plan", 3],
  );
  const workspace = join(elsewhere.path, "allocation/workspace");
  assert.equal(readFileSync(join(workspace, "both.txt"), "utf8"), "half\nkept\n");
  const steps = second.eventsOf("worker.step").map(({ step, detail }) => `${step}: ${detail}`);
  assert.ok(steps.includes("resumed: 1 files from checkpoint_1"), steps.join("\n"));
  assert.ok(steps.includes("session_restored: execute"), steps.join("\n"));
});

test("the causes of its ends", async (t) => {
  for (const [reason, causes] of [
    ["budget", ["pause"]],
    ["shutdown", ["pause"]],
    ["cancelled", ["end"]],
  ] as const) {
    await t.test(reason, async () => {
      using folder = openFolder();
      const source = makeRepository(folder.path, FILES);
      const spec = agentSpec(source.baseCommit);
      await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
      const agent = fakeAgent({ execute: [{ say: "ready" }, { sleepMs: 60_000 }] });
      const ending = runInProcess(orchestrator, { folder: folder.path, agent });
      await orchestrator.until("the CLI works", () => {
        return orchestrator.eventsOf("agent.message").length > 0;
      });
      orchestrator.direct({ action: "stop", reason });
      await ending;
      assert.deepEqual(causesOf(orchestrator), causes);
    });
  }
  await t.test("fenced", async () => {
    using folder = openFolder();
    const source = makeRepository(folder.path, FILES);
    const spec = agentSpec(source.baseCommit);
    await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
    const agent = fakeAgent({ execute: [{ say: "ready" }, { sleepMs: 60_000 }] });
    const ending = runInProcess(orchestrator, { folder: folder.path, agent });
    await orchestrator.until("the CLI works", () => {
      return orchestrator.eventsOf("agent.message").length > 0;
    });
    orchestrator.fence();
    assert.equal(await ending, "fenced");
    assert.deepEqual(causesOf(orchestrator), []);
  });
});

test("one that would be too large is a note, said once, and the trial goes on", async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, FILES);
  const checkpoints = { every_ms: 20, bytes_max: 1_000 };
  const spec = agentSpec(source.baseCommit, { checkpoints });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  const agent = fakeAgent({
    execute: [{ run: "head -c 2000 /dev/zero > zeros" }, { say: "x" }, { sleepMs: 700 }],
  });
  assert.equal(await runInProcess(orchestrator, { folder: folder.path, agent }), "reported");
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "agent");
  assert.deepEqual([report.outcome, report.diff.files_changed], ["finished", 1]);
  assert.deepEqual(notesOf(orchestrator), [
    "No checkpoint was made: it would have more than the 1000 bytes that it may have",
  ]);
});

test("contents that were collected meanwhile are sent again", async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, FILES);
  const spec = agentSpec(source.baseCommit, { checkpoints: OFTEN });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
  const agent = fakeAgent({
    execute: [
      { write: "new.txt", content: "new\n" },
      { say: "written" },
      { run: "while [ ! -e $HOME/go-on ]; do sleep 0.02; done" },
    ],
  });
  const ending = runInProcess(orchestrator, { folder: folder.path, agent });
  await orchestrator.until("it is kept", () => {
    return orchestrator.checkpoints.made.some(({ manifest }) => manifest.work.length === 1);
  });
  orchestrator.checkpoints.blobs.clear();
  writeFileSync(join(folder.path, "allocation/home/go-on"), "");
  assert.equal(await ending, "reported");
  assert.equal(orchestrator.checkpoints.made.at(-1)?.cause, "end");
  assert.equal(orchestrator.checkpoints.blobs.size, 1);
  assert.deepEqual(notesOf(orchestrator), []);
});

test("a checkpoint that is gone or damaged ends the allocation before it begins", async (t) => {
  using folder = openFolder();
  const source = makeRepository(folder.path, FILES);
  const wanted = { id: "checkpoint_1", manifest_sha256: "0".repeat(64) };
  const resume = { completed_phases: [], plan_text: null, checkpoint: wanted };
  for (const [name, checkpoint, why] of [
    ["gone", undefined, /checkpoint_1 was not restored: there is no such checkpoint/],
    ["no archive", Buffer.from("none"), /checkpoint_1 was not restored: /],
  ] as const) {
    await t.test(name, async () => {
      using own = openFolder();
      const spec = agentSpec(source.baseCommit, { resume });
      const given = checkpoint === undefined ? {} : { checkpoint };
      await using orchestrator = await openWorkerOrchestrator({
        ...{ spec, bundle: source.bundle, ...given },
      });
      const agent = fakeAgent({ execute: [{ say: "begun" }] });
      await runInProcess(orchestrator, { folder: own.path, agent });
      const [report] = orchestrator.reports;
      assert.ok(report?.purpose === "agent");
      assert.equal(report.outcome, "workspace_failed");
      assert.match(report.detail, why);
      assert.deepEqual(orchestrator.eventsOf("agent.message"), []);
    });
  }
});
