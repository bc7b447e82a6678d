/**
 * Goal: whatever happens on the way, what is in the store under its name is the model that its card
 * describes, whole, and nothing else counts as one. Method: a hub on this machine that cuts, lies,
 * stalls and refuses.
 */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { Problem } from "../../../orchestrator/problem.ts";
import { eventually } from "../../support/eventually.ts";
import {
  COMMIT,
  CONFIG,
  type Fault,
  madeUpCard,
  madeUpFiles,
  NEEDED,
  sha256,
  tensors,
} from "../../support/fake-hub.ts";
import {
  assertWhole,
  FIRST,
  MANIFEST,
  openWeightWorld,
  problem,
  SECOND,
} from "../../support/weights.ts";

test("a pull brings the files that a server needs, with a manifest of where they are from", async () => {
  await using world = await openWeightWorld();
  const { dir, revision } = await world.pull();
  assert.equal(revision, COMMIT);
  assert.equal(dir, join(world.dir, "made-up-1b", "bf16", COMMIT));
  await assertWhole(world, dir);
  const manifest = JSON.parse(await readFile(join(dir, MANIFEST), "utf8"));
  const files = madeUpFiles();
  assert.deepEqual(
    manifest.files.toSorted((a: { path: string }, b: { path: string }) =>
      a.path < b.path ? -1 : 1,
    ),
    NEEDED.map((path) => {
      const bytes = files.get(path) ?? Buffer.alloc(0);
      return { path, size: bytes.length, sha256: sha256(bytes) };
    }),
  );
  const { files: _, ...rest } = manifest;
  assert.deepEqual(rest, {
    version: 1,
    model: "made-up-1b",
    quantisation: "bf16",
    repository: "made/up",
    revision: COMMIT,
    source: "hub",
    licence: {
      ...{ id: "apache-2.0", url: "https://licence.test/apache" },
      ...{ accepted_by: null, accepted_at: null },
    },
    warnings: [],
    pulled_at: "2026-11-22T00:00:00.000Z",
  });
  const last = world.progress.at(-1);
  assert.equal(last?.step, "pulled");
  assert.equal(last?.bytes, last?.bytes_total);
});

test("what is there is found, and pulled again without a request", async () => {
  await using world = await openWeightWorld();
  const store = world.store();
  assert.equal(await store.find("made-up-1b", "bf16"), null);
  assert.equal(await store.find("no-such-model", "bf16"), null);
  const pulled = await world.pull();
  assert.deepEqual(await store.find("made-up-1b", "bf16"), pulled);
  const asked = world.hub.seen.length;
  assert.deepEqual(await world.pull(), pulled);
  assert.equal(world.hub.seen.length, asked);
  assert.equal(world.progress.at(-1)?.step, "already_here");
});

test("weights that are quantised as they are loaded are kept once", async () => {
  await using world = await openWeightWorld();
  const pulled = await world.pull();
  assert.deepEqual(await world.store().find("made-up-1b", "fp8"), pulled);
});

test("the first pull pins the commit: the branch may move on, the model does not", async () => {
  await using world = await openWeightWorld();
  const { dir } = await world.pull();
  const repository = world.hub.repositories.get("made/up");
  assert.ok(repository);
  repository.commit = "b".repeat(40);
  await rm(dir, { recursive: true });
  const again = await world.pull();
  assert.equal(again.revision, COMMIT);
  assert.equal(
    world.hub.seen.filter(({ path }) => path.includes("/revision/")).length,
    1,
    "the branch is looked up once",
  );
});

test("a token goes to the hub and not to where it sends us", async () => {
  await using world = await openWeightWorld();
  world.hub.token = "hf_secret";
  const store = world.store({ hubOptions: { token: async () => "hf_secret" } });
  await world.pull({}, store);
  const tokens = (host: string) =>
    new Set(world.hub.seen.filter((each) => each.host === host).map((each) => each.authorization));
  assert.deepEqual([...tokens("hub")], ["Bearer hf_secret"]);
  assert.deepEqual([...tokens("cdn")], [null]);
  assert.doesNotMatch(JSON.stringify(world.progress), /hf_secret/);
});

test("a hub that wants a token says so, with where to put it", async () => {
  await using world = await openWeightWorld();
  world.hub.token = "hf_secret";
  await assert.rejects(
    world.pull(),
    problem(
      "conflict",
      /made\/up/,
      /Access is restricted/,
      /secret put provider\/huggingface\/key/,
    ),
  );
});

test("a repository that is not there is named", async () => {
  await using world = await openWeightWorld();
  world.hub.repositories.clear();
  await assert.rejects(world.pull(), problem("not_found", /made\/up/, /Repository not found/));
});

test("a quantisation that the card lacks is named with those it has", async () => {
  await using world = await openWeightWorld();
  const options = { acceptedLicences: [], onProgress() {}, signal: new AbortController().signal };
  await assert.rejects(
    world.store().pull(world.card, "gguf", options),
    problem("not_found", /"gguf"/, /bf16, fp8/),
  );
});

test("a cut after any number of bytes goes on from there, in the same pull", async () => {
  await using world = await openWeightWorld();
  const size = madeUpFiles().get(FIRST)?.length ?? 0;
  for (let afterBytes = 0; afterBytes < size; afterBytes += 1 + Math.floor(size / 40)) {
    await rm(world.dir, { recursive: true, force: true });
    world.hub.seen.length = 0;
    world.hub.faults = [{ path: FIRST, host: "cdn", does: { kind: "cut", afterBytes } }];
    const { dir } = await world.pull();
    await assertWhole(world, dir);
    const ranges = world.hub.seen
      .filter(({ host, path }) => host === "cdn" && path.includes(FIRST))
      .map(({ range }) => range);
    assert.deepEqual(ranges, [null, afterBytes === 0 ? null : `bytes=${afterBytes}-`]);
  }
});

test("a partial file of any length is gone on with by the next process", async () => {
  await using world = await openWeightWorld();
  const bytes = madeUpFiles().get(FIRST) ?? Buffer.alloc(0);
  const dir = join(world.dir, "made-up-1b", "bf16", COMMIT);
  for (const length of [0, 1, 7, 8, 9, bytes.length - 1, bytes.length, bytes.length + 1]) {
    await rm(world.dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    const here = Buffer.concat([bytes, Buffer.from("x")]).subarray(0, length);
    await writeFile(join(dir, `${FIRST}.partial`), here);
    await assertWhole(world, (await world.pull()).dir);
  }
});

test("any sequence of faults and restarts ends with the exact files", async (t) => {
  const seed = Number(process.env["SEED"] ?? 20_261_122);
  t.diagnostic(`seed ${seed}`);
  const does: fc.Arbitrary<Fault["does"]> = fc.oneof(
    fc.record({ kind: fc.constant("cut" as const), afterBytes: fc.nat(400) }),
    fc.constant({ kind: "no_ranges" as const }),
    fc.constant({ kind: "bytes" as const, bytes: Buffer.from("no") }),
    fc.constantFrom(429, 500, 503).map((status) => ({
      kind: "status" as const,
      status,
      headers: { "retry-after": "0" },
    })),
  );
  const fault: fc.Arbitrary<Fault> = fc.record({
    path: fc.constantFrom(FIRST, SECOND, "config.json", "tokenizer.json", "/tree/"),
    does,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(fault, { maxLength: 12 }), async (faults) => {
      await using world = await openWeightWorld();
      // A tree that is cut or is no JSON is another test's: here contents are at fault.
      world.hub.faults = faults.filter(
        ({ path, does: { kind } }) => path !== "/tree/" || kind === "status",
      );
      for (let tries = 0; tries < 30; tries++) {
        const found = await world
          .pull({}, world.store({ hubOptions: { tries: 2 } }))
          .catch((error: unknown) => {
            assert.ok(error instanceof Problem, String(error));
            return null;
          });
        const here = await world.store().find("made-up-1b", "bf16");
        assert.deepEqual(here, found, "what failed is no model");
        if (found !== null) return assertWhole(world, found.dir);
      }
      assert.fail("30 pulls were not enough");
    }),
    { seed, numRuns: 25 },
  );
});

test("wrong bytes of the right length are refused, and asked for once", async () => {
  await using world = await openWeightWorld();
  const bytes = tensors(300, 9);
  world.hub.faults = [{ path: FIRST, host: "cdn", times: 9, does: { kind: "bytes", bytes } }];
  await assert.rejects(
    world.pull(),
    problem("upstream_failed", new RegExp(FIRST), /sha256/, new RegExp(sha256(bytes))),
  );
  assert.equal(await world.store().find("made-up-1b", "bf16"), null);
  const dir = join(world.dir, "made-up-1b", "bf16", COMMIT);
  assert.ok(!(await readdir(dir)).some((name) => name.startsWith(FIRST)));
});

test("a small file is checked by its git hash", async () => {
  await using world = await openWeightWorld();
  const good = madeUpFiles().get("config.json") ?? Buffer.alloc(0);
  const bytes = Buffer.from(good.toString().replace("64", "65"));
  world.hub.faults = [{ path: "/config.json", times: 9, does: { kind: "bytes", bytes } }];
  await assert.rejects(world.pull(), problem("upstream_failed", /config\.json/, /git-sha1/));
});

test("more bytes than the hub said are refused, as they come", async () => {
  await using world = await openWeightWorld();
  const bytes = Buffer.concat([madeUpFiles().get(FIRST) ?? Buffer.alloc(0), Buffer.from("more")]);
  world.hub.faults = [{ path: FIRST, host: "cdn", times: 9, does: { kind: "bytes", bytes } }];
  await assert.rejects(world.pull(), problem("upstream_failed", /more than its \d+ bytes came/));
});

test("a partial file that is not what it should be is thrown away and fetched anew", async () => {
  await using world = await openWeightWorld();
  const dir = join(world.dir, "made-up-1b", "bf16", COMMIT);
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, `${FIRST}.partial`), "something else");
  await assertWhole(world, (await world.pull()).dir);
});

test("a crash after the last file and before the manifest: the next pull fetches nothing", async () => {
  await using world = await openWeightWorld();
  const { dir } = await world.pull();
  await rm(join(dir, MANIFEST));
  assert.equal(await world.store().find("made-up-1b", "bf16"), null);
  assert.deepEqual(
    (await world.store().list()).map(({ state }) => state),
    ["partial"],
  );
  const before = world.hub.seen.length;
  await assertWhole(world, (await world.pull()).dir);
  const asked = world.hub.seen.slice(before).map(({ path }) => path);
  assert.ok(
    asked.every((path) => path.includes("/api/models/")),
    asked.join(),
  );
});

test("a file with its name and other bytes, of a crashed disk, is not taken over", async () => {
  await using world = await openWeightWorld();
  const { dir } = await world.pull();
  await rm(join(dir, MANIFEST));
  await writeFile(join(dir, FIRST), tensors(300, 8));
  await assertWhole(world, (await world.pull()).dir);
});

test("of two pulls at once one is refused, and the model is whole", async () => {
  await using world = await openWeightWorld();
  world.hub.faults = [{ path: FIRST, host: "cdn", does: { kind: "stall", afterBytes: 10 } }];
  const stopping = new AbortController();
  const first = world.pull({ signal: stopping.signal });
  const ended = first.catch((error: unknown) => error);
  await eventually(
    () => world.hub.seen.some(({ host, path }) => host === "cdn" && path.includes(FIRST)),
    Boolean,
  );
  await assert.rejects(
    world.pull(),
    problem("conflict", /under way/, new RegExp(`process ${process.pid}`)),
  );
  stopping.abort(new Error("stopped by hand"));
  assert.match(String(await ended), /stopped by hand/);
  await assertWhole(world, (await world.pull()).dir);
});

test("a stop keeps what came: the next pull asks for the rest", async () => {
  await using world = await openWeightWorld();
  world.hub.faults = [{ path: FIRST, host: "cdn", does: { kind: "stall", afterBytes: 100 } }];
  const stopping = new AbortController();
  const partial = join(world.dir, "made-up-1b", "bf16", COMMIT, `${FIRST}.partial`);
  const ended = world.pull({ signal: stopping.signal }).catch((error: unknown) => error);
  await eventually(
    () =>
      readFile(partial).then(
        (bytes) => bytes.length,
        () => 0,
      ),
    (length) => length === 100,
  );
  stopping.abort(new Error("stopped by hand"));
  await ended;
  const [found] = await world.store().list();
  assert.equal(found?.state, "partial");
  world.hub.seen.length = 0;
  await assertWhole(world, (await world.pull()).dir);
  const ranges = world.hub.seen
    .filter(({ host, path }) => host === "cdn" && path.includes(FIRST))
    .map(({ range }) => range);
  assert.deepEqual(ranges, ["bytes=100-"]);
});

test("a connection that says nothing is given up, and gone on with", async () => {
  await using world = await openWeightWorld();
  world.hub.faults = [{ path: FIRST, host: "cdn", does: { kind: "stall", afterBytes: 50 } }];
  const store = world.store({ hubOptions: { silenceMs: 2_000 } });
  await assertWhole(world, (await world.pull({}, store)).dir);
});

test("a hub that stays busy is given up with its own words; what came is kept", async () => {
  await using world = await openWeightWorld();
  const headers = { "x-error-message": "Too many of you", "retry-after": "0" };
  const does = { kind: "status", status: 429, headers } as const;
  world.hub.faults = [{ path: SECOND, host: "hub", times: 99, does }];
  await assert.rejects(
    world.pull(),
    problem("unavailable", /429/, /Too many of you/, /what came is kept/),
  );
  world.hub.faults = [];
  await assertWhole(world, (await world.pull()).dir);
});

test("an address of contents that ran out is asked for anew", async () => {
  await using world = await openWeightWorld();
  const does = { kind: "status", status: 403 } as const;
  world.hub.faults = [{ path: FIRST, host: "cdn", does }];
  await assertWhole(world, (await world.pull()).dir);
});

test("a list in pages is read to its end", async () => {
  await using world = await openWeightWorld();
  world.hub.pageSize = 3;
  await assertWhole(world, (await world.pull()).dir);
});

for (const path of ["../evil.safetensors", "/etc/passwd", "a/../../b.json", "a\\..\\b.json"]) {
  test(`a file named ${JSON.stringify(path)} ends the pull before any file is fetched`, async () => {
    await using world = await openWeightWorld();
    world.hub.extraEntries = [{ type: "file", path, size: 3, oid: "c".repeat(40) }];
    await assert.rejects(world.pull(), problem("upstream_failed", /outside of its own folder/));
    assert.ok(!world.hub.seen.some((each) => each.path.includes("/resolve/")));
  });
}

test("without room nothing is fetched, and the bytes are named", async () => {
  await using world = await openWeightWorld();
  const store = world.store({ freeBytes: async () => 100_000_000 });
  await assertWhole(world, (await world.pull({}, store)).dir);
  await rm(world.dir, { recursive: true });
  const needed = NEEDED.reduce((sum, path) => sum + (madeUpFiles().get(path)?.length ?? 0), 0);
  const full = world.store({ freeBytes: async () => 67_108_864 + needed - 1 });
  world.hub.seen.length = 0;
  await assert.rejects(
    world.pull({}, full),
    problem("conflict", new RegExp(`^${needed} bytes`), new RegExp(`${67_108_863 + needed} free`)),
  );
  assert.ok(!world.hub.seen.some(({ path }) => path.includes("/resolve/")));
});

test("config.json with another architecture ends the pull before the weights", async () => {
  await using world = await openWeightWorld();
  const files = world.hub.repositories.get("made/up")?.files;
  files?.set("config.json", Buffer.from(JSON.stringify({ ...CONFIG, num_key_value_heads: 4 })));
  await assert.rejects(
    world.pull(),
    problem("conflict", /num_key_value_heads 4/, /kvHeads 2/, /made-up-1b/),
  );
  assert.ok(!world.hub.seen.some(({ path }) => path.includes(".safetensors?")));
});

test("a template that says nothing of tools is a warning, kept in the manifest", async () => {
  await using world = await openWeightWorld();
  const files = world.hub.repositories.get("made/up")?.files;
  const template = JSON.stringify({ chat_template: "{{ messages }}" });
  files?.set("tokenizer_config.json", Buffer.from(template));
  await world.pull();
  const warned = world.progress.filter(({ step }) => step === "warning");
  assert.equal(warned.length, 1);
  assert.match(warned[0]?.detail ?? "", /says nothing of tools/);
  const [found] = await world.store().list();
  assert.equal(found?.detail, warned[0]?.detail);
});

test("a licence that binds is refused before the first request, with the flag that accepts it", async () => {
  const licence = { id: "qwen-research", url: "https://licence.test/qwen", needsAcceptance: true };
  await using world = await openWeightWorld(madeUpCard({ licence }));
  await assert.rejects(
    world.pull(),
    problem("conflict", /https:\/\/licence\.test\/qwen/, /--accept-licence qwen-research/),
  );
  await assert.rejects(world.pull({ acceptedLicences: ["another"] }), problem("conflict"));
  assert.equal(world.hub.seen.length, 0);
  await world.pull({ acceptedLicences: ["qwen-research"], acceptedBy: "ada" });
  const [found] = await world.store().list();
  assert.equal(found?.accepted_by, "ada");
  assert.equal(found?.accepted_at, "2026-11-22T00:00:00.000Z");
  await rm(join(world.dir, "made-up-1b"), { recursive: true });
  await world.pull();
  assert.equal((await world.store().list())[0]?.accepted_by, "ada", "it was accepted once");
});
