import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createWatch, limitVariables, readLimits } from "../../worker-agent/limits.ts";
import { openFolder } from "../support/worker-world.ts";

const MIB = 1_048_576;
const LIMITS = {
  processes: 100,
  memoryBytes: 1_000 * MIB,
  diskBytes: 1_000_000 * MIB,
  diskFreeBytes: 0,
  openFiles: 1_000,
};

test("limits have defaults that fit this machine, and each fault is named", () => {
  const faults: string[] = [];
  const limits = readLimits({ AUTOCODE_LIMIT_DISK_MIB: "100" }, faults);
  assert.deepEqual(faults, []);
  assert.equal(limits.diskBytes, 100 * MIB);
  assert.ok(limits.memoryBytes >= 512 * MIB && limits.memoryBytes <= 16_384 * MIB);
  readLimits({ AUTOCODE_LIMIT_DISK_MIB: "-1", AUTOCODE_LIMIT_OPEN_FILES: "many" }, faults);
  assert.deepEqual(faults, [
    "AUTOCODE_LIMIT_DISK_MIB must be a whole number from 1 to 2147483648",
    "AUTOCODE_LIMIT_OPEN_FILES must be a whole number from 256 to 2147483648",
  ]);
});

test("only what sets limits is handed on", () => {
  const env = { AUTOCODE_LIMIT_PROCESSES: "100", AUTOCODE_LIMIT_OTHER: "1", AUTOCODE_HOME: "/" };
  assert.deepEqual(limitVariables(env), { AUTOCODE_LIMIT_PROCESSES: "100" });
});

test("what is started after the limits has them, and cannot raise them", () => {
  const limits = join(import.meta.dirname, "../../worker-agent/limits.ts");
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      "--input-type=module",
      "--eval",
      `import { spawnSync } from "node:child_process";
      import { limitOurselves } from ${JSON.stringify(limits)};
      const given = ${JSON.stringify({ ...LIMITS, diskBytes: 64 * MIB })};
      const failed = limitOurselves(given, false);
      if (failed.length > 0) throw new Error(failed.join());
      const child = spawnSync("sh", ["-c", "ulimit -Hn; ulimit -Hf; ulimit -Hc"]);
      process.stdout.write(child.stdout);`,
    ],
    { encoding: "utf8" },
  );
  // Blocks of 512 bytes, in dash and bash.
  assert.match(stdout, /^1000\n(131072|65536)\n0\n$/, stderr);
});

test("a watch tells of many processes, and of memory over all of them", async () => {
  using folder = openFolder();
  const watch = createWatch(LIMITS, folder.path);
  assert.equal(watch.look([process.pid]), null);
  assert.equal(watch.look(Array(95).fill(0)), "it runs 95 processes");
  const child = spawn(process.execPath, ["-e", "process.stdin.resume()"]);
  await once(child, "spawn");
  try {
    const small = createWatch({ ...LIMITS, memoryBytes: 1 }, folder.path);
    const said = small.look([process.pid, child.pid ?? 0]);
    assert.match(said ?? "", /^it takes \d+ MiB of memory; its limit is 0 MiB$/);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
});

test("a watch blames an allocation for the disk only when its own folder is why", () => {
  using folder = openFolder();
  // More is to be free than any volume has: somebody filled it.
  const full = { ...LIMITS, diskFreeBytes: Number.MAX_SAFE_INTEGER };
  writeFileSync(join(folder.path, "own"), Buffer.alloc(MIB));
  assert.equal(createWatch(full, folder.path).look([]), null, "not what this one holds");
  const own = createWatch({ ...full, diskBytes: MIB / 2 }, folder.path);
  assert.match(own.look([]) ?? "", /^it takes \d+ MiB of disk; its limit is 1 MiB$/);
});
