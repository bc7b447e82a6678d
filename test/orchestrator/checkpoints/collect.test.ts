/**
 * Goal: the disk holds what checkpoints need and nothing else, and no upload loses a content to the
 * collection, whenever it runs.
 */
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { createCollection } from "../../../orchestrator/checkpoints/collect.ts";
import { createBlobs } from "../../../orchestrator/checkpoints/files.ts";
import { createCheckpoints } from "../../../orchestrator/checkpoints/postgres.ts";
import type { Session } from "../../../orchestrator/trials/worker-sessions.ts";
import { CHECKPOINT_BYTES, CHECKPOINTS_KEPT } from "../../simulation/world.ts";
import { archiveOf, keepCheckpoint, sha256 } from "../../support/checkpoints.ts";
import { openTrialLife } from "../../support/trial-life.ts";

const GRACE_MS = 3_600_000;

/** A life whose clock of contents and collections the test sets. */
async function openCollecting() {
  const life = await openTrialLife({});
  const clock = { ms: Date.parse("2026-11-21T12:00:00Z"), now: () => clock.ms };
  const blobs = createBlobs(life.layout, clock, life.world.random);
  const parts = { db: life.world.database, blobs, clock };
  const bounds = { bytesMax: CHECKPOINT_BYTES, kept: CHECKPOINTS_KEPT };
  const checkpoints = createCheckpoints(parts, bounds);
  const collection = createCollection(parts, { periodMs: 1, graceMs: GRACE_MS });
  const { id: projectId } = await life.projects.find("p");
  return { ...life, clock, blobs, checkpoints, collection, projectId, start, stored };

  async function start(): Promise<Session> {
    const id = await life.create();
    await life.engine.advance();
    return life.sessions.authenticate(await life.enrol(id));
  }

  async function stored(): Promise<(string | null)[]> {
    const files = await Array.fromAsync(blobs.list(projectId));
    return files.map(({ sha256: name }) => name).toSorted();
  }
}

test("what only a forgotten checkpoint needed is removed, after the grace", async () => {
  await using life = await openCollecting();
  const session = await life.start();
  for (let sequence = 1; sequence <= CHECKPOINTS_KEPT + 2; sequence++) {
    const files = { always: "always", "a.txt": `version ${sequence}` };
    await keepCheckpoint(life.checkpoints, session, sequence, files);
  }
  const { checkpoints } = await life.checkpoints.tree(session.trialId);
  assert.equal(checkpoints.length, CHECKPOINTS_KEPT);
  // Those that stayed hang together still.
  assert.deepEqual(
    checkpoints.map(({ parent_id }) => parent_id),
    [null, ...checkpoints.slice(0, -1).map(({ id }) => id)],
  );
  assert.equal(await life.collection.activate(), 0, "within the grace");
  life.clock.ms += GRACE_MS;
  assert.equal(await life.collection.activate(), 4, "two contents and two manifests");
  assert.equal(await life.collection.activate(), 0);
  const needed = [
    sha256("always"),
    ...[3, 4, 5].map((version) => sha256(`version ${version}`)),
    ...checkpoints.map(({ manifest_sha256 }) => manifest_sha256),
  ];
  assert.deepEqual(await life.stored(), needed.toSorted());
});

test("an upload that was cut off is removed, one that is asked after is kept", async () => {
  await using life = await openCollecting();
  const session = await life.start();
  await life.checkpoints.store(session, archiveOf(["forsaken", "wanted"]));
  const incoming = join(life.layout.project(life.projectId).checkpoints, "incoming");
  await mkdir(incoming, { recursive: true });
  await writeFile(join(incoming, "0123"), "half of it");
  life.clock.ms = Date.now() + 2 * GRACE_MS;
  assert.deepEqual(await life.checkpoints.missing(session, [sha256("wanted")]), []);
  assert.equal(await life.collection.activate(), 2);
  assert.deepEqual(await life.stored(), [sha256("wanted")]);
  const made = await keepCheckpoint(life.checkpoints, session, 1, { a: "wanted" });
  life.clock.ms += 2 * GRACE_MS;
  assert.equal(await life.collection.activate(), 0);
  assert.equal(made.new_byte_count, 6);
});

test("collecting all the time, beside uploads, loses none of their contents", async () => {
  await using life = await openCollecting();
  const sessions = [await life.start(), await life.start()];
  // No grace: the lock and the worker's second try alone must do.
  const parts = { db: life.world.database, blobs: life.blobs, clock: life.clock };
  const greedy = createCollection(parts, { periodMs: 1, graceMs: 0 });
  let isDone = false;
  const collecting = (async () => {
    while (!isDone) await greedy.activate();
  })();
  await Promise.all(
    sessions.map(async (session, index) => {
      for (let sequence = 1; sequence <= 10; sequence++) {
        await untilKept(session, sequence, { a: `${index} ${sequence}`, same: "same" });
      }
    }),
  );
  isDone = true;
  await collecting;
  const there = new Set(await life.stored());
  for (const { trialId } of sessions) {
    for (const { manifest_sha256: manifest } of (await life.checkpoints.tree(trialId))
      .checkpoints) {
      assert.ok(there.has(manifest));
    }
  }
  assert.ok(there.has(sha256("0 10")) && there.has(sha256("1 10")) && there.has(sha256("same")));

  async function untilKept(session: Session, sequence: number, files: Record<string, string>) {
    for (;;) {
      try {
        return await keepCheckpoint(life.checkpoints, session, sequence, files);
      } catch (error) {
        if ((error as { code?: string }).code !== "conflict") throw error;
      }
    }
  }
});
