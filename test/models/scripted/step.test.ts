/**
 * Goal: the step is read off the history alone, whatever CLIs put into it, and a file change that
 * failed is repeated once after reading again, so that every history leads to an end.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ModelRequest, Turn } from "../../../models/scripted/dialect.ts";
import { openaiChat } from "../../../models/scripted/openai-chat.ts";
import { positionOf } from "../../../models/scripted/step.ts";
import { chatBody, parseBody, script } from "./requests.ts";

const { steps } = script();
const READ_FIRST = "File /srv/task/src/greet.js has not been read in this session. Use read_file.";

function after(...results: string[]) {
  return positionOf(parseBody(openaiChat, chatBody(results)), steps);
}

test("one tool turn is one step, and the script runs out at its end", () => {
  assert.deepEqual(after(), { step: 0, isRepair: false, turns: 0 });
  assert.deepEqual(after("ok"), { step: 1, isRepair: false, turns: 1 });
  assert.deepEqual(after("ok", "ok", "ok"), { step: 3, isRepair: false, turns: 3 });
  assert.deepEqual(after("ok", "ok", "ok", "ok", "ok"), { step: 4, isRepair: false, turns: 5 });
});

test("a failed change is read again, repeated once, and then given up", () => {
  assert.deepEqual(after("ok", READ_FIRST), { step: 1, isRepair: true, turns: 2 });
  assert.deepEqual(after("ok", READ_FIRST, "text"), { step: 1, isRepair: false, turns: 3 });
  assert.deepEqual(after("ok", READ_FIRST, "text", "done"), { step: 2, isRepair: false, turns: 4 });
  const twice = after("ok", READ_FIRST, "text", READ_FIRST);
  assert.deepEqual(twice, { step: 2, isRepair: false, turns: 4 });
});

test("the words by which CLIs report a failed change, and some that only look like it", () => {
  const failed = [
    READ_FIRST,
    "Failed to edit, 0 occurrences found for old_string in /srv/task/x.",
    "Could not find oldString in the file. It must match exactly.",
    "Wall time: 0.1 seconds\nProcess exited with code 1\nOutput:\n",
    "apply_patch verification failed: Failed to find expected lines in x",
    "Error: no such file",
  ];
  const fine = [
    "The file has been updated.\n  throw new Error('file has not been read')",
    "Edit applied successfully.",
    "Process exited with code 0\nOutput:\n",
  ];
  for (const text of failed) assert.equal(after("ok", text).isRepair, true, text);
  for (const text of fine) assert.equal(after("ok", text).isRepair, false, text);
});

test("a failing test run or a failing read is no failed change", () => {
  assert.equal(after("Error: no such file").step, 1);
  assert.equal(after("ok", "ok", "Process exited with code 1").step, 3);
});

test("a new instruction starts anew; what CLIs add by themselves does not", () => {
  const told = (text: string): number => {
    const history = parseBody(openaiChat, chatBody(["ok", "ok"]));
    const turns: Turn[] = [...history.turns, { role: "user", text }];
    return positionOf({ ...history, turns }, steps).step;
  };
  assert.equal(told("Now implement the plan."), 0);
  assert.equal(told("<system-reminder>\nBe brief.\n</system-reminder>"), 2);
  assert.equal(told("<environment_context>\n<cwd>/x</cwd></environment_context>\n"), 2);
  assert.equal(told("<system-reminder>a</system-reminder> Go on."), 0);
});

test("calls of one answer that the history interleaves with results are one step", () => {
  const use = (id: string): Turn => ({
    role: "assistant",
    text: "",
    toolUses: [{ id, name: "exec_command" }],
  });
  const result = (toolUseId: string): Turn => ({
    role: "tool",
    toolUseId,
    text: "ok",
    isError: null,
  });
  const turns = ["call_aa_0", "call_aa_1", "call_bb_0"].flatMap((id) => [use(id), result(id)]);
  const request: ModelRequest = { ...parseBody(openaiChat, chatBody()), turns };
  assert.equal(positionOf(request, steps).step, 2);
});

test("every history moves on: no step is played more than three times", () => {
  const result = fc.constantFrom("ok", READ_FIRST, "Process exited with code 1");
  fc.assert(
    fc.property(fc.array(result, { maxLength: 40 }), (results) => {
      const { step, turns } = after(...results);
      assert.equal(turns, results.length);
      assert.ok(step >= Math.min(steps.length, Math.floor(results.length / 3)));
    }),
  );
});
