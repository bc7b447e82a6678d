/** Goal: a door opens on a disk that is dead at the start, says so, and records once it heals. */
import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { openLateSpool } from "../../../orchestrator/traffic/late-spool.ts";
import { openTestFolder } from "../../support/embedded.ts";
import { eventually } from "../../support/eventually.ts";

const ids = createIds({ now: () => 1_000 }, seededRandom(3));
const log = createLog("silent");

function optionsFor(dir: string) {
  const source = { id: ids.next("process"), door: "gateway", engine: "gateway" } as const;
  const facts = { ...source, host: "here", startedAtMs: 0 };
  return { dir, source: facts, bytesMax: 2 ** 20, log, healEveryMs: 10 };
}

test("what has no folder yet refuses, says why, and goes on by itself", async () => {
  await using folder = await openTestFolder();
  const blocked = join(folder.path, "shared");
  await writeFile(blocked, "a file where a folder should be");
  await using spool = await openLateSpool(optionsFor(join(blocked, "spool")));
  assert.match(spool.fault() ?? "", /cannot be written: .*; make room, or the folder writable/);
  await assert.rejects(spool.append('{"value":1}'), { code: "unavailable" });
  assert.deepEqual([spool.lastSequence(), await spool.spooledBytes()], [0, 0]);
  await rm(blocked);
  await eventually(spool.fault, (fault) => fault === null);
  assert.equal(await spool.append('{"value":2}'), 1);
});

test("what can be written at once is a spool like any other", async () => {
  await using folder = await openTestFolder();
  const options = optionsFor(folder.path);
  await using spool = await openLateSpool(options);
  assert.deepEqual([spool.fault(), await spool.append('{"value":1}')], [null, 1]);
  await assert.rejects(openLateSpool(options), { code: "conflict" });
});

test("closing one that never opened leaves nothing", async () => {
  await using folder = await openTestFolder();
  const blocked = join(folder.path, "shared");
  await writeFile(blocked, "");
  const spool = await openLateSpool(optionsFor(join(blocked, "spool")));
  await spool[Symbol.asyncDispose]();
  assert.match(spool.fault() ?? "", /cannot be written/);
});
