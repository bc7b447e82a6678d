/**
 * Goal: a worker says only what is its to say, once, and is told at once when to stop.
 *
 * Method: the real sessions, engine and database with its notifications; one trial a test.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { test } from "node:test";
import type { EventType } from "../../../orchestrator/contract/events.ts";
import type { AccountId } from "../../../orchestrator/runtime/ids.ts";
import { agentReport, openTrialWorld, type TrialWorld } from "../../support/trial-world.ts";

const AT = "2026-11-21T12:00:00Z";

test("worker sessions", async (t) => {
  await using opened = await openTrialWorld();
  const { life } = opened;
  const { sessions } = life;

  await t.test("a token enrols once; an unknown one never", async () => {
    const { token } = await place(opened);
    await sessions.enrol(token);
    await assert.rejects(sessions.enrol(token), { code: "unauthenticated" });
    await assert.rejects(sessions.enrol(`et-${"x".repeat(43)}`), { code: "unauthenticated" });
    await assert.rejects(sessions.authenticate("at-none"), { code: "unauthenticated" });
  });

  await t.test("two that enrol at once with one token: one gets in", async () => {
    const { token } = await place(opened);
    const both = await Promise.allSettled([sessions.enrol(token), sessions.enrol(token)]);
    assert.equal(both.filter(({ status }) => status === "fulfilled").length, 1);
  });

  await t.test("an older allocation is fenced; tests are for the verifier alone", async () => {
    const { id, token } = await place(opened);
    const agent = await sessions.enrol(token);
    const session = await sessions.authenticate(agent.allocation_token);
    assert.equal(await sessions.testsPath(session), null);
    assert.equal(await sessions.patchPath(session), null);
    await sessions.appendArtefact(session, "changes.patch", 0, bytes("diff\n"));
    await sessions.report(session, agentReport("finished"));
    await life.engine.advance();
    await assert.rejects(sessions.authenticate(agent.allocation_token), { code: "fenced" });
    const verifier = await sessions.enrol(newestToken(opened, id));
    const verifying = await sessions.authenticate(verifier.allocation_token);
    const [tests, patch] = [
      await sessions.testsPath(verifying),
      await sessions.patchPath(verifying),
    ];
    assert.ok(tests !== null && patch !== null);
    assert.ok((await readFile(tests)).length > 0);
    assert.equal(await readFile(patch, "utf8"), "diff\n");
    await assert.rejects(sessions.report(verifying, agentReport("finished")), /purpose/);
  });

  await t.test("a cancel, or the end of the money, is told at once", async () => {
    for (const reason of ["cancelled", "budget"] as const) {
      const { id, token } = await place(opened);
      const { allocation_token } = await sessions.enrol(token);
      const session = await sessions.authenticate(allocation_token);
      await life.engine.advance();
      const startMs = performance.now();
      const told = sessions.heartbeat(session, 20_000);
      const budget = "account_00000000000000000000000000" as AccountId;
      if (reason === "cancelled") await life.trials.cancel(id);
      else await life.events.exhausted(id, { budget, requiredNanos: 2n, availableNanos: 1n });
      assert.deepEqual(await told, { action: "stop", reason });
      assert.ok(performance.now() - startMs < 10_000);
    }
  });

  await t.test("a worker may not speak for the engine or the gateway", async () => {
    const { token } = await place(opened);
    const { allocation_token } = await sessions.enrol(token);
    const session = await sessions.authenticate(allocation_token);
    const say = (type: EventType, cursor = 1) =>
      sessions.appendEvents(session, [{ cursor, type, at: AT, data: {} }]);
    for (const type of [
      "trial.state",
      "trial.retry",
      "call.settled",
      "budget.exhausted",
    ] as const) {
      await assert.rejects(say(type), { code: "forbidden" });
    }
    assert.equal(await say("trial.note"), 1);
  });

  await t.test("a batch that is sent again adds nothing", async () => {
    const { id, token } = await place(opened);
    const { allocation_token } = await sessions.enrol(token);
    const session = await sessions.authenticate(allocation_token);
    const batch = [1, 2, 3].map((cursor) => ({
      cursor,
      type: "agent.message" as const,
      at: AT,
      data: { text: String(cursor) },
    }));
    const acks = await Promise.all([
      sessions.appendEvents(session, batch.slice(0, 2)),
      sessions.appendEvents(session, batch),
    ]);
    assert.equal(Math.max(...acks), 3);
    const events = await life.trials.events(id, 0, 100);
    const texts = events.filter(({ type }) => type === "agent.message").map(({ data }) => data);
    assert.deepEqual(texts, [{ text: "1" }, { text: "2" }, { text: "3" }]);
  });

  await t.test(
    "packets that the worker's network dropped are recorded, as the trial's",
    async () => {
      const { id, token } = await place(opened);
      const { allocation_token, spec } = await sessions.enrol(token);
      const session = await sessions.authenticate(allocation_token);
      const data = { destination: "192.0.2.9:8080", protocol: "tcp", packets: 3 };
      const batch = [
        { cursor: 1, type: "egress.dropped" as const, at: AT, data },
        { cursor: 2, type: "trial.note" as const, at: AT, data: { level: "info", message: "x" } },
      ];
      await sessions.appendEvents(session, batch);
      await sessions.appendEvents(session, batch);
      const own = life.dropped.filter(({ trialId }) => trialId === id);
      assert.equal(new Set(own.map((draft) => draft.id)).size, 1, "again is the same record");
      const [draft] = own;
      assert.deepEqual(
        [draft?.kind, draft?.allocationId, draft?.server.host, draft?.server.port],
        ["packet", spec.allocation_id, "192.0.2.9", 8080],
      );
      assert.deepEqual([draft?.transport, draft?.sentCount, draft?.agent], ["tcp", 3, "aider"]);
      assert.match(String(draft?.projectId), /^project_/);
    },
  );

  await t.test("artefacts: no gap, no harm in a repeat, no more than the limit", async () => {
    const { token } = await place(opened);
    const { allocation_token } = await sessions.enrol(token);
    const session = await sessions.authenticate(allocation_token);
    const append = (name: string, offset: number, text: string) =>
      sessions.appendArtefact(session, name, offset, bytes(text));
    assert.equal(await append("a.log", 0, "hello"), 5);
    assert.equal(await append("a.log", 5, " you"), 9);
    assert.equal(await append("a.log", 0, "hello"), 9);
    await assert.rejects(append("a.log", 20, "gap"), { code: "conflict" });
    await assert.rejects(append("a.log", 9, "x".repeat(1_000_000)), { code: "too_large" });
    for (const name of ["../x", "..", "a/b", "A", "", ".x", "x".repeat(101)]) {
      await assert.rejects(append(name, 0, "x"), { code: "invalid_request" }, name);
    }
  });
});

async function place(opened: TrialWorld) {
  const id = await opened.create();
  await opened.life.engine.advance();
  return { id, token: newestToken(opened, id) };
}

function newestToken(opened: TrialWorld, trialId: string): string {
  const placed = opened.scheduler.placements.findLast((each) => each.trialId === trialId);
  assert.ok(placed !== undefined);
  return placed.enrolmentToken;
}

function bytes(text: string): Readable {
  return Readable.from([Buffer.from(text)]);
}
