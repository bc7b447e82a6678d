/** Goal: what models said in a trial is a script of the scripted model, tools as operations. */
import assert from "node:assert/strict";
import test from "node:test";
import { parseScript } from "../../../models/scripted/script.ts";
import { type SaidCall, scriptFrom } from "../../../orchestrator/trials/recorded-script.ts";

const WORK = "/data/allocation_01m800pk4jfderxa8xg1q27ncp/workspace";

function anthropic(side: SaidCall["side"], content: readonly object[]): SaidCall {
  const response = Buffer.from(JSON.stringify({ role: "assistant", content }));
  return { wire: "anthropic.messages", side, response };
}

function use(name: string, input: object) {
  return { type: "tool_use", id: name, name, input };
}

test("tools become operations, in the task's own paths; remarks without one are left out", () => {
  const yaml = scriptFrom("\n# Fix the median\nIt is wrong.", [
    anthropic("thinking", [use("Read", { file_path: `${WORK}/src/a.js` })]),
    anthropic("thinking", [{ type: "text", text: "1. Change it." }]),
    anthropic("normal", [{ type: "text", text: "A title" }]),
    anthropic("normal", [
      { type: "thinking", thinking: "Hm." },
      { type: "text", text: "I look." },
      use("Edit", { file_path: `${WORK}/src/a.js`, old_string: "a\n", new_string: "b\n" }),
      use("Write", { file_path: "b.js", content: "c" }),
      use("Bash", { command: "node --test", description: "Run" }),
      use("Read", { file_path: "/etc/hosts" }),
      use("WebFetch", { url: "https://x.example" }),
    ]),
    anthropic("normal", [{ type: "text", text: "Done." }]),
  ]);
  const script = parseScript("s", "s.yaml", yaml ?? "");
  assert.equal(script.matches?.("… # Fix the median …"), true);
  assert.deepEqual(script.plan, [[{ read: "src/a.js" }], [{ say: "1. Change it." }]]);
  assert.deepEqual(script.steps, [
    [
      { think: "Hm." },
      { say: "I look." },
      { edit: { path: "src/a.js", old: "a\n", new: "b\n" } },
      { write: { path: "b.js", content: "c" } },
      { shell: "node --test" },
      { tool: { name: "Read", args: { file_path: "/etc/hosts" } } },
      { tool: { name: "WebFetch", args: { url: "https://x.example" } } },
    ],
    [{ say: "Done." }],
  ]);
});

test("edits that an agent without tools was told are edits", () => {
  const text =
    "I change it.\n\nsrc/a.js\n```js\n<<<<<<< SEARCH\nold line\n=======\nnew line\n>>>>>>> REPLACE\n```\n";
  const response = Buffer.from(JSON.stringify({ choices: [{ message: { content: text } }] }));
  const yaml = scriptFrom("Fix it", [{ wire: "openai.chat", side: "normal", response }]);
  const script = parseScript("s", "s.yaml", yaml ?? "");
  assert.deepEqual(script.edits, [{ path: "src/a.js", old: "old line\n", new: "new line\n" }]);
});

test("nothing said is no script", () => {
  assert.equal(scriptFrom("Fix it", []), null);
  assert.equal(scriptFrom("Fix it", [anthropic("normal", [])]), null);
});
