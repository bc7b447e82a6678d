/**
 * Goal: engines are real processes that outlive whoever started them and are found again, never
 * started twice, and leave nothing behind.
 *
 * Method: the port's suite, and a fake engine started by a process that is killed.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock as clock } from "../../../orchestrator/runtime/clock.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openProcesses } from "../../../orchestrator/serving/processes.ts";
import type { EngineLauncher, EngineSpec } from "../../../orchestrator/serving/serving.ts";
import { eventually } from "../../support/eventually.ts";
import { pairPlan } from "../../support/model-plan.ts";
import { testLauncher } from "./conformance.ts";

const log = createLog("silent");
const TRIES_MAX = 5;
const FAKE = join(import.meta.dirname, "../../support/fake-engine.ts");

/** An engine that does as its arguments say. */
function fakeSpec(id: string, baseUrl: string, ...more: string[]): EngineSpec {
  const { port } = new URL(baseUrl);
  const argv = [process.execPath, FAKE, "--model", "m", "--port", port, ...more];
  return { id, model: "m", program: { kind: "command", argv, env: {} }, baseUrl };
}

/** Starts it at a port that nobody else took in between. */
async function startOnFreePort(
  launcher: EngineLauncher,
  id: string,
  ...more: string[]
): Promise<EngineSpec> {
  for (let tries = 0; ; tries++) {
    const [baseUrl = ""] = await launcher.addresses(pairPlan());
    const spec = fakeSpec(id, baseUrl, ...more);
    try {
      await launcher.start(spec);
      return spec;
    } catch (error) {
      if (tries >= TRIES_MAX || !/ is taken by another program/.test(String(error))) throw error;
    }
  }
}

function answers({ baseUrl }: EngineSpec): Promise<boolean> {
  return fetch(`${baseUrl}/health`).then(
    ({ ok }) => ok,
    () => false,
  );
}

function openIn(folder: string) {
  return openProcesses(
    { clock, log },
    {
      dir: join(folder, "engines"),
      logsDir: join(folder, "logs"),
      host: "127.0.0.1",
      env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
      graceMs: 5_000,
      pollMs: 10,
    },
  );
}

testLauncher("processes", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  const launcher = await openIn(folder);
  const started = new Set<string>();
  return {
    launcher,
    answers,
    start: (id, options) => {
      started.add(id);
      return startOnFreePort(launcher, id, ...(options?.dies ? ["--die", "1"] : []));
    },
    [Symbol.asyncDispose]: async () => {
      for (const id of started) await launcher.stop(id);
      await launcher[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
});

test("a port that is taken, a program that is not there, and another's are refused", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  await using launcher = await openIn(folder);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const address = other.address();
  assert.ok(typeof address === "object" && address !== null);
  const taken = launcher.start(fakeSpec("p.normal", `http://127.0.0.1:${address.port}`));
  await assert.rejects(taken, (error) => {
    assert.ok(error instanceof Problem);
    assert.equal(error.code, "conflict");
    assert.match(error.message, new RegExp(`:${address.port} is taken by another program`));
    return true;
  });
  await new Promise((resolve) => other.close(resolve));
  const [baseUrl = ""] = await launcher.addresses(pairPlan());
  const nowhere = { kind: "command", argv: ["/nowhere/python"], env: {} } as const;
  const spec = { ...fakeSpec("p.normal", baseUrl), program: nowhere };
  await assert.rejects(launcher.start(spec), /nowhere\/python could not be started/);
  const rays = { kind: "application", application: {} } as const;
  await assert.rejects(launcher.start({ ...spec, program: rays }), /for another launcher/);
  assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
  await rm(folder, { recursive: true });
});

test("one whose starter was killed before it wrote it down is found by who is open already", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  const starts = join(folder, "starts");
  await using launcher = await openIn(folder);
  await using other = await openIn(folder);
  const spec = await startOnFreePort(launcher, "p.normal", "--starts", starts);
  await eventually(() => answers(spec), Boolean, 60_000);
  const written = join(folder, "engines/p.normal.json");
  await rm(written);
  await other.start(spec);
  assert.equal((await other.condition("p.normal")).state, "running");
  assert.equal(readFileSync(starts, "utf8").trim().split("\n").length, 1);
  await rm(written);
  await other.stop("p.normal");
  assert.equal(await answers(spec), false);
  await rm(folder, { recursive: true });
});

test("an engine whose launcher is gone is adopted by the next, written down or not", async () => {
  const folder = await mkdtemp(join(tmpdir(), "autocode-engines-"));
  const starts = join(folder, "starts");
  const first = await openIn(folder);
  const spec = await startOnFreePort(first, "p.normal", "--starts", starts);
  await eventually(() => answers(spec), Boolean, 60_000);
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
