/** Goal: a fault meets its place in a conversation and no other, and a retry gets past it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createFaults } from "../../../models/scripted/faults.ts";
import { openaiChat } from "../../../models/scripted/openai-chat.ts";
import { chatBody, INSTRUCTION, parseBody, script } from "./requests.ts";

function conversation(faultsYaml: string) {
  const played = script(`steps: []\nfaults:\n${faultsYaml}`);
  const faults = createFaults();
  return (results: readonly string[], more: object = {}, side: "normal" | "thinking" = "normal") =>
    faults.next(played, side, results.length, parseBody(openaiChat, chatBody(results, more)));
}

test("a fault comes after its calls, as often as it says, then no more", () => {
  const next = conversation("  - { status: 429, after: 1, times: 2 }\n");
  assert.equal(next([]), null);
  assert.deepEqual(next(["ok"]), { status: 429, after: 1, times: 2 });
  assert.equal(next(["ok"], { max_tokens: 5 })?.status, 429);
  assert.equal(next(["ok"]), null);
  assert.equal(next(["ok", "ok"]), null);
});

test("another conversation on the same script meets it as well", () => {
  const next = conversation("  - { status: 500 }\n");
  assert.equal(next([])?.status, 500);
  const other = {
    messages: [{ ...INSTRUCTION, content: "Fix the greeting in the other folder." }],
  };
  assert.equal(next([], other)?.status, 500);
  assert.equal(next([]), null);
});

test("a fault without an end stays from its place on; one of a side leaves the other alone", () => {
  const next = conversation("  - { no_usage: true, times: 0, after: 1, side: normal }\n");
  assert.equal(next([]), null);
  for (const results of [["ok"], ["ok"], ["ok", "ok"]]) {
    assert.equal(next(results)?.no_usage, true);
  }
  assert.equal(next(["ok"], {}, "thinking"), null);
});

test("faults of one place come one after the other", () => {
  const next = conversation("  - { status: 429 }\n  - { status: 500 }\n");
  assert.deepEqual([next([])?.status, next([])?.status, next([])], [429, 500, null]);
});
