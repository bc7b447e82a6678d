/**
 * Goal: weights without a network: taken from folders, found, verified, and each fault named.
 */
import assert from "node:assert/strict";
import { mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { COMMIT, madeUpCard, madeUpFiles, tensors } from "../../support/fake-hub.ts";
import { assertWhole, FIRST, openWeightWorld, problem, SECOND } from "../../support/weights.ts";

test("offline nothing is asked for, and what is missing is named with where it goes", async () => {
  await using world = await openWeightWorld();
  const offline = world.store({ hub: null });
  await assert.rejects(
    world.pull({}, offline),
    problem("conflict", /made\/up/, /AUTOCODE_OFFLINE/, /--from <folder>/, /made-up-1b\/bf16/),
  );
  assert.equal(world.hub.seen.length, 0);
  const pulled = await world.pull();
  const asked = world.hub.seen.length;
  assert.deepEqual(await world.pull({}, offline), pulled);
  assert.equal(world.hub.seen.length, asked);
});

test("a folder of another store is taken over by its manifest, offline", async () => {
  await using world = await openWeightWorld();
  const { dir: from } = await world.pull();
  await using other = await openWeightWorld();
  const store = other.store({ hub: null });
  const { dir, revision } = await other.pull({ from }, store);
  assert.equal(revision, COMMIT);
  await assertWhole(other, dir);
  assert.equal(other.hub.seen.length, 0);
  assert.deepEqual(await store.find("made-up-1b", "bf16"), { dir, revision });
});

test("a file that was changed on its way is refused by the manifest it came with", async () => {
  await using world = await openWeightWorld();
  const { dir: from } = await world.pull();
  await writeFile(join(from, FIRST), tensors(300, 8));
  await using other = await openWeightWorld();
  await assert.rejects(other.pull({ from }), problem("upstream_failed", new RegExp(FIRST)));
  await truncate(join(from, FIRST), 20);
  await assert.rejects(
    other.pull({ from }),
    problem("conflict", new RegExp(FIRST), /20 bytes, not \d+/),
  );
});

test("files that were copied by hand are taken as they are, and that is said", async () => {
  await using world = await openWeightWorld();
  const from = join(world.dir, "..", "copied");
  await mkdir(join(from, "onnx"), { recursive: true });
  for (const [path, bytes] of madeUpFiles()) await writeFile(join(from, path), bytes);
  const store = world.store({ hub: null });
  const { dir, revision } = await world.pull({ from }, store);
  assert.match(revision, /^import-[0-9a-f]{12}$/);
  await assertWhole(world, dir);
  const [found] = await store.list();
  assert.match(found?.detail ?? "", /compared with nobody's/);
  assert.deepEqual(await store.find("made-up-1b", "bf16"), { dir, revision });
});

test("a half-copied file, a missing one and no folder at all are each named", async () => {
  await using world = await openWeightWorld();
  const from = join(world.dir, "..", "copied");
  await assert.rejects(world.pull({ from }), problem("not_found", /copied/, /ENOENT/));
  await assert.rejects(world.pull({ from: "copied" }), problem("invalid_request", /from: copied/));
  await mkdir(join(from, "onnx"), { recursive: true });
  for (const [path, bytes] of madeUpFiles()) await writeFile(join(from, path), bytes);
  await truncate(join(from, SECOND), 200);
  await assert.rejects(
    world.pull({ from }),
    problem("conflict", new RegExp(SECOND), /must have \d+ bytes and has 200/),
  );
  await rm(join(from, SECOND));
  await assert.rejects(
    world.pull({ from }),
    problem("conflict", /lacks 1 of its 2 weight files/, new RegExp(SECOND)),
  );
});

test("verify names the file that is not as it was pulled, and what to do; a pull mends it", async () => {
  await using world = await openWeightWorld();
  const store = world.store();
  const signal = new AbortController().signal;
  const verify = () => store.verify(world.card, "bf16", { onProgress() {}, signal });
  await assert.rejects(verify(), problem("not_found", /autocode model pull made-up-1b/));
  const { dir } = await world.pull();
  assert.deepEqual(await verify(), []);
  await writeFile(join(dir, FIRST), tensors(300, 8));
  await assert.rejects(
    verify(),
    problem("conflict", new RegExp(FIRST), /Delete it/, /autocode model pull made-up-1b/),
  );
  await truncate(join(dir, FIRST), 20);
  await assert.rejects(
    store.find("made-up-1b", "bf16"),
    problem("conflict", new RegExp(FIRST), /20 bytes of \d+/),
  );
  assert.equal((await store.list())[0]?.state, "damaged");
  await assertWhole(world, (await world.pull()).dir);
  assert.deepEqual(await verify(), []);
});

test("a pull that was cut is named by verify with the file that is half here", async () => {
  await using world = await openWeightWorld();
  const pinned = madeUpCard();
  world.card = {
    ...pinned,
    quantisations: pinned.quantisations.map((each) => ({ ...each, revision: COMMIT })),
  };
  const dir = join(world.dir, "made-up-1b", "bf16", COMMIT);
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, `${FIRST}.partial`), "x");
  const signal = new AbortController().signal;
  await assert.rejects(
    world.store().verify(world.card, "bf16", { onProgress() {}, signal }),
    problem("conflict", new RegExp(`${FIRST}\\.partial`), /cut/),
  );
});
