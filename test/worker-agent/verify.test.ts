/**
 * Goal: the verdict is the hidden tests' and no one else's, and a verification that could not be
 * done is never taken for a failed or a passed one.
 *
 * Method: a real worker, repository and test processes; the orchestrator is the test's own.
 */
import assert from "node:assert/strict";
import {
  createWriteStream,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";
import { type Header, pack } from "tar-stream";
import type { VerifyReport, VerifySpec } from "../../orchestrator/contract/worker.ts";
import { withRealPaths } from "../../worker-agent/hidden-tests.ts";
import { unpack } from "../../worker-agent/unpack.ts";
import { openWorkerOrchestrator } from "../support/worker-orchestrator.ts";
import {
  makePatch,
  makeRepository,
  markedProcesses,
  openFolder,
  runInProcess,
  startWorker,
  verifySpec,
  writeFiles,
} from "../support/worker-world.ts";

const FILES = {
  "src/sum.js": "export const sum = (a, b) => a - b;\n",
  "test/sum.test.js": [
    'import assert from "node:assert";',
    'import { test } from "node:test";',
    'import { sum } from "../src/sum.js";',
    'test("adds", () => assert.equal(sum(1, 2), 3));',
    'test("is there", () => assert.ok(sum));',
    "",
  ].join("\n"),
  "package.json": '{"type":"module"}\n',
};
const FIX = { "src/sum.js": "export const sum = (a, b) => a + b;\n" };
const TAP_COMMAND = "node --test --test-reporter=tap test/*.test.js";

type Entry = Partial<Header> & { name: string; content?: string };

async function makeTar(file: string, entries: readonly Entry[]): Promise<string> {
  const archive = pack();
  for (const { content = "", ...header } of entries) archive.entry(header, content);
  archive.finalize();
  await pipeline(archive, createWriteStream(file));
  return file;
}

interface Case {
  readonly files?: Record<string, string>;
  readonly change?: (dir: string) => void;
  readonly patch?: Buffer;
  readonly test: VerifySpec["test"];
  readonly tests?: readonly Entry[];
  readonly wallMs?: number;
}

/** The report on one change of the repository, and what the verifier logged. */
async function verifyCase(given: Case): Promise<{ report: VerifyReport; log: string }> {
  using folder = openFolder();
  const source = makeRepository(folder.path, given.files ?? FILES);
  const { change, tests } = given;
  const patch = given.patch ?? (change && makePatch(folder.path, source, change));
  const limits = {
    wall_ms: given.wallMs ?? 30_000,
    idle_ms: 1,
    artefact_bytes: 1_000_000,
  };
  const overrides = { test: given.test, has_hidden_tests: tests !== undefined, limits };
  const spec = verifySpec(source.baseCommit, overrides);
  const archive = tests && (await makeTar(join(folder.path, "tests.tar"), tests));
  await using orchestrator = await openWorkerOrchestrator({
    spec,
    bundle: source.bundle,
    ...(patch && { patch }),
    ...(archive && { tests: archive }),
  });
  assert.equal(await runInProcess(orchestrator, { folder: folder.path }), "reported");
  assert.deepEqual(markedProcesses(spec.allocation_id), []);
  const left = readdirSync(join(folder.path, "allocation"));
  assert.deepEqual(left, ["private"], "nothing is left for others to find");
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "verify");
  const [ended] = orchestrator.eventsOf("verify.ended");
  assert.equal(ended?.["verdict"], report.verdict);
  return { report, log: orchestrator.artefact("verifier.log") };
}

/** All of a report but its duration. */
function plain({
  duration_ms,
  ...report
}: VerifyReport): Omit<VerifyReport, "duration_ms" | "purpose"> {
  assert.ok(duration_ms >= 0);
  const { purpose, ...rest } = report;
  assert.equal(purpose, "verify");
  return rest;
}

function command(text: string): VerifySpec["test"] {
  return { kind: "command", command: text };
}

test("a change that makes the tests pass, with TAP on the output", async () => {
  const { report, log } = await verifyCase({
    change: (dir) => writeFiles(dir, FIX),
    test: command(TAP_COMMAND),
  });
  assert.deepEqual(plain(report), {
    verdict: "passed",
    detail: "2 tests passed",
    reward: 1,
    tests_passed: 2,
    tests_failed: 0,
    flags: [],
  });
  assert.match(log, /^ok 1 - adds/m);
});

test("no change at all, and the tests fail", async () => {
  const { report } = await verifyCase({ test: command(TAP_COMMAND) });
  assert.deepEqual(plain(report), {
    verdict: "failed",
    detail: "1 of 2 tests failed",
    reward: 0,
    tests_passed: 1,
    tests_failed: 1,
    flags: [],
  });
  const { report: silent } = await verifyCase({ patch: Buffer.alloc(0), test: command("exit 3") });
  assert.deepEqual([silent.verdict, silent.detail], ["failed", "ended with 3"]);
});

test("tests that hang fail at their time limit, and leave nothing behind", async () => {
  const { report } = await verifyCase({
    test: command("trap '' TERM; setsid sleep 600 & sleep 600"),
    wallMs: 1_000,
  });
  assert.deepEqual([report.verdict, report.detail], ["failed", "timed out after 1000 ms"]);
});

test("tests that could not be run are an error", async () => {
  const { report: absent } = await verifyCase({ test: command("no-such-command-anywhere") });
  assert.deepEqual([absent.verdict, absent.reward], ["error", null]);
  assert.match(absent.detail, /not found/);

  const script = { kind: "script", path: "tests/test.sh" } as const;
  const { report: noScript } = await verifyCase({ test: script, tests: [{ name: "other.sh" }] });
  assert.deepEqual([noScript.verdict, noScript.reward], ["error", null]);
});

test("a diff that edits, deletes or hides tests is flagged, and judged by the real ones", async () => {
  const { report } = await verifyCase({
    change: (dir) => writeFiles(dir, { "test/sum.test.js": "// nothing to see\n" }),
    test: command(TAP_COMMAND),
  });
  assert.deepEqual([report.verdict, report.flags], ["failed", ["tests_modified"]]);
  assert.match(report.detail, /restored: test\/sum\.test\.js/);

  const { report: hidden } = await verifyCase({
    change: (dir) => {
      rmSync(join(dir, "test"), { recursive: true });
      symlinkSync("/tmp", join(dir, "test"));
    },
    test: command(TAP_COMMAND),
  });
  assert.deepEqual([hidden.verdict, hidden.flags], ["failed", ["tests_modified"]]);
  assert.equal(existsSync("/tmp/sum.test.js"), false);

  const { report: added } = await verifyCase({
    change: (dir) => writeFiles(dir, { ...FIX, "test/more.test.js": "" }),
    test: command(TAP_COMMAND),
  });
  assert.deepEqual([added.verdict, added.flags], ["passed", []]);
});

test("a diff that does not apply, or that leaves the checkout, fails", async () => {
  const diff = (path: string) =>
    `diff --git a/${path} b/${path}\nnew file mode 100644\n--- /dev/null\n+++ b/${path}\n@@ -0,0 +1 @@\n+x\n`;
  const link =
    "diff --git a/door b/door\nnew file mode 120000\n--- /dev/null\n+++ b/door\n@@ -0,0 +1 @@\n+/tmp\n\\ No newline at end of file\n";
  for (const patch of [
    "no diff",
    diff("src/sum.js"),
    diff("../autocode-escaped"),
    diff(".git/hooks/post-checkout"),
    `${link}${diff("door/autocode-escaped")}`,
  ]) {
    const { report } = await verifyCase({ patch: Buffer.from(patch), test: command("true") });
    assert.equal(report.verdict, "failed", patch);
    assert.match(report.detail, /^the diff does not apply to the base commit/);
  }
  assert.equal(existsSync("/tmp/autocode-escaped"), false);
});

test("a command's hidden tests lie beside the checkout", async () => {
  const { report } = await verifyCase({
    change: (dir) => writeFiles(dir, FIX),
    test: command('test ! -e tests && sh "$TESTS_DIR/check.sh" && echo 1..1 && echo ok 1 - hidden'),
    tests: [{ name: "check.sh", mode: 0o755, content: "grep -q 'a + b' src/sum.js\n" }],
  });
  assert.deepEqual([report.verdict, report.tests_passed], ["passed", 1]);
});

test("Harbor's script states its reward, by its own absolute paths", async () => {
  const script = { kind: "script", path: "tests/test.sh" } as const;
  const run = async (lines: string[]) => {
    const content = ["#!/bin/bash", ...lines].join("\n");
    const tests = [
      { name: "./test.sh", content },
      { name: "data/expected", content: "a + b" },
    ];
    const change = (dir: string) => writeFiles(dir, FIX);
    return (await verifyCase({ change, test: script, tests })).report;
  };
  const passed = await run([
    "cd /app && grep -qf /tests/data/expected src/sum.js && echo 1 > /logs/verifier/reward.txt",
  ]);
  assert.deepEqual(plain(passed), {
    verdict: "passed",
    detail: "the hidden tests gave a reward of 1",
    reward: 1,
    tests_passed: null,
    tests_failed: null,
    flags: [],
  });
  const half = await run([
    'echo \'{"style": 1, "tests": 0.5}\' > "$LOGS_DIR/reward.json"',
    "exit 1",
  ]);
  assert.deepEqual([half.verdict, half.reward], ["failed", 0.5]);
  const bad = await run(["echo a lot > /logs/verifier/reward.txt"]);
  assert.deepEqual([bad.verdict, bad.detail], ["error", "reward.txt holds no number from 0 to 1"]);
  const link = await run([
    "echo 1 > /tests/one; ln -s /tests/one /logs/verifier/reward.txt; exit 1",
  ]);
  assert.deepEqual([link.verdict, link.reward], ["failed", 0]);
  const none = await run(["exit 0"]);
  assert.deepEqual([none.verdict, none.detail], ["passed", "ended with 0"]);
});

test("a command's own reward file decides nothing", async () => {
  const { report } = await verifyCase({ test: command("echo 1 > $LOGS_DIR/reward.txt; exit 1") });
  assert.deepEqual([report.verdict, report.reward], ["failed", 0]);
});

test("JUnit reports are counted, and a failure in them outweighs the status", async () => {
  const xml = [
    "<testsuites><testsuite name='a'><testcase name='1'/><testcase name='2'><failure>x</failure>",
    "</testcase><testcase name='3'><skipped/></testcase><testsuite name='b'><testcase name='4'>",
    "<error/></testcase></testsuite></testsuite></testsuites>",
  ].join("");
  const { report } = await verifyCase({ test: command(`echo "${xml}" > $LOGS_DIR/report.xml`) });
  assert.deepEqual([report.verdict, report.tests_passed, report.tests_failed], ["failed", 1, 2]);
});

test("hidden tests that would be unpacked elsewhere are refused", async () => {
  using folder = openFolder();
  const bad: Entry[] = [
    { name: "../escaped" },
    { name: "a/../../escaped" },
    { name: "/tmp/autocode-escaped" },
    { name: "a\\..\\escaped" },
    { name: "link", type: "symlink", linkname: "/tmp" },
    { name: "hard", type: "link", linkname: "/etc/passwd" },
    { name: "pipe", type: "fifo" },
  ];
  for (const entry of bad) {
    const archive = await makeTar(join(folder.path, "bad.tar"), [{ name: "fine" }, entry]);
    const dir = join(folder.path, "out");
    await assert.rejects(unpack(archive, dir), { name: "UnsafeArchive" }, entry.name);
    assert.deepEqual(readdirSync(dir), ["fine"]);
    rmSync(dir, { recursive: true });
  }
  assert.deepEqual(readdirSync(folder.path), ["bad.tar"]);
  const twice = await makeTar(join(folder.path, "twice.tar"), [{ name: "one" }, { name: "one" }]);
  await assert.rejects(unpack(twice, join(folder.path, "out")), { code: "EEXIST" });
  const { report } = await verifyCase({ test: command("true"), tests: [{ name: "../x" }] });
  assert.deepEqual([report.verdict, report.reward], ["error", null]);
});

test("only Harbor's own paths are rewritten", () => {
  const rooms = {
    workspace: "/w",
    tests: "/t",
    logs: "/l",
    home: "/h",
    tmp: "/m",
    private: "/p",
    side: "/s",
  };
  assert.equal(
    withRealPaths(
      'cd /app; x=/tests/a "/logs/verifier" /apple ./app /usr/app /app.js /logs/z',
      rooms,
    ),
    'cd /w; x=/t/a "/l" /apple ./app /usr/app /app.js /l/z',
  );
});

test("main.ts: a worker in a process of its own verifies; SIGTERM leaves it unreported", async () => {
  using folder = openFolder();
  const { bundle, baseCommit } = makeRepository(folder.path, FILES);
  const passing = verifySpec(baseCommit, { test: command('test -z "$AUTOCODE_API_URL"') });
  {
    await using orchestrator = await openWorkerOrchestrator({ spec: passing, bundle });
    assert.equal(await startWorker(orchestrator, { folder: folder.path }).exited, 0);
    const [report] = orchestrator.reports;
    assert.ok(report?.purpose === "verify");
    assert.equal(report.verdict, "passed");
  }
  const hanging = verifySpec(baseCommit, { test: command("echo up; setsid sleep 600") });
  await using orchestrator = await openWorkerOrchestrator({ spec: hanging, bundle });
  const { child, exited } = startWorker(orchestrator, { folder: folder.path });
  await orchestrator.until("it runs", () => orchestrator.artefact("verifier.log") !== "");
  child.kill("SIGTERM");
  assert.equal(await exited, 1);
  assert.deepEqual(orchestrator.reports, []);
  assert.deepEqual(markedProcesses(hanging.allocation_id), []);
});

test("as root, the tests run as the user they are told", {
  skip: process.getuid?.() === 0 ? false : "not root",
}, async () => {
  using folder = openFolder();
  const { bundle, baseCommit } = makeRepository(folder.path, FILES);
  const spec = verifySpec(baseCommit, { test: command("id -u; touch here; ls ../private") });
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle });
  const config = { runAs: { uid: 3_000_021, gid: 3_000_022 } };
  await runInProcess(orchestrator, { folder: folder.path, config });
  assert.match(orchestrator.artefact("verifier.log"), /^3000021\n.*Permission denied/s);
  assert.equal(readFileSync(bundle).length > 0, true);
});
