/** Goal: a request is answered by its step, within its limit, and the same way each time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { answerTo, sideOf } from "../../../models/scripted/answer.ts";
import { anthropicMessages } from "../../../models/scripted/anthropic-messages.ts";
import { ScriptedProblem } from "../../../models/scripted/dialect.ts";
import { openaiChat } from "../../../models/scripted/openai-chat.ts";
import {
  chatBody,
  INSTRUCTION,
  MESSAGES_TOOLS,
  parseBody,
  SCRIPT_SOURCE,
  script,
} from "./requests.ts";

function played(body: object, source = SCRIPT_SOURCE) {
  return answerTo(script(source), parseBody(openaiChat, body), "call_").answer;
}

function texts(body: object, source = SCRIPT_SOURCE): string[] {
  return played(body, source).blocks.map((block) =>
    block.kind === "tool_use" ? `${block.name} ${block.input}` : block.text,
  );
}

test("plays the steps in turn and ends with text", () => {
  assert.deepEqual(texts(chatBody()), [
    "I read the file first.",
    'read_file {"path":"src/greet.js"}',
    'read_file {"path":"test/greet.test.js"}',
  ]);
  assert.deepEqual(texts(chatBody(["ok"])), [
    "The word is wrong.",
    `edit {"path":"src/greet.js","old_string":"say('helo')","new_string":"say('hello')"}`,
  ]);
  assert.deepEqual(texts(chatBody(["ok", "ok"])), ['bash {"command":"node --test"}']);
  const end = played(chatBody(["ok", "ok", "ok"]));
  assert.deepEqual([end.stop, end.blocks.length], ["end", 1]);
});

test("reads a file again when its change failed", () => {
  assert.deepEqual(texts(chatBody(["ok", "Failed to edit, 0 occurrences found"])), [
    "That change did not go in. I read the file again.",
    'read_file {"path":"src/greet.js"}',
  ]);
});

test("the thinking model plays the plan", () => {
  assert.equal(sideOf("scripted-thinking"), "thinking");
  const model = { model: "scripted-thinking" };
  assert.deepEqual(texts(chatBody([], model)), ['read_file {"path":"src/greet.js"}']);
  assert.deepEqual(texts(chatBody(["ok"], model)), ["Change the word in src/greet.js."]);
});

test("thinks only where the request lets it", () => {
  const body = {
    model: "scripted-normal",
    max_tokens: 100,
    messages: [INSTRUCTION],
    tools: MESSAGES_TOOLS,
  };
  const source = "steps:\n  - - think: Hm.\n    - shell: ls\n";
  const kinds = (more: object) =>
    answerTo(
      script(source),
      parseBody(anthropicMessages, { ...body, ...more }),
      "toolu_",
    ).answer.blocks.map(({ kind }) => kind);
  assert.deepEqual(kinds({}), ["tool_use"]);
  assert.deepEqual(kinds({ thinking: { type: "enabled" } }), ["thinking", "tool_use"]);
});

test("running out ends the task, or is an error that says which script and step", () => {
  const source = "steps:\n  - - shell: ls\n";
  assert.deepEqual(texts(chatBody(["ok"]), source), ["Done."]);
  const message =
    "script greeting ran out: the agent asked for step 2 and it has 1; " +
    "add a last step that only says";
  assert.throws(
    () => texts(chatBody(["ok"]), `${source}on_end: error\n`),
    new ScriptedProblem(400, "script_ran_out", message),
  );
});

test("a tool that is not offered is an error that says which script and step", () => {
  const source = "steps:\n  - - tool: { name: todo, args: {} }\n";
  assert.throws(
    () => texts(chatBody(), source),
    new ScriptedProblem(
      400,
      "script_tool_missing",
      "script greeting, normal step 1: the script needs the tool todo, " +
        "and the agent offers only: read_file, edit, bash",
    ),
  );
});

test("agents without tools get edits, a commit message, a title, a plan or a rule's answer", () => {
  const ask = (system: string, more: object = {}, source = SCRIPT_SOURCE): string =>
    texts({ ...toolless(system), ...more }, source).join();
  const edits =
    "I make these changes.\n\nsrc/greet.js\n```\n<<<<<<< SEARCH\nsay('helo')\n=======\n" +
    "say('hello')\n>>>>>>> REPLACE\n```\n";
  assert.equal(ask("Answer in SEARCH/REPLACE blocks."), edits);
  assert.equal(ask("Write a commit message."), "fix: greeting");
  assert.equal(ask("You make a title."), "greeting");
  assert.equal(
    ask("Direct your editor.", { model: "scripted-thinking" }),
    "Change the word in src/greet.js.",
  );
  assert.equal(ask("What now?"), "The greeting is spelt right.");
  const rule = `${SCRIPT_SOURCE}when:\n  - { match: /what now/i, say: A rule. }\n`;
  assert.equal(ask("What now?", {}, rule), "A rule.");

  const answered = [INSTRUCTION, { role: "assistant", content: edits }, INSTRUCTION];
  const again = { messages: [{ role: "system", content: "SEARCH/REPLACE" }, ...answered] };
  assert.equal(ask("", again), "Nothing is left to change.");
});

function toolless(system: string): object {
  const messages = [{ role: "system", content: system }, INSTRUCTION];
  return { model: "scripted-normal", messages };
}

test("usage is a quarter of the bytes in and out, rounded up", () => {
  const body = chatBody(["ok"]);
  const { usage, blocks } = played(body);
  const out = blocks.map((b) => (b.kind === "tool_use" ? b.name + b.input : b.text)).join("");
  assert.deepEqual(usage, {
    inputTokens: Math.ceil(JSON.stringify(body).length / 4),
    outputTokens: Math.ceil(out.length / 4),
    reasoningTokens: Math.ceil("The word is wrong.".length / 4),
  });
});

test("no answer passes its limit; one that was cut says so", () => {
  const whole = played(chatBody(["ok"]));
  fc.assert(
    fc.property(fc.nat(60), (limit) => {
      const { usage, stop, blocks } = played(chatBody(["ok"], { max_tokens: limit }));
      const isCut = limit < (whole.usage?.outputTokens ?? 0);
      assert.ok((usage?.outputTokens ?? Number.NaN) <= limit || !isCut);
      assert.equal(stop, isCut ? "length" : "tool_use");
      for (const block of blocks) if (block.kind === "tool_use") JSON.parse(block.input);
    }),
  );
});

test("ids are made of the request: the same again, another for another", () => {
  const ids = (body: object) =>
    played(body).blocks.flatMap((block) => (block.kind === "tool_use" ? [block.id] : []));
  assert.deepEqual(ids(chatBody()), ids(chatBody()));
  const all = [...ids(chatBody()), ...ids(chatBody(["ok"])), ...ids(chatBody(["ok", "ok"]))];
  assert.equal(new Set(all).size, all.length);
});
