/**
 * Goal: an agent allocation runs its CLI, streams what it says, hands back what it changed, and
 * leaves no process behind, whatever the CLI, the repository and the orchestrator do.
 *
 * Method: the worker runs against an orchestrator of the test's own over real HTTP, real git and
 * real processes; the CLI is a script that does as it is told.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { AgentReport, AgentSpec } from "../../orchestrator/contract/worker.ts";
import {
  type OrchestratorOptions,
  openWorkerOrchestrator,
  type WorkerOrchestrator,
} from "../support/worker-orchestrator.ts";
import {
  agentSpec,
  allocationId,
  type FakeScript,
  fakeAgent,
  isRunning,
  makeRepository,
  markedProcesses,
  openFolder,
  runInProcess,
  startWorker,
  VIRTUAL_KEY,
} from "../support/worker-world.ts";

const FILES = {
  "src/sum.js": "export const sum = (a, b) => a - b;\n",
  "test/sum.test.js": "// tests\n",
  ".gitignore": "ignored/\n",
};

interface World extends AsyncDisposable {
  readonly orchestrator: WorkerOrchestrator;
  readonly folder: string;
  readonly spec: AgentSpec;
  readonly report: () => AgentReport;
}

async function openWorld(
  options: { files?: Record<string, string>; spec?: Partial<AgentSpec> } & Partial<
    Pick<OrchestratorOptions, "patch" | "lostAcks">
  > = {},
): Promise<World> {
  const folder = openFolder();
  const { files = FILES, spec: overrides, ...rest } = options;
  const { bundle, baseCommit } = makeRepository(folder.path, files);
  const spec = agentSpec(baseCommit, overrides);
  const orchestrator = await openWorkerOrchestrator({ spec, bundle, ...rest });
  return {
    orchestrator,
    folder: folder.path,
    spec,
    report: () => {
      const [report] = orchestrator.reports;
      assert.ok(report?.purpose === "agent");
      return report;
    },
    [Symbol.asyncDispose]: async () => {
      await orchestrator[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

function runFake({ orchestrator, folder }: World, script: FakeScript) {
  return runInProcess(orchestrator, { folder, agent: fakeAgent(script) });
}

test("a whole run: plan, execute, events, artefacts, diff and report", async () => {
  await using world = await openWorld();
  const { orchestrator, folder } = world;
  const end = await runFake(world, {
    plan: [{ say: "Turn the minus into a plus." }],
    execute: [
      { sayEnv: ["AUTOCODE_TRIAL", "AUTOCODE_API_URL", "FAKE_KEY", "HOME", "NO_PROXY"] },
      { plain: "plain \u001b]0;title\u0007text" },
      { write: "src/sum.js", content: "export const sum = (a, b) => a + b;\n" },
      { write: "src/new.js", content: "export {};\n" },
      { write: "test/sum.test.js", content: "// no tests\n" },
      { write: "ignored/log", content: "x" },
      { write: ".aider.chat.history.md", content: "x" },
      { write: "a.litter", content: "x" },
      { run: "git add -A && git commit -qm 'mine' && rm src/new.js && echo '// b' > src/b.js" },
      { say: "done" },
    ],
  });

  assert.equal(end, "reported");
  assert.deepEqual(world.report(), {
    purpose: "agent",
    outcome: "finished",
    detail: "",
    agent_version: "1.2.3",
    completed_phases: ["plan", "execute"],
    plan_text: "Turn the minus into a plus.",
    diff: {
      files_changed: 3,
      lines_added: 3,
      lines_removed: 2,
      touched_test_files: ["test/sum.test.js"],
    },
    survivors_killed: 0,
  });
  assert.deepEqual(orchestrator.artefactNames(), ["agent.log", "changes.patch", "terminal.cast"]);
  const patch = orchestrator.artefact("changes.patch");
  assert.match(patch, /\+export const sum = \(a, b\) => a \+ b;/);
  assert.doesNotMatch(patch, /ignored|aider|litter|new\.js/);

  const said = orchestrator.eventsOf("agent.message").map(({ text }) => text);
  assert.deepEqual(JSON.parse(String(said[1])), {
    AUTOCODE_TRIAL: world.spec.allocation_id,
    FAKE_KEY: "[key]",
    HOME: join(folder, "allocation/home"),
  });
  assert.deepEqual(said.slice(2), ["done"]);
  assert.deepEqual(
    orchestrator
      .eventsOf("phase.ended")
      .map(({ phase, exit_code, outcome }) => [phase, exit_code, outcome]),
    [
      ["plan", 0, "finished"],
      ["execute", 0, "finished"],
    ],
  );
  const [, started] = orchestrator.eventsOf("phase.started");
  const argv = started?.["argv"];
  assert.equal(Array.isArray(argv) && argv.at(-1), "Turn the minus into a plus.");

  const cast = orchestrator
    .artefact("terminal.cast")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(cast[0].version, 2);
  const shown = cast
    .slice(1)
    .map(([, , data]) => data)
    .join("");
  assert.match(shown, /Turn the minus into a plus\.\r\n/);
  assert.match(shown, /plain text\r\n/);
  for (const name of orchestrator.artefactNames()) {
    assert.ok(!orchestrator.artefact(name).includes(VIRTUAL_KEY), `${name} holds no key`);
  }
  const told = readFileSync(join(folder, "allocation/home/.fake/instruction.txt"), "utf8");
  assert.match(told, /^Make the test pass\.\n\n---\nYour allowance: 0\.5000 CAD of 1\.0000 CAD/);
});

test("a CLI in a terminal sees one, and is recorded as it draws", async () => {
  await using world = await openWorld();
  await runFake(world, {
    terminal: true,
    execute: [{ run: "test -t 0 && test -t 1 && echo a-tty" }],
  });
  assert.equal(world.report().outcome, "finished");
  assert.match(world.orchestrator.artefact("terminal.cast"), /a-tty\\r\\n/);
});

test("a budget stop ends a CLI that is deaf to TERM, and keeps its work", async (t) => {
  await using world = await openWorld();
  const { orchestrator } = world;
  const running = runFake(world, {
    execute: [
      { ignoreTerm: true },
      { write: "src/half.js", content: "// half\n" },
      { survivor: "marked" },
      { say: "working" },
      { sleepMs: 60_000 },
    ],
  });
  await orchestrator.until(
    "the CLI works",
    () => orchestrator.eventsOf("agent.message").length === 2,
  );
  const stoppedAtMs = Date.now();
  orchestrator.direct({ action: "stop", reason: "budget" });
  await orchestrator.until("its end", () => orchestrator.eventsOf("phase.ended").length === 1);
  const tookMs = Date.now() - stoppedAtMs;
  t.diagnostic(`ended after ${tookMs} ms, of which 2 s are meant at most`);
  assert.ok(tookMs < 15_000, `took ${tookMs} ms`);
  assert.deepEqual(markedProcesses(world.spec.allocation_id), []);
  assert.equal(await running, "reported");
  const { outcome, survivors_killed, diff } = world.report();
  assert.deepEqual([outcome, diff.files_changed], ["budget", 1]);
  assert.ok(survivors_killed >= 1);
});

test("SIGTERM leaves no process, and reports that it was killed", async () => {
  await using world = await openWorld();
  const { orchestrator, folder } = world;
  const { child, exited } = startWorker(orchestrator, {
    folder,
    script: {
      execute: [
        { survivor: "marked" },
        { survivor: "unmarked" },
        { sleepMs: 2_500 },
        { say: "up" },
        { sleepMs: 60_000 },
      ],
    },
  });
  await orchestrator.until("it is up", () => orchestrator.eventsOf("agent.message").length === 3);
  const pids = orchestrator
    .eventsOf("agent.message")
    .map(({ text }) => Number(/^survivor (\d+)$/.exec(String(text))?.[1]))
    .filter((pid) => !Number.isNaN(pid));
  assert.equal(pids.length, 2);
  assert.deepEqual(pids.map(isRunning), [true, true]);
  child.kill("SIGTERM");
  assert.equal(await exited, 0);
  assert.equal(world.report().outcome, "killed");
  assert.deepEqual(markedProcesses(world.spec.allocation_id), []);
  assert.deepEqual(pids.map(isRunning), [false, false]);
});

test("survivors of a CLI that ended by itself are killed and counted", async () => {
  await using world = await openWorld();
  await runFake(world, { execute: [{ survivor: "marked" }, { exit: 0 }] });
  assert.equal(world.report().outcome, "finished");
  assert.equal(world.report().survivors_killed, 1);
  assert.deepEqual(markedProcesses(world.spec.allocation_id), []);
});

test("an orchestrator that is away comes back to a trial that went on", async () => {
  await using world = await openWorld();
  const { orchestrator } = world;
  const running = runFake(world, {
    execute: [
      { say: "one" },
      { sleepMs: 1_000 },
      { write: "src/x.js", content: "x\n" },
      { say: "two" },
    ],
  });
  await orchestrator.until("it works", () => orchestrator.eventsOf("agent.message").length === 1);
  orchestrator.setAway(true);
  setTimeout(() => orchestrator.setAway(false), 2_000);
  assert.equal(await running, "reported");
  assert.equal(world.report().outcome, "finished");
  assert.deepEqual(orchestrator.eventsOf("agent.message"), [{ text: "one" }, { text: "two" }]);
});

test("an orchestrator that stays away ends everything", async () => {
  await using world = await openWorld();
  const { orchestrator, folder, spec } = world;
  const agent = fakeAgent({ execute: [{ say: "one" }, { sleepMs: 60_000 }] });
  const running = runInProcess(orchestrator, { folder, agent, config: { orphanMs: 500 } });
  await orchestrator.until("it works", () => orchestrator.eventsOf("agent.message").length === 1);
  orchestrator.setAway(true);
  assert.equal(await running, "abandoned");
  assert.deepEqual(markedProcesses(spec.allocation_id), []);
});

test("a fenced allocation stops at once and reports nothing", async () => {
  await using world = await openWorld();
  const { orchestrator, spec } = world;
  const running = runFake(world, { execute: [{ say: "one" }, { sleepMs: 60_000 }] });
  await orchestrator.until("it works", () => orchestrator.eventsOf("agent.message").length === 1);
  orchestrator.fence();
  assert.equal(await running, "fenced");
  assert.deepEqual(orchestrator.reports, []);
  assert.deepEqual(markedProcesses(spec.allocation_id), []);
});

test("batches whose answer was lost are sent again, and each event counts once", async () => {
  await using world = await openWorld({ lostAcks: 2 });
  await runFake(world, { execute: [{ say: "one" }, { say: "two" }] });
  assert.ok(world.orchestrator.repeatedBatches() >= 1);
  assert.deepEqual(world.orchestrator.eventsOf("agent.message"), [
    { text: "one" },
    { text: "two" },
  ]);
});

test("limits of time and of silence end the CLI", async () => {
  const limits = { wall_ms: 1_000, idle_ms: 60_000, artefact_bytes: 1_000_000 };
  for (const [outcome, given] of [
    ["wall_clock", limits],
    ["idle", { ...limits, wall_ms: 60_000, idle_ms: 1_000 }],
  ] as const) {
    await using world = await openWorld({ spec: { limits: given } });
    await runFake(world, { execute: [{ write: "a.js", content: "" }, { sleepMs: 60_000 }] });
    assert.deepEqual([world.report().outcome, world.report().diff.files_changed], [outcome, 1]);
  }
});

test("a CLI that fails, an unknown agent and a wrong base each end in their own outcome", async () => {
  await using failed = await openWorld();
  await runFake(failed, { execute: [{ exit: 3 }] });
  assert.deepEqual(
    [failed.report().outcome, failed.report().detail],
    ["crash", "ended with exit code 3"],
  );

  await using unknown = await openWorld({ spec: { agent: "nobody" } });
  await runFake(unknown, { execute: [] });
  assert.equal(unknown.report().outcome, "install_failed");

  await using wrong = await openWorld({ spec: { base_commit: "0".repeat(40) } });
  await runFake(wrong, { execute: [] });
  assert.equal(wrong.report().outcome, "workspace_failed");
  assert.match(wrong.report().detail, /not the base/);
});

test("what an agent does to its repository's git runs nothing when its changes are taken", async () => {
  await using world = await openWorld({
    files: { ...FILES, ".gitattributes": "*.js filter=evil diff=evil\n" },
  });
  const proof = join(world.folder, "proof");
  const evil = `sh -c 'touch ${proof}; cat'`;
  await runFake(world, {
    execute: [
      {
        run: [
          `git config filter.evil.clean "${evil}"`,
          `git config filter.evil.smudge "${evil}"`,
          `git config diff.evil.textconv "${evil}"`,
          `git config diff.evil.command "${evil}"`,
          `git config diff.external "${evil}"`,
          "git init -q nested && touch nested/file && git -C nested -c user.name=a -c user.email=a@b add . ",
          "git -C nested -c user.name=a -c user.email=a@b commit -qm nested",
          `git -C nested config core.fsmonitor "${evil}"`,
          `printf '#!/bin/sh\\ntouch ${proof}\\n' > .git/hooks-file`,
          "mkdir -p .git/hooks",
          "for h in post-index-change pre-commit reference-transaction; do cp .git/hooks-file .git/hooks/$h; chmod +x .git/hooks/$h; done",
          "git config --unset core.hooksPath",
          `git config core.fsmonitor "${evil}"`,
          "git config core.worktree /",
          `rm -f ${proof}`,
        ].join("\n"),
      },
      { write: "src/sum.js", content: "changed\n" },
    ],
  });
  assert.equal(world.report().outcome, "finished");
  assert.deepEqual(world.report().diff.files_changed, 1);
  assert.equal(existsSync(proof), false);
  // The traps are live: git as anybody runs it does set one off.
  execFileSync("git", ["-C", join(world.folder, "allocation/workspace/nested"), "status"]);
  assert.equal(existsSync(proof), true);
  const notes = world.orchestrator.eventsOf("trial.note").map(({ message }) => String(message));
  assert.deepEqual(notes, ["left out nested/: a repository of its own"]);
});

test("symbolic links that leave the work tree and files that are too large are left out", async () => {
  await using world = await openWorld({
    spec: { limits: { wall_ms: 60_000, idle_ms: 60_000, artefact_bytes: 100_000 } },
  });
  await runFake(world, {
    execute: [
      { link: "out", to: "/etc/passwd" },
      { link: "src/up", to: "../../private" },
      { link: "into-git", to: ".git/config" },
      { link: "src/fine", to: "../test/sum.test.js" },
      { run: "head -c 200000 /dev/zero > large.bin" },
    ],
  });
  assert.equal(world.report().diff.files_changed, 1);
  assert.match(world.orchestrator.artefact("changes.patch"), /src\/fine/);
  assert.equal(world.orchestrator.eventsOf("trial.note").length, 4);
});

test("a diff over its limit is a fault, not half a diff", async () => {
  await using world = await openWorld({
    spec: { limits: { wall_ms: 60_000, idle_ms: 60_000, artefact_bytes: 1_500 } },
  });
  await runFake(world, {
    execute: ["a", "b", "c"].map((name) => ({
      write: `${name}.txt`,
      content: "line\n".repeat(200),
    })),
  });
  assert.equal(world.report().outcome, "workspace_failed");
  assert.match(world.report().detail, /the diff has \d+ bytes/);
});

test("a link that an earlier phase left does not lead a later phase's files outside", async () => {
  await using world = await openWorld();
  await runFake(world, {
    plan: [{ run: "rm -r $HOME/.fake && ln -s /var $HOME/.fake" }],
    execute: [{ say: "never" }],
  });
  assert.equal(world.report().outcome, "workspace_failed");
  assert.equal(existsSync("/var/instruction.txt"), false);
});

test("as root, the agent runs as the user it is told, or says why not", {
  skip: process.getuid?.() === 0 ? false : "not root",
}, async () => {
  await using world = await openWorld();
  const runAs = { uid: 3_000_011, gid: 3_000_012 };
  const agent = fakeAgent({
    execute: [
      { sayUser: true },
      { run: "cat ../private/source.bundle; ls .." },
      { write: "src/sum.js", content: "mine\n" },
      { run: "git status --porcelain && id" },
      // Cuts every tie there is: no marker, a session of its own, a parent that has ended.
      { run: "env -i setsid sh -c 'sleep 600 & echo lost $!' & wait" },
    ],
  });
  await runInProcess(world.orchestrator, { folder: world.folder, agent, config: { runAs } });
  assert.deepEqual([world.report().outcome, world.report().diff.files_changed], ["finished", 1]);
  assert.deepEqual(world.orchestrator.eventsOf("agent.message"), [{ text: "user 3000011" }]);
  const log = world.orchestrator.artefact("agent.log");
  assert.match(log, /source\.bundle: Permission denied/);
  assert.match(log, /cannot open directory/);
  assert.match(log, / M src\/sum\.js\nuid=3000011 gid=3000012 groups=3000012\n/);

  const lost = Number(/^lost (\d+)$/m.exec(log)?.[1]);
  assert.ok(lost > 1);
  assert.equal(isRunning(lost), false);

  await using closed = await openWorld();
  execFileSync("chmod", ["700", closed.folder]);
  const other = fakeAgent({ execute: [{ sayUser: true }] });
  await runInProcess(closed.orchestrator, {
    folder: closed.folder,
    agent: other,
    config: { runAs },
  });
  assert.deepEqual(closed.orchestrator.eventsOf("agent.message"), [{ text: "user 0" }]);
  assert.match(
    String(closed.orchestrator.eventsOf("trial.note")[0]?.["message"]),
    /cannot pass through/,
  );
});

test("a marker is one allocation's own", () => {
  assert.deepEqual(markedProcesses(allocationId()), []);
});
