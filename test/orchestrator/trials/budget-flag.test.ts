/** Goal: the word that the money is gone holds for the try that heard it, and for no later one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openTrialLife } from "../../support/trial-life.ts";

test("a try after one that was lost with its money gone is not stopped before its first call", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.engine.advance();
  await life.enrol(id);
  const budget = await life.ledger.findAccount("budget", `trial/${id}`);
  assert.ok(budget !== null);
  await life.events.exhausted(id, { budget, requiredNanos: 2n, availableNanos: 1n });
  life.scheduler.newest(id).status = "lost";
  for (let round = 0; round < 50 && (await life.trials.get(id)).tries < 2; round++) {
    await life.engine.advance();
  }
  const session = await life.sessions.authenticate(await life.enrol(id));
  assert.equal((await life.sessions.heartbeat(session, 0)).action, "continue");
});
