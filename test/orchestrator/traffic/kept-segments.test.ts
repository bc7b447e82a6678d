/**
 * Goal: what the store has stays on this disk for who else ships it, whole and under a name of its
 * own, and never more of it than was asked for.
 *
 * Method: files in a folder as the spool lays them out; and the real spool and shipper.
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog, type Log } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createKeptSegments } from "../../../orchestrator/traffic/kept-segments.ts";
import { createShipper } from "../../../orchestrator/traffic/shipper.ts";
import { createTrafficSources } from "../../../orchestrator/traffic/sources-postgres.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";
import { sourceFolders } from "../../../orchestrator/traffic/spool-folder.ts";
import { openTestDatabase } from "../../support/database.ts";
import { flowRecord } from "../../support/flow-records.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const clock = { now: () => NOW_MS };
const log = createLog("silent");

async function openFolder() {
  const dir = await mkdtemp(join(tmpdir(), "autocode-kept-"));
  let count = 0;
  return {
    dir,
    segment,
    names: async () => (await readdir(join(dir, "kept"))).sort(),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  };

  /** One of `size` bytes, each a second younger than the one before. */
  async function segment(process: string, size: number): Promise<string> {
    count++;
    const path = join(dir, process, `${String(count).padStart(16, "0")}.0.ndjson`);
    await mkdir(join(dir, process), { recursive: true });
    await writeFile(path, "x".repeat(size));
    await utimes(path, 1_000 + count, 1_000 + count);
    return path;
  }
}

test("nothing is kept where nothing was asked for", async () => {
  await using folder = await openFolder();
  const path = await folder.segment("process_a", 10);
  await createKeptSegments(folder.dir, 0, log).take(path);
  assert.deepEqual(await readdir(folder.dir), ["process_a"]);
  assert.deepEqual(await readdir(join(folder.dir, "process_a")), []);
});

test("where nothing can be kept the spool is emptied all the same, and it is told once", async () => {
  await using folder = await openFolder();
  await writeFile(join(folder.dir, "kept"), "no folder");
  const told: string[] = [];
  const warn = (_facts: object, words: string) => void told.push(words);
  const kept = createKeptSegments(folder.dir, 100, { warn } as unknown as Log);
  await kept.take(await folder.segment("process_a", 10));
  await kept.take(await folder.segment("process_a", 10));
  assert.deepEqual(await readdir(join(folder.dir, "process_a")), []);
  assert.deepEqual(told, ["segments of traffic are not kept"]);
});

test("the oldest goes once more is kept than may be, whoever wrote it", async () => {
  await using folder = await openFolder();
  const kept = createKeptSegments(folder.dir, 100, log);
  for (const process of ["process_b", "process_a", "process_b"]) {
    await kept.take(await folder.segment(process, 30));
  }
  const three = await folder.names();
  assert.deepEqual(three, [
    "process_a.0000000000000002.0.ndjson",
    "process_b.0000000000000001.0.ndjson",
    "process_b.0000000000000003.0.ndjson",
  ]);
  await kept.take(await folder.segment("process_a", 30));
  assert.deepEqual(await folder.names(), [
    "process_a.0000000000000002.0.ndjson",
    "process_a.0000000000000004.0.ndjson",
    "process_b.0000000000000003.0.ndjson",
  ]);
});

test("many small ones are bounded by their number, and what was there before counts", async () => {
  await using folder = await openFolder();
  const before = createKeptSegments(folder.dir, 2 ** 20, log, 10);
  for (let at = 0; at < 10; at++) await before.take(await folder.segment("process_a", 1));
  assert.equal((await folder.names()).length, 10);
  const after = createKeptSegments(folder.dir, 2 ** 20, log, 10);
  await after.take(await folder.segment("process_b", 1));
  const left = await folder.names();
  assert.equal(left.length, 9);
  assert.ok(left.includes("process_b.0000000000000011.0.ndjson"), left.join());
});

test("one that another carried away meanwhile is nobody's trouble", async () => {
  await using folder = await openFolder();
  const kept = createKeptSegments(folder.dir, 100, log);
  await kept.take(join(folder.dir, "process_a", "0000000000000001.0.ndjson"));
  assert.deepEqual(await folder.names(), []);
});

test("the shipper keeps each segment whole, and the spool has nothing more to carry", async () => {
  await using folder = await openFolder();
  await using database = await openTestDatabase();
  const ids = createIds(clock, seededRandom(21));
  const sources = createTrafficSources(database, clock);
  const store = createMemoryTraffic();
  const deps = { spoolDir: folder.dir, store, sources, log, clock, random: seededRandom(5) };
  const facts = { door: "egress", engine: "embedded", host: "here", startedAtMs: NOW_MS } as const;
  const source = { id: ids.next("process"), ...facts };
  const spool = await openSpool({
    ...{ dir: folder.dir, source, bytesMax: 2 ** 30, log, segmentBytes: 5_000 },
  });
  const wanted: string[] = [];
  for (let at = 0; at < 20; at++) {
    const { source_id: _, sequence: __, ...rest } = flowRecord(ids, NOW_MS);
    wanted.push(rest.id);
    await spool.append(JSON.stringify(rest));
  }
  await spool[Symbol.asyncDispose]();
  const shipped = await createShipper(deps, { keptBytesMax: 2 ** 20 }).drain();
  assert.deepEqual(shipped, { stored: 20, rejected: 0 });
  assert.deepEqual(await sourceFolders(folder.dir), []);
  const found: string[] = [];
  for (const name of await folder.names()) {
    assert.ok(name.startsWith(`${source.id}.`), basename(name));
    const text = await readFile(join(folder.dir, "kept", name), "utf8");
    for (const line of text.trimEnd().split("\n")) found.push(JSON.parse(line).id);
  }
  assert.deepEqual(found, wanted);
  assert.ok((await folder.names()).length > 1);
});
