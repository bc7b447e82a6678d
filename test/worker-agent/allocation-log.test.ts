/**
 * Goal: what a worker printed can be read while it runs and after it ended, and logs of ended ones
 * never fill the disk.
 */
import assert from "node:assert/strict";
import { appendFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { keepAllocationLog, readAllocationLog } from "../../worker-agent/allocation-log.ts";

const still = () => false;

test("both outputs, or one of them, before and after its end", async () => {
  await using folder = await openFolder();
  await folder.write("allocation_a", { stderr: "err\n", stdout: "out\n" });
  for (const when of ["while it runs", "afterwards"]) {
    assert.equal(await text(folder.path, "allocation_a", "stderr"), "err\n", when);
    assert.equal(await text(folder.path, "allocation_a", "stdout"), "out\n", when);
    assert.equal(await text(folder.path, "allocation_a", null), "out\nerr\n", when);
    await keepAllocationLog(folder.path, "allocation_a");
    await rm(join(folder.path, "allocation_a"), { recursive: true, force: true });
  }
  assert.equal(await text(folder.path, "allocation_b", null), null);
});

test("one that is followed while it ends is read to its end", async () => {
  await using folder = await openFolder();
  const path = await folder.write("allocation_a", { stderr: "one\n", stdout: "" });
  let looks = 0;
  const isGrowing = async () => {
    looks += 1;
    if (looks !== 2) return looks < 2;
    await appendFile(path, "two\n");
    await keepAllocationLog(folder.path, "allocation_a");
    await rm(join(folder.path, "allocation_a"), { recursive: true });
    return true;
  };
  const options = { output: null, isGrowing };
  assert.equal(await joined(readAllocationLog(folder.path, "allocation_a", options)), "one\ntwo\n");
});

test("no line has another output's in its middle, nor is one cut at the beginning", async () => {
  await using folder = await openFolder();
  const path = await folder.write("allocation_a", { stderr: "a secr", stdout: "out\n" });
  let looks = 0;
  const isGrowing = async () => {
    looks += 1;
    if (looks === 2) await appendFile(path, "et\nand its end");
    return looks < 3;
  };
  const options = { output: null, isGrowing };
  const both = await joined(readAllocationLog(folder.path, "allocation_a", options));
  assert.equal(both, "out\na secret\nand its end");

  const line = `${"x".repeat(99)}\n`;
  await folder.write("allocation_b", { stderr: line.repeat(20_000), stdout: "" });
  await keepAllocationLog(folder.path, "allocation_b");
  await rm(join(folder.path, "allocation_b"), { recursive: true });
  const kept = await text(folder.path, "allocation_b", "stderr");
  assert.equal(kept, line.repeat(Math.floor(2 ** 20 / 100)));
});

test("long logs are cut to their ends, and the oldest go", async () => {
  await using folder = await openFolder();
  const long = `${"x".repeat(3 * 2 ** 20)}the end\n`;
  await folder.write("allocation_000", { stderr: long, stdout: "" });
  await keepAllocationLog(folder.path, "allocation_000");
  await rm(join(folder.path, "allocation_000"), { recursive: true });
  const kept = await text(folder.path, "allocation_000", "stderr");
  assert.equal(kept?.length, 2 ** 20);
  assert.ok(kept.endsWith("the end\n"));
  for (let number = 1; number <= 201; number++) {
    const id = `allocation_${String(number).padStart(3, "0")}`;
    await folder.write(id, { stderr: "x\n", stdout: "" });
    await keepAllocationLog(folder.path, id);
  }
  const names = (await readdir(join(folder.path, "ended-logs"))).toSorted();
  assert.equal(names.length, 200);
  assert.equal(names[0], "allocation_002");
});

async function text(path: string, id: string, output: "stdout" | "stderr" | null) {
  return joined(readAllocationLog(path, id, { output, isGrowing: still }));
}

async function joined(reading: Promise<AsyncIterable<Uint8Array> | null>): Promise<string | null> {
  const pieces = await reading;
  if (pieces === null) return null;
  let all = "";
  for await (const piece of pieces) all += Buffer.from(piece).toString();
  return all;
}

async function openFolder() {
  const path = await mkdtemp(join(tmpdir(), "autocode-log-"));
  return {
    path,
    async write(id: string, { stderr, stdout }: { stderr: string; stdout: string }) {
      const log = join(path, id, "worker.log");
      await mkdir(join(path, id), { recursive: true });
      await writeFile(log, stderr);
      await writeFile(join(path, id, "worker.out.log"), stdout);
      return log;
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
