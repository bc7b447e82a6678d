/**
 * Goal: engines are real processes that outlive whoever started them and are found again, never
 * started twice, and leave nothing behind.
 *
 * Method: the port's suite, and a fake engine started by a process that is killed.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock as clock } from "../../../orchestrator/runtime/clock.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openProcesses } from "../../../orchestrator/serving/processes.ts";
import { eventually } from "../../support/eventually.ts";
import { answers, startOnFreePort, testLauncher } from "./conformance.ts";

const log = createLog("silent");

function openIn(folder: string) {
  return openProcesses(
    { clock, log },
    {
      dir: join(folder, "engines"),
      logsDir: join(folder, "logs"),
      env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
      graceMs: 5_000,
      pollMs: 10,
    },
  );
}

testLauncher("processes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  const launcher = await openIn(folder);
  return {
    ...launcher,
    [Symbol.asyncDispose]: async () => {
      await launcher.stop("p.normal");
      await launcher[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
});

test("one whose starter was killed before it wrote it down is found by who is open already", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  const starts = join(folder, "starts");
  await using launcher = await openIn(folder);
  await using other = await openIn(folder);
  const spec = await startOnFreePort(launcher, "p.normal", "--starts", starts);
  await eventually(() => answers(spec.port), Boolean, 60_000);
  const written = join(folder, "engines/p.normal.json");
  await rm(written);
  await other.start(spec);
  assert.equal((await other.condition("p.normal")).state, "running");
  assert.equal(readFileSync(starts, "utf8").trim().split("\n").length, 1);
  await rm(written);
  await other.stop("p.normal");
  assert.equal(await answers(spec.port), false);
  await rm(folder, { recursive: true });
});

test("an engine whose launcher is gone is adopted by the next, written down or not", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  const starts = join(folder, "starts");
  const first = await openIn(folder);
  const spec = await startOnFreePort(first, "p.normal", "--starts", starts);
  await eventually(() => answers(spec.port), Boolean, 60_000);
  await first[Symbol.asyncDispose]();

  const second = await openIn(folder);
  assert.equal((await second.condition("p.normal")).state, "running");
  await second.start(spec);
  await second[Symbol.asyncDispose]();

  // As if its starter had been killed before it wrote it down.
  await rm(join(folder, "engines/p.normal.json"));
  await using third = await openIn(folder);
  assert.equal((await third.condition("p.normal")).state, "running");
  const ended: string[] = [];
  using _ = third.onEnd((id) => ended.push(id));
  const pids = readFileSync(starts, "utf8").trim().split("\n");
  assert.equal(pids.length, 1);
  process.kill(Number(pids[0]), "SIGKILL");
  await eventually(
    () => ended,
    (ids) => ids.includes("p.normal"),
    60_000,
  );
  assert.equal((await third.condition("p.normal")).state, "ended");
  await third.stop("p.normal");
  await rm(folder, { recursive: true });
});
