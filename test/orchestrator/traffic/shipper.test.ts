/**
 * Goal: what was spooled is in the store once, whoever dies or is away in between (R11), and what
 * is missing has numbers.
 *
 * Method: the real spool, shipper and table of sources; the store in memory is one that passes the
 * port's suite, and can be told to be away. The clock is moved, not waited for.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { createIds, type FlowId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createPostgresTraffic } from "../../../orchestrator/traffic/postgres.ts";
import { createShipper, rangesOf } from "../../../orchestrator/traffic/shipper.ts";
import type { SourceFacts } from "../../../orchestrator/traffic/sources.ts";
import { createTrafficSources } from "../../../orchestrator/traffic/sources-postgres.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";
import { localDisk } from "../../../orchestrator/traffic/spool-disk.ts";
import { segmentsIn } from "../../../orchestrator/traffic/spool-folder.ts";
import type { Rejected } from "../../../orchestrator/traffic/traffic.ts";
import { openTestDatabase } from "../../support/database.ts";
import { eventually } from "../../support/eventually.ts";
import { flowRecord } from "../../support/flow-records.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const log = createLog("silent");

async function openWorld() {
  const dir = await mkdtemp(join(tmpdir(), "autocode-ship-"));
  const database = await openTestDatabase();
  const clock = { ms: NOW_MS, now: () => clock.ms };
  const ids = createIds(clock, seededRandom(21));
  const sources = createTrafficSources(database, clock);
  const memory = createMemoryTraffic();
  return {
    dir,
    database,
    clock,
    ids,
    sources,
    memory,
    shipper,
    open,
    spooled,
    stored,
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await rm(dir, { recursive: true });
    },
  };

  function shipper(append: (flows: readonly FlowRecord[]) => Promise<Rejected> = memory.append) {
    const random = seededRandom(5);
    const deps = { spoolDir: dir, store: { append }, sources, log, clock, random };
    return createShipper(deps, { recordsMax: 50, bytesMax: 2 ** 20 });
  }

  function open(sealAfterMs = 5) {
    const facts = { door: "egress", engine: "embedded", host: "here" } as const;
    const source: SourceFacts = { id: ids.next("process"), ...facts, startedAtMs: NOW_MS };
    return openSpool({ dir, source, bytesMax: 2 ** 30, log, segmentBytes: 20_000, sealAfterMs });
  }

  /** The text that a sink would give the spool. */
  function spooled(): string {
    const { source_id: _, sequence: __, ...rest } = flowRecord(ids, clock.ms);
    return JSON.stringify(rest);
  }

  async function stored(): Promise<Map<string, number[]>> {
    const found = new Map<string, number[]>();
    for await (const { source_id: id, sequence } of memory.scan({})) {
      found.set(
        id,
        [...(found.get(id) ?? []), sequence].sort((a, b) => a - b),
      );
    }
    return found;
  }
}

const upTo = (count: number) => Array.from({ length: count }, (_, at) => at + 1);

test("R11: the store is away for ten minutes under load: none lost, none twice, drained fast", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  const shipper = world.shipper();
  world.memory.fault = "The store does not answer";
  let asked = 0;
  const perMinute = 60;
  for (let minute = 0; minute < 10; minute++) {
    await Promise.all(upTo(perMinute).map(() => spool.append(world.spooled())));
    for (let second = 0; second < 60; second++) {
      world.clock.ms += 1_000;
      await shipper.task.activate();
      asked++;
    }
  }
  assert.match(shipper.fault() ?? "", /does not answer/);
  assert.ok(asked > 500 && (await world.sources.list()).length === 0, "no mark without a record");
  world.memory.fault = null;
  const startedMs = world.clock.ms;
  for (let total = 0; total < 10 * perMinute - 1; ) {
    world.clock.ms += 1_000;
    total += ((await shipper.task.activate()) as { stored: number }).stored;
    // Ten minutes of records, in a fifth of the time that they took.
    assert.ok(world.clock.ms - startedMs <= 120_000, `${total} in two minutes`);
    if (total >= 10 * perMinute - 60) break;
  }
  await spool[Symbol.asyncDispose]();
  await shipper.drain();
  assert.equal(shipper.fault(), null);
  assert.deepEqual([...(await world.stored()).values()], [upTo(10 * perMinute)]);
  const [source] = await world.sources.list();
  assert.deepEqual(
    [source?.missing, source?.stored_count, source?.last_sequence, source?.spooled_bytes],
    [[], 10 * perMinute, 10 * perMinute, 0],
  );
  assert.notEqual(source?.closed_at, null);
});

test("a shipper that dies between the store and the mark does it again: nothing is there twice", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  await Promise.all(upTo(120).map(() => spool.append(world.spooled())));
  await spool[Symbol.asyncDispose]();
  let appends = 0;
  const dying = world.shipper(async (flows) => {
    const refused = await world.memory.append(flows);
    if (++appends === 2) throw new Error("killed");
    return refused;
  });
  await assert.rejects(dying.drain(), /killed/);
  const next = world.shipper();
  await Promise.all([next.drain(), world.shipper().drain()]);
  await next.drain();
  assert.deepEqual([...(await world.stored()).values()], [upTo(120)]);
  assert.deepEqual((await world.sources.list())[0]?.missing, []);
  assert.deepEqual(
    (await readdir(world.dir)).filter((name) => name.startsWith("process_")),
    [],
  );
});

test("two processes on one folder, one of them dead: each record once, the living one keeps its spool", async () => {
  await using world = await openWorld();
  const living = await world.open();
  const dead = await world.open();
  await Promise.all(upTo(60).map(() => dead.append(world.spooled())));
  await dead[Symbol.asyncDispose]();
  const [one, other] = [world.shipper(), world.shipper()];
  const loads = upTo(40).map(() => living.append(world.spooled()));
  await Promise.all([...loads, one.drain(), other.drain()]);
  await eventually(
    async () => (await segmentsIn(join(world.dir, living.source.id))).some((one) => one.isSealed),
    (isSealed) => isSealed || living.lastSequence() === 40,
  );
  await Promise.all([one.drain(), other.drain()]);
  await living[Symbol.asyncDispose]();
  await Promise.all([one.drain(), other.drain()]);
  await one.drain();
  const stored = await world.stored();
  assert.deepEqual(stored.get(dead.source.id), upTo(60));
  assert.deepEqual(stored.get(living.source.id), upTo(40));
});

test("a spool that is being made is not taken for a dead process's", async () => {
  await using world = await openWorld();
  const others = world.shipper();
  const facts = { door: "egress", engine: "embedded", host: "here" } as const;
  const source: SourceFacts = { id: world.ids.next("process"), ...facts, startedAtMs: NOW_MS };
  // Another process looks through all folders as soon as there is one.
  const syncFolder = async (path: string) => {
    await others.drain();
    await localDisk.syncFolder(path);
  };
  const options = { dir: world.dir, source, bytesMax: 2 ** 30, log };
  await using spool = await openSpool({ ...options, disk: { ...localDisk, syncFolder } });
  assert.equal(await spool.append(world.spooled()), 1);
  assert.deepEqual(await readdir(world.dir), [source.id]);
  await spool[Symbol.asyncDispose]();
  await others.drain();
  assert.deepEqual((await world.stored()).get(source.id), [1]);
});

test("what the store refuses for good is a dead letter, counted; what is no record too", async () => {
  await using world = await openWorld();
  const spool = await world.open(60_000);
  for (let at = 0; at < 5; at++) await spool.append(world.spooled());
  await spool[Symbol.asyncDispose]();
  const folder = join(world.dir, spool.source.id);
  const [segment] = await segmentsIn(folder);
  assert.ok(segment !== undefined);
  const lines = (await readFile(segment.path, "utf8")).split("\n");
  await writeFile(segment.path, [...lines.slice(0, 4), "{broken", ""].join("\n"));
  const shipper = world.shipper(async (flows) => {
    const wrong = flows.find(({ sequence }) => sequence === 2)?.id as FlowId;
    await world.memory.append(flows.filter(({ id }) => id !== wrong));
    return new Map([[wrong, "mapping error"]]);
  });
  assert.deepEqual(await shipper.drain(), { stored: 3, rejected: 2 });
  const [source] = await world.sources.list();
  assert.deepEqual([source?.stored_count, source?.rejected_count, source?.missing], [3, 2, []]);
  const letters = await readFile(join(world.dir, "rejected", `${spool.source.id}.ndjson`), "utf8");
  const reasons = letters
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).reason);
  assert.deepEqual(reasons.toSorted(), ["mapping error", "the line is no record"]);
});

test("a line without what a record must have is a dead letter that names it, the rest is stored", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  const without = (what: object) =>
    spool.append(JSON.stringify({ ...JSON.parse(world.spooled()), ...what }));
  await spool.append(world.spooled());
  await without({ server: undefined, serves: { host: "x" } });
  await without({ id: "flow_x" });
  await without({ started_at: "yesterday" });
  await spool.append(world.spooled());
  await spool[Symbol.asyncDispose]();
  assert.deepEqual(await world.shipper().drain(), { stored: 2, rejected: 3 });
  assert.deepEqual((await world.stored()).get(spool.source.id), [1, 5]);
  const letters = await readFile(join(world.dir, "rejected", `${spool.source.id}.ndjson`), "utf8");
  for (const field of ["server", "id", "started_at"]) {
    assert.match(letters, new RegExp(`"the line is no record: ${field} `));
  }
  assert.deepEqual((await world.sources.list())[0]?.missing, []);
});

test("a source whose records the store chokes on holds up nobody else, and is told of", async () => {
  await using world = await openWorld();
  const [bad, good] = [await world.open(), await world.open()];
  for (const spool of [bad, good]) {
    await Promise.all(upTo(3).map(() => spool.append(world.spooled())));
    await spool[Symbol.asyncDispose]();
  }
  let isChoking = true;
  const shipper = world.shipper(async (flows) => {
    if (isChoking && flows[0]?.source_id === bad.source.id) throw new TypeError("no such field");
    return world.memory.append(flows);
  });
  assert.deepEqual(await shipper.task.activate(), { stored: 3, rejected: 0 });
  assert.deepEqual([...(await world.stored()).keys()], [good.source.id]);
  assert.match(shipper.fault() ?? "", /no such field/);
  // At once is too early; the store that took something is not waited for as one that is away.
  assert.deepEqual(await shipper.task.activate(), { stored: 0, rejected: 0 });
  isChoking = false;
  world.clock.ms += 500;
  assert.deepEqual(await shipper.task.activate(), { stored: 3, rejected: 0 });
  assert.equal(shipper.fault(), null);
});

test("a folder that cannot be locked is told of; one that went away is not", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  await spool.append(world.spooled());
  await spool[Symbol.asyncDispose]();
  const lock = join(world.dir, spool.source.id, "drainer.lock");
  await mkdir(lock);
  const shipper = world.shipper();
  await shipper.task.activate();
  assert.match(shipper.fault() ?? "", /unable to open/);
  await rm(lock, { recursive: true });
  assert.deepEqual(await shipper.drain(), { stored: 1, rejected: 0 });
  assert.equal(shipper.fault(), null);
  const [one, other] = [world.shipper(), world.shipper()];
  await Promise.all([one.drain(), other.drain()]);
  assert.deepEqual([one.fault(), other.fault()], [null, null]);
});

test("a gap has numbers: what a host took with it is named", async () => {
  await using world = await openWorld();
  const spool = await world.open();
  await Promise.all(upTo(10).map(() => spool.append(world.spooled())));
  const { source } = spool;
  await world.sources.heartbeat(source, { lastSequence: 10, spooledBytes: 500 });
  await world.sources.markStored(source, [
    [1, 3],
    [6, 6],
  ]);
  await world.sources.heartbeat(source, { lastSequence: 4, spooledBytes: 400 });
  const [found] = await world.sources.list();
  assert.deepEqual(
    [found?.missing, found?.last_sequence, found?.stored_count, found?.spooled_bytes],
    [
      [
        [4, 5],
        [7, 10],
      ],
      10,
      4,
      400,
    ],
  );
  await spool[Symbol.asyncDispose]();
  await world.shipper().drain();
  assert.deepEqual((await world.sources.list())[0]?.missing, []);
});

test("into our own database: kept once, and counted by its source", async () => {
  await using world = await openWorld();
  await using store = createPostgresTraffic(world.database, { clock: world.clock, log });
  const spool = await world.open();
  await Promise.all(upTo(150).map(() => spool.append(world.spooled())));
  await spool[Symbol.asyncDispose]();
  const shipper = world.shipper(store.append);
  assert.deepEqual(await shipper.drain(), { stored: 150, rejected: 0 });
  const counted = await store.countBySource([spool.source.id]);
  assert.equal(counted.get(spool.source.id), 150);
});

test("numbers that follow each other are ranges", () => {
  assert.deepEqual(rangesOf([]), []);
  assert.deepEqual(rangesOf([3, 1, 2, 7, 9, 8, 12]), [
    [1, 3],
    [7, 9],
    [12, 12],
  ]);
});
