/** Goal: no text that an agent writes can keep its trial from being recorded or from ending. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openTrialLife } from "../../support/trial-life.ts";
import { agentReport } from "../../support/trial-world.ts";

// PostgreSQL's jsonb takes neither; both come from binary output and from texts cut in two.
const HOSTILE = 'a\u0000b \ud83d c \udc00 \\u0000 "\\ud800" 😀';
const SHOWN = 'a\ufffdb \ufffd c \ufffd \\u0000 "\\ud800" 😀';

test("text that the database cannot keep is kept with replacement characters", async () => {
  await using life = await openTrialLife({});
  const id = await life.create();
  await life.engine.advance();
  const session = await life.sessions.authenticate(await life.enrol(id));
  const data = { text: HOSTILE, [HOSTILE]: [HOSTILE] };
  const event = { cursor: 1, type: "agent.message", at: "2026-11-21T12:00:00Z", data } as const;
  assert.equal(await life.sessions.appendEvents(session, [event]), 1);
  const [stored] = (await life.trials.events(id, 0, 100)).filter(
    ({ type }) => type === "agent.message",
  );
  assert.deepEqual(stored?.data, { text: SHOWN, [SHOWN]: [SHOWN] });

  const report = { ...agentReport("install_failed"), detail: HOSTILE, plan_text: HOSTILE };
  await life.sessions.report(session, report as never);
  await life.engine.advance();
  const { state, reason } = await life.trials.get(id);
  assert.deepEqual({ state, reason }, { state: "errored", reason: `install_failed: ${SHOWN}` });
});
