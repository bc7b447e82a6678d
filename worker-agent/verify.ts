/**
 * A verify allocation: the agent's diff, and nothing else of the agent's, under the hidden tests.
 *
 * Invariant: the checkout is made anew from the base commit; test files of the base that the diff
 * changed or removed are put back; the hidden tests are unpacked beside it only after the diff is
 * in place, and are gone when the allocation ends.
 */
import { join } from "node:path";
import type { VerifyReport, VerifySpec } from "../orchestrator/contract/worker.ts";
import { type Artefact, createArtefact } from "./artefacts.ts";
import { childEnvironment } from "./child-env.ts";
import { openEgress } from "./egress.ts";
import { messageOf, WorkspaceFault } from "./faults.ts";
import { createGit, type Git, splitNul } from "./git.ts";
import { placeHiddenTests, testCommand } from "./hidden-tests.ts";
import type { Job } from "./job.ts";
import { runProcess } from "./process.ts";
import type { Reward } from "./reward.ts";
import { handOver, removeTree } from "./rooms.ts";
import { isTestFile } from "./test-files.ts";
import type { TestCounts } from "./test-report.ts";
import { countTests, rewardIn } from "./test-results.ts";
import { UnsafeArchive } from "./unpack.ts";
import { type Judgement, judge } from "./verdict.ts";
import { applyPatch, checkOut } from "./workspace.ts";

const DETAIL_MAX = 2_000;
const OUTPUT_KEPT_BYTES = 16 * 1_048_576;

interface Judged extends Judgement {
  readonly counts: TestCounts | null;
  /** Test files of the base that the diff changed or removed, and that were put back. */
  readonly restored: readonly string[];
}

/** Runs the allocation to its report; null when it was told to end before there was a verdict. */
export async function verify(job: Job<VerifySpec>): Promise<VerifyReport | null> {
  const { spec, rooms, client, outbox, clock, stop } = job;
  const startedMs = clock.now();
  const log = createArtefact(client.putArtefact, {
    name: "verifier.log",
    maxBytes: spec.limits.artefact_bytes,
    fullNote: "\n[log cut here: it met its limit]\n",
  });
  outbox.emit("verify.started", {});
  let judged: Judged;
  try {
    judged = await judgeChanges(job, log);
  } catch (fault) {
    if (fault === stop.signal.reason) return null;
    if (!(fault instanceof WorkspaceFault) && !(fault instanceof UnsafeArchive)) throw fault;
    const detail = messageOf(fault);
    judged = { verdict: "error", detail, reward: null, counts: null, restored: [] };
  } finally {
    const { tests, workspace, home, tmp, logs, side } = rooms;
    for (const room of [tests, workspace, home, tmp, logs, side]) {
      // What the tests leave behind must not cost them their verdict.
      await removeTree(room);
    }
  }
  // No last word: another allocation will verify what this one was stopped at.
  if (stop.signal.aborted) return null;

  const { verdict, reward, counts, restored } = judged;
  const tests_passed = counts?.passed ?? null;
  const tests_failed = counts?.failed ?? null;
  const duration_ms = Math.max(clock.now() - startedMs, 0);
  outbox.emit("verify.ended", { verdict, tests_passed, tests_failed, duration_ms });
  await job.tolerant(() => log.flush());
  await outbox.flush();
  const note = restored.length === 0 ? "" : `; test files restored: ${restored.join(", ")}`;
  return {
    purpose: "verify",
    verdict,
    detail: `${judged.detail}${note}`.slice(0, DETAIL_MAX),
    reward,
    tests_passed,
    tests_failed,
    flags: restored.length === 0 ? [] : ["tests_modified"],
    duration_ms,
  };
}

async function judgeChanges(job: Job<VerifySpec>, log: Artefact): Promise<Judged> {
  const { spec, rooms, client, stop, runAs } = job;
  const git = createGit(job.path, rooms.private);
  const bundle = join(rooms.private, "source.bundle");
  if (!(await client.source(bundle))) throw new WorkspaceFault("there is no source");
  const source = { bundle, baseCommit: spec.base_commit };
  await checkOut(git, source, rooms.workspace, { signal: stop.signal });
  const patch = join(rooms.private, "changes.patch");
  if (await client.patch(patch)) {
    try {
      await applyPatch(git, rooms.workspace, patch, stop.signal);
    } catch (fault) {
      if (!(fault instanceof WorkspaceFault)) throw fault;
      const detail = `the diff does not apply to the base commit: ${fault.message}`;
      return { verdict: "failed", detail, reward: 0, counts: null, restored: [] };
    }
  }
  const restored = await restoreTests(git, rooms.workspace, spec.base_commit);
  await handOver(rooms.workspace, runAs);
  if (spec.has_hidden_tests) {
    const archive = join(rooms.private, "tests.tar");
    if (!(await client.tests(archive))) {
      throw new WorkspaceFault("the task has hidden tests, but the orchestrator sent none");
    }
    await placeHiddenTests(archive, rooms, runAs);
  }
  return { ...(await runTests(job, log)), restored };
}

async function runTests(job: Job<VerifySpec>, log: Artefact): Promise<Omit<Judged, "restored">> {
  const { spec, rooms, runAs } = job;
  const command = await testCommand(spec, rooms);
  if (command === null) {
    const detail = "the test script is not among the hidden tests";
    return { verdict: "error", detail, reward: null, counts: null };
  }
  await using egress = await openEgress(job, "");
  const output: Buffer[] = [];
  let keptBytes = 0;
  const end = await runProcess(
    job.clock,
    {
      ...command,
      env: {
        ...childEnvironment(job.path, rooms),
        ...egress.env,
        CI: "true",
        TESTS_DIR: rooms.tests,
        LOGS_DIR: rooms.logs,
      },
      cwd: rooms.workspace,
      wrap: egress.wrap,
      terminal: false,
      runAs,
      exclusiveUid: job.exclusiveUid,
      marker: spec.allocation_id,
      wallMs: spec.limits.wall_ms,
      idleMs: null,
      graceMs: job.graceMs,
      watch: job.watch,
      onOutput: (bytes, stream) => {
        log.append(bytes);
        if (stream !== "stdout" || keptBytes > OUTPUT_KEPT_BYTES) return;
        keptBytes += bytes.byteLength;
        output.push(bytes);
      },
    },
    job.stop.signal,
  );
  const counts = await countTests(rooms.logs, Buffer.concat(output).toString("utf8"));
  // A command's reward file is not looked at: the code under test could write one, too.
  const isScript = spec.test.kind === "script";
  const reward: Reward = isScript ? await rewardIn(rooms.logs) : { outcome: "none" };
  return { ...judge(end, reward, counts, spec.limits.wall_ms), counts };
}

/** Test files of the base that differ now, put back as they were; their paths. */
async function restoreTests(git: Git, workspace: string, baseCommit: string): Promise<string[]> {
  const options = { cwd: workspace };
  // Without it, files that only look touched would count as changed.
  await git(["update-index", "-q", "--refresh"], { ...options, statuses: [0, 1] });
  const diff = ["diff-index", "--name-only", "--no-renames", "--diff-filter=MDT", "-z", baseCommit];
  const paths = splitNul(await git([...diff, "--"], options)).filter(isTestFile);
  if (paths.length === 0) return [];
  const checkout = ["--literal-pathspecs", "checkout", "--quiet", "--force", baseCommit];
  const input = paths.map((path) => `${path}\0`).join("");
  await git([...checkout, "--pathspec-from-file=-", "--pathspec-file-nul"], { ...options, input });
  return paths;
}
