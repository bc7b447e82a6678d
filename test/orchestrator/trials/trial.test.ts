/** Goal: every way an allocation can end leads somewhere, and no trial is tried for ever. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { AgentOutcome } from "../../../orchestrator/contract/worker.ts";
import { type AgentEnd, afterAgent, afterVerifier } from "../../../orchestrator/trials/trial.ts";

const RULES = { retries: 2, delayMs: 1_000 };
const AFTER_FIRST_TRY: Record<AgentOutcome, ReturnType<typeof afterAgent>> = {
  finished: { to: "verifying", flags: [] },
  limit: { to: "verifying", flags: ["agent_limit"] },
  wall_clock: { to: "verifying", flags: ["agent_wall_clock"] },
  idle: { to: "verifying", flags: ["agent_idle"] },
  budget: { to: "paused", for: "budget", reason: "why" },
  quota: { to: "paused", for: "quota", reason: "why" },
  killed: { to: "queued", failureClass: "worker_stopped", delayMs: 1_000, isFromCheckpoint: true },
  model_error: {
    to: "queued",
    failureClass: "model_error",
    delayMs: 1_000,
    isFromCheckpoint: false,
  },
  crash: { to: "queued", failureClass: "crash", delayMs: 1_000, isFromCheckpoint: false },
  workspace_failed: {
    to: "queued",
    failureClass: "workspace_failed",
    delayMs: 1_000,
    isFromCheckpoint: false,
  },
  install_failed: { to: "errored", reason: "install_failed: why" },
  auth: { to: "errored", reason: "auth: why" },
};
const OUTCOMES = Object.keys(AFTER_FIRST_TRY) as AgentOutcome[];
const anyEnd = fc.oneof(
  fc.constant<AgentEnd>({ kind: "lost", detail: "why" }),
  fc
    .constantFrom(...OUTCOMES)
    .map((outcome): AgentEnd => ({ kind: "reported", outcome, detail: "why" })),
);

for (const outcome of OUTCOMES) {
  test(`after an agent's ${outcome}`, () => {
    const end = { kind: "reported", outcome, detail: "why" } as const;
    assert.deepEqual(afterAgent(end, 1, RULES), AFTER_FIRST_TRY[outcome]);
  });
}

test("the wait doubles up to a minute, and the last try is the end", () => {
  const crash = { kind: "reported", outcome: "crash", detail: "why" } as const;
  const delays = Array.from({ length: 8 }, (_, index) => {
    const next = afterAgent(crash, index + 1, { retries: 8, delayMs: 1_000 });
    return next.to === "queued" ? next.delayMs : null;
  });
  assert.deepEqual(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  const reason = "crash, 3 tries: why";
  assert.deepEqual(afterAgent(crash, 3, RULES), { to: "errored", reason });
});

test("whatever happens, tries are bounded", () => {
  fc.assert(
    fc.property(fc.array(anyEnd, { minLength: 40, maxLength: 40 }), (ends) => {
      let tries = 0;
      for (const end of ends) {
        tries += 1;
        if (afterAgent(end, tries, RULES).to !== "queued") break;
      }
      assert.ok(tries <= 10, `${tries} tries`);
    }),
  );
});

test("after the verifier", () => {
  const said = (verdict: "passed" | "failed" | "error") =>
    afterVerifier({ kind: "reported", verdict, detail: "why" }, 1, 2);
  assert.deepEqual(said("passed"), { to: "succeeded", reason: "why" });
  assert.deepEqual(said("failed"), { to: "failed", reason: "why" });
  assert.deepEqual(said("error"), { to: "errored", reason: "tests did not run: why" });
  const lost = { kind: "lost", detail: "why" } as const;
  assert.deepEqual(
    [1, 2, 3].map((tries) => afterVerifier(lost, tries, 2).to),
    ["verifying", "verifying", "errored"],
  );
});
