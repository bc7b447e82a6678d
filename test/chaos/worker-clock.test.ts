/**
 * Goal (R14): a worker whose machine's clock is set an hour forward, or back, in the middle of its
 * work ends its agent neither early nor late, and reports as ever.
 *
 * Method: the real `worker-agent/main.ts` under libfaketime (Debian's package `faketime`), whose
 * time is stepped while the tests of a task run, with a limit of time that is far less than a step.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openWorkerOrchestrator } from "../support/worker-orchestrator.ts";
import { makeRepository, openFolder, startWorker, verifySpec } from "../support/worker-world.ts";

const WALL_MS = 120_000;
const library = findLibrary();
const skip = whyNot();

const SCRIPT = "echo begun; sleep 1.5";

for (const [name, step] of [
  ["forward", "+3600"],
  ["back", "-3600"],
] as const) {
  test(`a worker's clock is set an hour ${name}`, { skip }, async () => {
    using folder = openFolder();
    const { bundle, baseCommit } = makeRepository(folder.path, { "a.txt": "one\n" });
    const limits = { wall_ms: WALL_MS, idle_ms: WALL_MS, artefact_bytes: 1_000_000 };
    const spec = verifySpec(baseCommit, { test: { kind: "command", command: SCRIPT }, limits });
    await using orchestrator = await openWorkerOrchestrator({ spec, bundle });
    const time = join(folder.path, "time");
    writeFileSync(time, "+0");
    const { exited } = startWorker(orchestrator, {
      folder: folder.path,
      env: {
        LD_PRELOAD: library ?? "",
        FAKETIME_TIMESTAMP_FILE: time,
        FAKETIME_NO_CACHE: "1",
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
      },
    });
    await orchestrator.until("it works", () => orchestrator.artefact("verifier.log") !== "");
    // Whole at once: it is read again at every look at the clock.
    writeFileSync(`${time}.new`, step);
    renameSync(`${time}.new`, time);
    assert.equal(await exited, 0);
    const [report] = orchestrator.reports;
    assert.ok(report?.purpose === "verify");
    assert.deepEqual([report.verdict, report.detail], ["passed", "ended with 0"]);
    assert.ok(report.duration_ms > 1_000 && report.duration_ms < WALL_MS, `${report.duration_ms}`);
  });
}

function findLibrary(): string | null {
  const given = process.env["AUTOCODE_TEST_FAKETIME"];
  if (given !== undefined) return given;
  const folders = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
  const found = folders.flatMap((folder) =>
    existsSync(join(folder, "faketime"))
      ? readdirSync(join(folder, "faketime")).map((file) => join(folder, "faketime", file))
      : [],
  );
  return found.find((file) => file.endsWith("/libfaketimeMT.so.1")) ?? null;
}

function whyNot(): string | false {
  if (library !== null) return false;
  const reason = "libfaketime is not here: apt-get install faketime";
  if (process.env["AUTOCODE_REQUIRE_ENGINES"] === "all") assert.fail(`required, but ${reason}`);
  return reason;
}
