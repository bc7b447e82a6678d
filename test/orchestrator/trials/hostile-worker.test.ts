/** Goal: a worker with a valid token, in an agent's hands, gets no more than its own allocation. */
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { openTrialLife } from "../../support/trial-life.ts";

test("an agent's allocation is never given hidden tests, nor an engine's or gateway's voice", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.engine.advance();
  const session = await life.sessions.authenticate(await life.enrol(id));
  assert.equal(session.purpose, "agent");
  assert.equal(await life.sessions.testsPath(session), null);
  assert.equal(await life.sessions.patchPath(session), null);
  for (const type of ["trial.state", "call.settled", "budget.exhausted"] as const) {
    const event = { cursor: 1, type, at: "2026-11-21T12:00:00Z", data: {} };
    await assert.rejects(life.sessions.appendEvents(session, [event]), { code: "forbidden" });
  }
});

test("names of artefacts lead nowhere, and there is an end to them", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.engine.advance();
  const session = await life.sessions.authenticate(await life.enrol(id));
  const put = (name: string) =>
    life.sessions.appendArtefact(session, name, 0, Readable.from([Buffer.from("x")]));
  for (const name of ["../x", ".x", "a/b", "a\0b", "", "A", "a".repeat(101)]) {
    await assert.rejects(put(name), { code: "invalid_request" }, JSON.stringify(name));
  }
  for (let n = 0; n < 32; n++) await put(`note-${n}.txt`);
  await assert.rejects(put("one-more.txt"), { code: "too_large" });
  assert.equal(await put("note-0.txt"), 1, "what is there already may still be written");
});
