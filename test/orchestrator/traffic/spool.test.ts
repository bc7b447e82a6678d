/**
 * Goal: whatever happens to the process or its disk, a record that was acknowledged is in the spool
 * once, numbers have no gap, and what was refused is not there under a number of its own.
 *
 * Method: the real spool on a real disk; a disk that fails is the real one with a switch. A model
 * (a list of what was acknowledged) goes beside it through drawn sequences of steps.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { openSpool, type Spool } from "../../../orchestrator/traffic/spool.ts";
import { localDisk, type SpoolDisk } from "../../../orchestrator/traffic/spool-disk.ts";
import { segmentsIn, settleFolder } from "../../../orchestrator/traffic/spool-folder.ts";
import { eventually } from "../../support/eventually.ts";

const WRITER = fileURLToPath(new URL("spool-writer.ts", import.meta.url));
const SEED = Number(process.env["SEED"] ?? 7);
const ids = createIds({ now: () => 1_000 }, seededRandom(3));
const log = createLog("silent");

interface World extends AsyncDisposable {
  dir: string;
  folder: string;
  open(): Promise<Spool>;
  /** Why the disk fails; null when it does not. */
  disk: { fault: string | null };
  /** What whoever drains it would read, in order. */
  numbers(): Promise<[sequence: number, value: number][]>;
}

async function openWorld(bytesMax = 2 ** 30): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), "autocode-spool-"));
  const id = ids.next("process");
  const facts = { door: "egress", engine: "embedded", host: "here", startedAtMs: 0 } as const;
  const source = { id, ...facts };
  const folder = join(dir, id);
  const disk: { fault: string | null } = { fault: null };
  const options = { segmentBytes: 2_000, sealAfterMs: 20, healEveryMs: 20 };
  return {
    dir,
    folder,
    disk,
    open: () => openSpool({ dir, source, bytesMax, log, disk: failing(disk), ...options }),
    numbers: () => readNumbers(folder, id),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  };
}

async function readNumbers(folder: string, id: string): Promise<[number, number][]> {
  await settleFolder(folder, id);
  const lines: string[] = [];
  for (const { path } of await segmentsIn(folder)) {
    lines.push(...(await readFile(path, "utf8")).split("\n").filter((line) => line !== ""));
  }
  return lines.map((line) => {
    const { source_id, sequence, value, number } = JSON.parse(line);
    assert.equal(source_id, id);
    return [sequence, value ?? number];
  });
}

/** The real disk, but while it has a fault: then half of a write is done, and no more. */
function failing(state: { fault: string | null }): SpoolDisk {
  const check = () => {
    if (state.fault === null) return;
    throw Object.assign(new Error(`${state.fault}: the disk says no`), { code: state.fault });
  };
  return {
    ...localDisk,
    create: async (path) => {
      check();
      const file = await localDisk.create(path);
      return {
        write: async (bytes, at) => {
          if (state.fault !== null) await file.write(bytes.subarray(0, bytes.length / 2), at);
          check();
          await file.write(bytes, at);
        },
        sync: async () => {
          check();
          await file.sync();
        },
        truncate: async (length) => {
          check();
          await file.truncate(length);
        },
        close: file.close,
      };
    },
  };
}

const record = (value: number) => JSON.stringify({ value, text: "y".repeat(100) });
const isUnavailable = { name: "Problem", code: "unavailable" };

test("records are numbered without gaps, across segments and a restart of their source", async () => {
  await using world = await openWorld();
  for (const from of [0, 50]) {
    await using spool = await world.open();
    assert.equal(spool.lastSequence(), from);
    const given = await Promise.all(
      Array.from({ length: 50 }, (_, at) => spool.append(record(from + at))),
    );
    assert.deepEqual(
      given,
      Array.from({ length: 50 }, (_, at) => from + at + 1),
    );
  }
  assert.deepEqual(
    await world.numbers(),
    Array.from({ length: 100 }, (_, at) => [at + 1, at]),
  );
});

test("what was acknowledged outlives a close, however soon after it that comes", async () => {
  for (let turns = 0; turns < 15; turns++) {
    await using world = await openWorld();
    const spool = await world.open();
    await Promise.all([1, 2, 3].map((value) => spool.append(record(value))));
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    await spool[Symbol.asyncDispose]();
    const names = await segmentsIn(world.folder);
    assert.deepEqual([names.length, names[0]?.isSealed], [1, true], `after ${turns} turns`);
    assert.equal((await world.numbers()).length, 3);
  }
});

test("a source has one writer; a record that is alone waits for nobody", async () => {
  await using world = await openWorld();
  await using spool = await world.open();
  await assert.rejects(world.open(), { code: "conflict" });
  assert.equal(await spool.append(record(1)), 1);
  assert.equal(await spool.append(record(2)), 2);
});

test("a source's folder is durable in its parent before its first record is", async () => {
  await using world = await openWorld();
  const synced: string[] = [];
  const syncFolder = (path: string) => {
    synced.push(path);
    return localDisk.syncFolder(path);
  };
  const facts = { door: "egress", engine: "embedded", host: "here", startedAtMs: 0 } as const;
  const source = { id: ids.next("process"), ...facts };
  const disk = { ...localDisk, syncFolder };
  await using spool = await openSpool({ dir: world.dir, source, bytesMax: 2 ** 20, log, disk });
  await spool.append(record(1));
  assert.deepEqual(synced, [world.dir, join(world.dir, source.id)]);
});

test("a spool that is full refuses, says why, and takes records again once it was drained", async () => {
  await using world = await openWorld(20_000);
  await using spool = await world.open();
  const results = await Promise.allSettled(
    Array.from({ length: 200 }, (_, at) => spool.append(record(at))),
  );
  const kept = results.filter(({ status }) => status === "fulfilled").length;
  assert.ok(kept > 20 && kept < 200, `${kept} kept`);
  assert.match(spool.fault() ?? "", /wait for the store/);
  await assert.rejects(spool.append(record(0)), isUnavailable);
  for (const { path, isSealed } of await segmentsIn(world.folder)) if (isSealed) await rm(path);
  await eventually(spool.fault, (fault) => fault === null);
  assert.equal(await spool.append(record(1)), kept + 1);
});

for (const code of ["ENOSPC", "EIO"]) {
  test(`${code}: what was being written is refused, and no acknowledged record is lost`, async () => {
    await using world = await openWorld();
    const spool = await world.open();
    for (let at = 1; at <= 5; at++) await spool.append(record(at));
    world.disk.fault = code;
    const refused = await Promise.allSettled([6, 7, 8].map((at) => spool.append(record(at))));
    assert.deepEqual(
      refused.map(({ status }) => status),
      ["rejected", "rejected", "rejected"],
    );
    assert.match(spool.fault() ?? "", new RegExp(code));
    await assert.rejects(spool.append(record(9)), isUnavailable);
    world.disk.fault = null;
    await eventually(spool.fault, (fault) => fault === null);
    assert.equal(await spool.append(record(10)), 6);
    await spool[Symbol.asyncDispose]();
    assert.deepEqual(
      await world.numbers(),
      [1, 2, 3, 4, 5, 10].map((value, at) => [at + 1, value]),
    );
  });
}

test("a disk that stays broken to the end: what was acknowledged before is there, nothing twice", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  for (let at = 1; at <= 3; at++) await spool.append(record(at));
  world.disk.fault = "EIO";
  await assert.rejects(spool.append(record(4)), isUnavailable);
  await spool[Symbol.asyncDispose]();
  const found = await world.numbers();
  assert.deepEqual(found.slice(0, 3), [
    [1, 1],
    [2, 2],
    [3, 3],
  ]);
  assert.ok(found.length <= 4);
});

test("a torn last line is cut at the next start", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  for (let at = 1; at <= 3; at++) await spool.append(record(at));
  await spool[Symbol.asyncDispose]();
  for (const torn of ['{"source_id":"pro', `{"source_id":"${world.folder}"}\n`, "\0\0\0\0\n"]) {
    const before = await world.numbers();
    const path = join(world.folder, `${String(before.length + 1).padStart(16, "0")}.9.open`);
    await appendFile(path, torn);
    await using again = await world.open();
    assert.equal(again.lastSequence(), before.length);
    await again.append(record(before.length + 1));
  }
  assert.deepEqual(
    (await world.numbers()).map(([sequence]) => sequence),
    [1, 2, 3, 4, 5, 6],
  );
});

test(`killed at 6 moments: what was acknowledged is there, in order, SEED=${SEED}`, async () => {
  const random = seededRandom(SEED);
  for (let kill = 0; kill < 6; kill++) {
    await using world = await openWorld();
    const id = ids.next("process");
    const child = spawn(process.execPath, [WRITER, world.dir, id], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const wanted = 8 * (1 + random.below(60));
    let acked = 0;
    for await (const line of createInterface(child.stdout)) {
      acked = Number(line);
      if (acked >= wanted) child.kill("SIGKILL");
    }
    const found = await readNumbers(join(world.dir, id), id);
    assert.ok(found.length >= acked && acked >= wanted, `${found.length} of ${acked}`);
    for (const [at, pair] of found.entries()) assert.deepEqual(pair, [at + 1, at + 1]);
  }
});

const step = fc.oneof(
  fc.record({ op: fc.constant("append" as const), count: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ op: fc.constantFrom("break" as const, "mend" as const, "reopen" as const) }),
);

test(`the spool agrees with its model, SEED=${SEED}`, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
      await using world = await openWorld();
      let spool = await world.open();
      const acked: [number, number][] = [];
      let value = 0;
      for (const drawn of steps) {
        if (drawn.op === "append") {
          const values = Array.from({ length: drawn.count }, () => ++value);
          const results = await Promise.allSettled(values.map((one) => spool.append(record(one))));
          for (const [at, result] of results.entries()) {
            if (result.status === "fulfilled") acked.push([result.value, values[at] as number]);
          }
        } else if (drawn.op === "break") {
          world.disk.fault = "EIO";
        } else {
          world.disk.fault = null;
          await eventually(spool.fault, (fault) => fault === null);
          if (drawn.op === "reopen") {
            await spool[Symbol.asyncDispose]();
            spool = await world.open();
          }
        }
        assert.equal(spool.lastSequence(), acked.length);
      }
      world.disk.fault = null;
      await eventually(spool.fault, (fault) => fault === null);
      await spool[Symbol.asyncDispose]();
      assert.deepEqual(await world.numbers(), acked);
    }),
    { numRuns: 25, seed: SEED },
  );
});
