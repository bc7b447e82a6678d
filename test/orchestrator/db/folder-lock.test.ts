/**
 * Goal: a lock is one process's at a time, and taking it needs no room on the disk: on one that is
 * full, whoever would make room needs it.
 *
 * Method: a full disk is a process that may write no byte to any file.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { tryLock } from "../../../orchestrator/db/folder-lock.ts";

const MODULE = fileURLToPath(new URL("../../../orchestrator/db/folder-lock.ts", import.meta.url));

test("one has it at a time, also where no byte can be written", async () => {
  const dir = await mkdtemp(join(tmpdir(), "autocode-lock-"));
  try {
    const [old, fresh] = [join(dir, "old.lock"), join(dir, "fresh.lock")];
    const held = tryLock(old);
    assert.ok(held !== null);
    assert.equal(tryLock(old), null);
    assert.equal(await takeWithoutRoom(old), "held");
    held[Symbol.dispose]();
    for (const path of [old, fresh]) assert.equal(await takeWithoutRoom(path), "taken");
    assert.throws(() => tryLock(join(dir, "nowhere", "any.lock")), /unable to open/);
  } finally {
    await rm(dir, { recursive: true });
  }
});

async function takeWithoutRoom(path: string): Promise<string> {
  const code = `
    const { tryLock } = await import(process.argv[1]);
    const held = tryLock(process.argv[2]);
    const other = held === null ? null : tryLock(process.argv[2]);
    process.stdout.write(held === null ? "held" : other === null ? "taken" : "taken twice");`;
  // Without the signal, so that a write fails instead.
  const script = 'trap "" XFSZ; ulimit -f 0; exec "$0" --input-type=module -e "$@"';
  const args = ["-c", script, process.execPath, code, MODULE, path];
  return (await promisify(execFile)("sh", args)).stdout;
}
