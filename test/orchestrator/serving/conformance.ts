/** What every launcher of engines must do, whatever runs them. Each adapter's test calls this. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import type { EngineLauncher, EngineSpec } from "../../../orchestrator/serving/serving.ts";
import { eventually } from "../../support/eventually.ts";

const TRIES_MAX = 5;
/** Engines are processes, and the machine may be busy. */
const START_MS = 60_000;
const FAKE = join(import.meta.dirname, "../../support/fake-engine.ts");

/** An engine that does as its arguments say. */
export function fakeSpec(id: string, port: number, ...more: string[]): EngineSpec {
  const argv = [process.execPath, FAKE, "--model", "m", "--port", String(port), ...more];
  return { id, model: "m", argv, env: {}, host: "127.0.0.1", port };
}

/** Starts it at a port that nobody else took in between. */
export async function startOnFreePort(
  launcher: EngineLauncher,
  id: string,
  ...more: string[]
): Promise<EngineSpec> {
  for (let tries = 0; ; tries++) {
    const spec = fakeSpec(id, await freePort(), ...more);
    try {
      await launcher.start(spec);
      return spec;
    } catch (error) {
      if (tries >= TRIES_MAX || !/ is taken by another program/.test(String(error))) throw error;
    }
  }
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  assert.ok(typeof address === "object" && address !== null);
  return address.port;
}

export function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/health`).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** @param open a launcher that knows of nothing yet; closed, with what it started, by the test. */
export function testLauncher(name: string, open: () => Promise<EngineLauncher>): void {
  test(`${name}: an engine runs, is one however often it is started, and ends`, async () => {
    await using launcher = await open();
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
    const spec = await startOnFreePort(launcher, "p.normal");
    const { port } = spec;
    await Promise.all([launcher.start(spec), launcher.start(spec)]);
    await eventually(() => answers(port), Boolean, START_MS);
    assert.equal((await launcher.condition("p.normal")).state, "running");

    await launcher.stop("p.normal");
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
    assert.equal(await answers(port), false);
    await launcher.stop("p.normal");
  });

  test(`${name}: one that dies is told of, with how and its last words`, async () => {
    await using launcher = await open();
    const ended: string[] = [];
    using _ = launcher.onEnd((id) => ended.push(id));
    await startOnFreePort(launcher, "p.normal", "--die", "1");
    const condition = await eventually(
      () => launcher.condition("p.normal"),
      ({ state }) => state === "ended",
      START_MS,
    );
    assert.ok(condition.state === "ended");
    assert.match(condition.exit, /1/);
    assert.match(condition.lastLines.at(-1) ?? "", /CUDA out of memory/);
    await eventually(
      () => ended,
      (ids) => ids.includes("p.normal"),
      START_MS,
    );
    await launcher.stop("p.normal");
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
  });

  test(`${name}: its log is read, and followed to its end`, async () => {
    await using launcher = await open();
    const signal = AbortSignal.timeout(START_MS);
    assert.equal(await launcher.logs("p.normal", { isFollowed: false, signal }), null);
    const { port } = await startOnFreePort(launcher, "p.normal");
    const followed = await launcher.logs("p.normal", { isFollowed: true, signal });
    assert.ok(followed !== null);
    await eventually(() => answers(port), Boolean, START_MS);
    const text = readAll(followed);
    await launcher.stop("p.normal");
    assert.match(await text, /loading the weights of m[\s\S]*startup complete/);
  });

  test(`${name}: a port that is taken, and a program that is not there, are refused`, async () => {
    await using launcher = await open();
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const address = other.address();
    assert.ok(typeof address === "object" && address !== null);
    const taken = launcher.start(fakeSpec("p.normal", address.port));
    await assert.rejects(taken, (error) => {
      assert.ok(error instanceof Problem);
      assert.equal(error.code, "conflict");
      assert.match(error.message, new RegExp(`:${address.port} is taken by another program`));
      return true;
    });
    await new Promise((resolve) => other.close(resolve));
    const spec = { ...fakeSpec("p.normal", await freePort()), argv: ["/nowhere/python"] };
    await assert.rejects(launcher.start(spec), /nowhere\/python could not be started/);
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
  });
}

async function readAll(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}
