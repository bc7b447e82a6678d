/** Goal: what is verified is what the last try left, never the diff of one that was given up. */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { openTrialLife } from "../../support/trial-life.ts";

test("the verifier of a try without changes gets no diff of the try before it", async () => {
  await using life = await openTrialLife({ limits: "{ retries: 3 }" });
  const id = await life.create();
  await life.engine.advance();
  const first = await life.enrol(id);
  const patch = Readable.from([Buffer.from("the first try's diff\n")]);
  const session = await life.sessions.authenticate(first);
  await life.sessions.appendArtefact(session, "changes.patch", 0, patch);
  await life.reportAgent(first, "crash");
  await life.engine.advance();
  await life.world.database.sql.execute(sql`update trial set not_before = null`);
  await life.engine.advance();
  await life.reportAgent(await life.enrol(id), "finished");
  await life.engine.advance();
  const verifier = await life.sessions.authenticate(await life.enrol(id));
  assert.equal(verifier.purpose, "verify");
  assert.equal(await life.sessions.patchPath(verifier), null);
});
