/** Goal: the first signal asks a process to end, the second one ends it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

const MODULE = join(import.meta.dirname, "../../../orchestrator/runtime/stop-signal.ts");
const PROGRAM = `
  const { aborted, stopSignal } = await import(${JSON.stringify(MODULE)});
  const stopping = stopSignal();
  setInterval(() => {}, 1_000);
  console.log("ready");
  await aborted(stopping);
  await aborted(stopping);
  console.log("asked");
`;

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  test(`${signal}: once to be asked, twice to be ended`, async () => {
    const child = spawn(process.execPath, ["--input-type=module", "--eval", PROGRAM], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, "ready");
    child.kill(signal);
    assert.equal((await lines.next()).value, "asked");
    child.kill(signal);
    assert.deepEqual(await exited, [1, null]);
  });
}
