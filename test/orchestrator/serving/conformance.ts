/** What every launcher of engines must do, whatever runs them. Each adapter's test calls this. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EngineLauncher, EngineSpec } from "../../../orchestrator/serving/serving.ts";
import { eventually } from "../../support/eventually.ts";

/** Engines are processes, and the machine may be busy. */
const START_MS = 60_000;

/** A launcher that knows of nothing yet; closed, with what it started, by the test. */
export interface LauncherWorld extends AsyncDisposable {
  launcher: EngineLauncher;
  /** Starts an engine, one that dies as it loads if it is said so. */
  start(id: string, options?: { dies: boolean }): Promise<EngineSpec>;
  /** Whether the engine answers calls. */
  answers(spec: EngineSpec): Promise<boolean>;
}

/** @param startMs what an engine may take here from its start to its answer or end. */
export function testLauncher(
  name: string,
  open: () => Promise<LauncherWorld>,
  { startMs = START_MS, skip = false }: { startMs?: number; skip?: string | false } = {},
): void {
  test(`${name}: an engine runs, is one however often it is started, and ends`, {
    skip,
  }, async () => {
    await using world = await open();
    const { launcher } = world;
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
    const spec = await world.start("p.normal");
    await Promise.all([launcher.start(spec), launcher.start(spec)]);
    await eventually(() => world.answers(spec), Boolean, startMs);
    assert.equal((await launcher.condition("p.normal")).state, "running");

    // Another comes and goes beside it.
    const other = await world.start("p.thinking");
    await eventually(() => world.answers(other), Boolean, startMs);
    await launcher.stop("p.thinking");
    assert.deepEqual(await launcher.condition("p.thinking"), { state: "absent" });
    assert.equal(await world.answers(other), false);
    assert.equal(await world.answers(spec), true);

    await launcher.stop("p.normal");
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
    assert.equal(await world.answers(spec), false);
    await launcher.stop("p.normal");
  });

  test(`${name}: one that dies is told of, with how and its last words`, { skip }, async () => {
    await using world = await open();
    const { launcher } = world;
    const ended: string[] = [];
    using _ = launcher.onEnd((id) => ended.push(id));
    await world.start("p.normal", { dies: true });
    const condition = await eventually(
      () => launcher.condition("p.normal"),
      ({ state }) => state === "ended",
      startMs,
    );
    assert.ok(condition.state === "ended");
    assert.notEqual(condition.exit, "");
    assert.match(condition.lastLines.join("\n"), /CUDA out of memory/);
    await eventually(
      () => ended,
      (ids) => ids.includes("p.normal"),
      startMs,
    );
    await launcher.stop("p.normal");
    assert.deepEqual(await launcher.condition("p.normal"), { state: "absent" });
  });

  test(`${name}: its log is read, and followed to its end`, { skip }, async () => {
    await using world = await open();
    const { launcher } = world;
    const signal = AbortSignal.timeout(startMs);
    assert.equal(await launcher.logs("p.normal", { isFollowed: false, signal }), null);
    const spec = await world.start("p.normal");
    const followed = await launcher.logs("p.normal", { isFollowed: true, signal });
    assert.ok(followed !== null);
    const text = { said: "" };
    const read = readAll(followed, text);
    await eventually(() => world.answers(spec), Boolean, startMs);
    const whole = /loading the weights of m[\s\S]*startup complete/;
    await eventually(
      () => text.said,
      (said) => whole.test(said),
      startMs,
    );
    await launcher.stop("p.normal");
    await read;
    assert.equal(signal.aborted, false);
  });
}

async function readAll(bytes: AsyncIterable<Uint8Array>, text: { said: string }): Promise<void> {
  for await (const chunk of bytes) text.said += Buffer.from(chunk).toString("utf8");
}
