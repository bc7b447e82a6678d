/**
 * Goal: what was kept comes back byte for byte; the same content is stored once and counted as new
 * once; nothing that cannot be put back is ever called a checkpoint, whatever a worker sends and
 * whenever the orchestrator is killed.
 *
 * Method: the real database and real files, workers' sessions as the engine makes them.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { sql } from "drizzle-orm";
import fc from "fast-check";
import { createCheckpoints } from "../../../orchestrator/checkpoints/postgres.ts";
import type { Manifest } from "../../../orchestrator/contract/checkpoints.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import type { Session } from "../../../orchestrator/trials/worker-sessions.ts";
import { unpackCheckpoint } from "../../../worker-agent/checkpoint-restore.ts";
import { createCrashingDatabase } from "../../simulation/crashing-database.ts";
import { CHECKPOINT_BYTES } from "../../simulation/world.ts";
import { archiveOf, keepCheckpoint, newCheckpoint, sha256 } from "../../support/checkpoints.ts";
import { openTrialLife } from "../../support/trial-life.ts";

type TrialLife = Awaited<ReturnType<typeof openTrialLife>>;

async function startTrial(life: TrialLife): Promise<{ id: TrialId; session: Session }> {
  const id = await life.create();
  await life.engine.advance();
  return { id, session: await life.sessions.authenticate(await life.enrol(id)) };
}

/** The files of the checkpoint that the trial would go on from, were it this one. */
async function restored(life: TrialLife, session: Session, checkpointId: string) {
  await life.world.database.sql.execute(sql`
    update trial set resume = jsonb_build_object('checkpoint_id', ${checkpointId}::text)
    where id = ${session.trialId}`);
  const dir = await mkdtemp(join(tmpdir(), "autocode-restore-"));
  try {
    const archive = await life.checkpoints.restore(session);
    assert.ok(archive !== null);
    await writeFile(join(dir, "archive"), archive);
    const [row] = await rows<{ manifest_sha256: string }>(
      life.world.database.sql,
      sql`select manifest_sha256 from checkpoint where id = ${checkpointId}`,
    );
    const manifestSha256 = row?.manifest_sha256 ?? "";
    const options = { dir: join(dir, "unpacked"), manifestSha256 };
    const { manifest, contentOf } = await unpackCheckpoint(join(dir, "archive"), options);
    return { manifest, files: await filesOf(manifest, contentOf) };
  } finally {
    await rm(dir, { recursive: true });
  }
}

async function filesOf({ work }: Manifest, contentOf: (sha256: string) => Promise<Buffer>) {
  const files: Record<string, string> = {};
  for (const entry of work) {
    if (entry.type === "deleted") continue;
    files[entry.path] = (await contentOf(entry.sha256)).toString();
  }
  return files;
}

test("what is kept comes back, and only what is new is stored", async () => {
  await using life = await openTrialLife({});
  const { id, session } = await startTrial(life);
  const first = { "a.txt": "one\n", "dir/b.bin": "\u0000\u0001two", "c.txt": "one\n", empty: "" };
  const one = await keepCheckpoint(life.checkpoints, session, 1, first);
  assert.deepEqual(
    [one.parent_id, one.file_count, one.byte_count, one.new_byte_count, one.completed_phases],
    [null, 4, 13, 9, ["plan"]],
  );
  const second = { ...first, "a.txt": "three\n" };
  const two = await keepCheckpoint(life.checkpoints, session, 2, second);
  assert.deepEqual([two.parent_id, two.byte_count, two.new_byte_count], [one.id, 15, 6]);
  assert.deepEqual((await restored(life, session, two.id)).files, second);
  assert.deepEqual((await restored(life, session, one.id)).files, first);

  // Another trial of the project has it already; a third sees the first again.
  const other = await startTrial(life);
  const three = await keepCheckpoint(life.checkpoints, other.session, 1, second);
  assert.deepEqual([three.parent_id, three.new_byte_count], [null, 0]);
  assert.equal(three.manifest_sha256, two.manifest_sha256);

  const { trials, checkpoints } = await life.checkpoints.tree(id);
  assert.deepEqual(
    trials.map((trial) => trial.id),
    [id],
  );
  assert.deepEqual(checkpoints, [one, two]);
  await assert.rejects(life.checkpoints.tree(life.ids.next("trial")), { code: "not_found" });
});

test("a repeat changes nothing, and a set-back clock mixes no order up", async () => {
  await using life = await openTrialLife({});
  const { session } = await startTrial(life);
  const one = await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  assert.deepEqual(await life.checkpoints.commit(session, newCheckpoint(1, { a: "1" })), one);
  const late = { db: life.world.database, blobs: life.blobs, clock: { now: () => 1_000_000 } };
  const setBack = createCheckpoints(late, { bytesMax: CHECKPOINT_BYTES, kept: 3 });
  const two = await keepCheckpoint(setBack, session, 2, { a: "2" });
  assert.ok(two.created_at > one.created_at, `${two.created_at} after ${one.created_at}`);
  assert.equal(two.parent_id, one.id);
});

test("what cannot be put back is no checkpoint", async (t) => {
  await using life = await openTrialLife({});
  const { session } = await startTrial(life);
  const { checkpoints } = life;
  const content = "lacking";
  await t.test("contents that were never stored", async () => {
    const wanted = newCheckpoint(1, { a: content });
    await assert.rejects(checkpoints.commit(session, wanted), { code: "conflict" });
    assert.deepEqual(await checkpoints.missing(session, [sha256(content)]), [sha256(content)]);
  });
  await t.test("one whose size is another", async () => {
    await checkpoints.store(session, archiveOf(["12345"]));
    const wanted = newCheckpoint(1, { a: "12345" });
    const work = wanted.manifest.work.map((entry) => ({ ...entry, byte_count: 4 }) as typeof entry);
    const wrong = { ...wanted, manifest: { ...wanted.manifest, work } };
    await assert.rejects(checkpoints.commit(session, wrong), { code: "invalid_request" });
  });
  await t.test("files that cannot stand beside one another", async () => {
    const wanted = newCheckpoint(1, { a: "12345", "a/b": "12345" });
    await assert.rejects(checkpoints.commit(session, wanted), { code: "invalid_request" });
  });
  await t.test("contents that are not what they are called, and names that are none", async () => {
    const lie = archiveOf(["not zeros"], () => "0".repeat(64));
    await assert.rejects(checkpoints.store(session, lie), { code: "invalid_request" });
    for (const name of ["../../../evil", `../${"0".repeat(64)}`, "A".repeat(64), "manifest.json"]) {
      const archive = archiveOf(["evil"], () => name);
      await assert.rejects(checkpoints.store(session, archive), { code: "invalid_request" });
      await assert.rejects(checkpoints.missing(session, [name]), { code: "invalid_request" });
    }
    const left = await Array.fromAsync(life.blobs.list((await project(life)).id));
    assert.deepEqual(
      left.map((file) => file.sha256),
      [sha256("12345")],
    );
  });
  await t.test("no archive, one that is cut off, and one that unpacks to too much", async () => {
    const whole = Buffer.concat(await archiveOf(["x".repeat(1_000)]).toArray());
    for (const broken of [Buffer.from("none"), whole.subarray(0, 60), Buffer.of()]) {
      const archive = Readable.from([broken]);
      await assert.rejects(checkpoints.store(session, archive), { code: "invalid_request" });
    }
    const bomb = gzipSync(Buffer.alloc(100 * 1_048_576), { level: 9 });
    assert.ok(bomb.byteLength < 200_000);
    await assert.rejects(checkpoints.store(session, Readable.from([bomb])), {
      code: "too_large",
    });
    const large = [1, 2, 3].map((byte) => Buffer.alloc(900_000, byte));
    await assert.rejects(checkpoints.store(session, archiveOf(large)), { code: "too_large" });
  });
});

test("one that is larger than allowed is refused", async () => {
  await using life = await openTrialLife({});
  const { session } = await startTrial(life);
  const files = { a: "a".repeat(600_000), b: "b".repeat(600_000) };
  await assert.rejects(keepCheckpoint(life.checkpoints, session, 1, files), { code: "too_large" });
  assert.deepEqual((await life.checkpoints.tree(session.trialId)).checkpoints, []);
});

test("a verifier has none, and a worker that was overtaken makes none", async () => {
  await using life = await openTrialLife({});
  const { id, session } = await startTrial(life);
  const verifier = { ...session, purpose: "verify" } as const;
  await assert.rejects(life.checkpoints.missing(verifier, []), { code: "forbidden" });
  await assert.rejects(life.checkpoints.restore(verifier), { code: "forbidden" });
  await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  life.scheduler.newest(id).status = "lost";
  await life.engine.advance();
  const late = keepCheckpoint(life.checkpoints, session, 2, { a: "2" });
  await assert.rejects(late, { code: "fenced" });
  assert.equal((await life.checkpoints.tree(id)).checkpoints.length, 1);
});

test("a checkpoint whose contents are gone from the disk says so", async () => {
  await using life = await openTrialLife({});
  const { session } = await startTrial(life);
  const { id } = await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  const { id: projectId } = await project(life);
  for await (const file of life.blobs.list(projectId)) {
    if (file.sha256 === sha256("1")) await life.blobs.remove(file);
  }
  await assert.rejects(restored(life, session, id), /cannot be restored: 1 of its contents/);
});

test("many at once, and their new bytes add up to what is stored", async () => {
  await using life = await openTrialLife({ slots: 6 });
  const sessions: Session[] = [];
  for (let index = 0; index < 4; index++) sessions.push((await startTrial(life)).session);
  const files = fc.dictionary(fc.constantFrom("a", "b", "c/d", "e"), fc.string({ maxLength: 3 }));
  await fc.assert(
    fc.asyncProperty(fc.array(files, { minLength: 4, maxLength: 4 }), async (trees) => {
      const made = await Promise.all(
        trees.map((tree, index) => {
          const session = sessions[index];
          assert.ok(session !== undefined);
          const sequence = 1 + Math.floor(life.world.random.below(1_000_000));
          return keepCheckpoint(life.checkpoints, session, sequence, tree);
        }),
      );
      for (const [index, { byte_count, file_count }] of made.entries()) {
        const contents = Object.values(trees[index] ?? {});
        assert.equal(file_count, contents.length);
        assert.equal(
          byte_count,
          contents.reduce((sum, text) => sum + Buffer.byteLength(text), 0),
        );
      }
    }),
    { numRuns: 15 },
  );
  const [sums] = await rows<{ made: string; manifests: string[] }>(
    life.world.database.sql,
    sql`select sum(new_byte_count)::text as made, array_agg(distinct manifest_sha256) as manifests
      from checkpoint`,
  );
  let stored = 0;
  for await (const { sha256: name } of life.blobs.list((await project(life)).id)) {
    if (name === null || (sums?.manifests ?? []).includes(name)) continue;
    stored += (await life.blobs.size((await project(life)).id, name)) ?? 0;
  }
  // What was forgotten and then kept again is new twice.
  assert.ok(Number(sums?.made) <= stored);
});

test("killed at any of its steps, the former one stays whole and the repeat makes the next", async () => {
  await using life = await openTrialLife({});
  const { id, session } = await startTrial(life);
  const first = await keepCheckpoint(life.checkpoints, session, 1, { a: "1" });
  let sequence = 2;
  for (const isAppliedAtDeath of [false, true]) {
    for (let operations = 0, isDead = true; isDead; operations++) {
      const db = createCrashingDatabase(life.world.database, { operations, isAppliedAtDeath });
      const parts = { db, blobs: life.blobs, clock: life.world.clock };
      const dying = createCheckpoints(parts, { bytesMax: CHECKPOINT_BYTES, kept: 100 });
      const files = { a: `${sequence}`, b: "b" };
      const attempt = keepCheckpoint(dying, session, sequence, files);
      await attempt.catch((error: unknown) => assert.match(String(error), /Killed/));
      isDead = db.isDead();
      assert.deepEqual((await restored(life, session, first.id)).files, { a: "1" });
      const repeat = createCheckpoints(
        { ...parts, db: life.world.database },
        { bytesMax: CHECKPOINT_BYTES, kept: 100 },
      );
      const made = await keepCheckpoint(repeat, session, sequence, files);
      assert.deepEqual((await restored(life, session, made.id)).files, files);
      sequence += 1;
    }
  }
  const { checkpoints } = await life.checkpoints.tree(id);
  assert.equal(checkpoints.length, sequence - 1, "each was made once");
});

async function project(life: TrialLife): Promise<{ id: string }> {
  return life.projects.find("p");
}
