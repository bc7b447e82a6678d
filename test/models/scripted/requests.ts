/** Requests and scripts that the scripted model's tests share. */
import { createHash } from "node:crypto";
import type { Dialect, ModelRequest } from "../../../models/scripted/dialect.ts";
import { parseScript, type Script } from "../../../models/scripted/script.ts";

export const SCRIPT_SOURCE = `
match: fix the greeting
plan:
  - - read: src/greet.js
  - - say: Change the word in src/greet.js.
steps:
  - - say: I read the file first.
    - read: src/greet.js
    - read: test/greet.test.js
  - - think: The word is wrong.
    - edit: { path: src/greet.js, old: "say('helo')", new: "say('hello')" }
  - - shell: node --test
  - - say: The greeting is spelt right.
`;

export function script(source: string = SCRIPT_SOURCE, name = "greeting"): Script {
  return parseScript(name, `${name}.yaml`, source);
}

/** `body` as the server would hand it to `dialect`. */
export function parseBody(dialect: Dialect, body: object): ModelRequest {
  const bytes = Buffer.from(JSON.stringify(body));
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 24);
  return dialect.parse(body, { bodyBytes: bytes.length, digest });
}

const object = (...names: string[]) => ({
  type: "object",
  properties: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
  required: names,
});

const SCHEMAS = {
  read_file: object("path"),
  edit: object("path", "old_string", "new_string"),
  bash: object("command"),
};

export const CHAT_TOOLS = Object.entries(SCHEMAS).map(([name, parameters]) => ({
  type: "function",
  function: { name, parameters },
}));

export const MESSAGES_TOOLS = Object.entries(SCHEMAS).map(([name, input_schema]) => ({
  name,
  input_schema,
}));

export const RESPONSES_TOOLS = [
  ...Object.entries(SCHEMAS)
    .filter(([name]) => name === "bash")
    .map(([name, parameters]) => ({ type: "function", name, parameters })),
  { type: "custom", name: "apply_patch" },
];

export const INSTRUCTION = { role: "user", content: "Please fix the greeting." };

/** A chat request after `turns` answers of one tool use each, whose results were `results`. */
export function chatBody(results: readonly string[] = [], more: object = {}): object {
  const history = results.flatMap((content, index) => [
    {
      role: "assistant",
      content: null,
      tool_calls: [
        { id: `call_t${index}_0`, type: "function", function: { name: "bash", arguments: "{}" } },
      ],
    },
    { role: "tool", tool_call_id: `call_t${index}_0`, content },
  ]);
  return {
    model: "scripted-normal",
    messages: [INSTRUCTION, ...history],
    tools: CHAT_TOOLS,
    ...more,
  };
}
