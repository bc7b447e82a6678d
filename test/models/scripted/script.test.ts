/**
 * Goal: a script that cannot be played is refused when it is read, in one line with file, line,
 * place and fix; one that can be played has all its defaults.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseScript, ScriptError } from "../../../models/scripted/script.ts";
import { script } from "./requests.ts";

const BAD: readonly (readonly [what: string, source: string, message: string])[] = [
  ["an unknown key", "steps: []\nfoo: 1\n", "b.yaml:2: foo: is not a key of a script"],
  [
    "an unknown key of an operation, rather than the key it was meant to be",
    "steps:\n  - - say: a\n    - edit: { path: x, old: a, nw: b }\n",
    "b.yaml:3: steps.0.1.edit.nw: is not a key of a script",
  ],
  [
    "two operations in one",
    "steps:\n  - - { say: a, read: b }\n",
    "b.yaml:2: steps.0.0: needs exactly one of say, think, read, write, edit, shell, tool",
  ],
  ["a wrong type", "steps:\n  - - shell: 5\n", "b.yaml:2: steps.0.0.shell: must be string"],
  [
    "a step in the middle where the agent would stop",
    "steps:\n  - - say: hi\n  - - read: x\n",
    "b.yaml:2: steps.0: uses no tool, so the agent would stop there; add one, or make it the last",
  ],
  [
    "a path out of the task",
    "steps:\n  - - read: ../x\n",
    "b.yaml:2: steps.0.0: ../x must lie in the task",
  ],
  [
    "a fault that does nothing",
    "steps: []\nfaults:\n  - times: 2\n",
    "b.yaml:3: faults.0: needs exactly one of status, stall_ms, cut_after_events, no_usage",
  ],
  [
    "a regular expression that is none",
    "match: /(/\nsteps: []\n",
    "b.yaml:1: match: SyntaxError: Invalid regular expression: /(/: Unterminated group",
  ],
  [
    "YAML that does not parse",
    "steps: [\n",
    "b.yaml:2: Flow sequence in block collection must be sufficiently indented and end with a ]",
  ],
  ["nothing", "", "b.yaml:1: script: must be object"],
  [
    "a key that must be there",
    "match: x\n",
    "b.yaml:1: script: must have required properties steps",
  ],
];

for (const [what, source, message] of BAD) {
  test(`refuses ${what}`, () => {
    assert.throws(() => parseScript("b", "b.yaml", source), new ScriptError(message));
  });
}

test("derives what a script leaves out from its steps", () => {
  const read = script(
    "steps:\n  - - edit: { path: a.js, old: x, new: y }\n  - - write: { path: b.js, content: z }\n",
    "change-a",
  );
  const { edits, planText, commitMessage, onEnd, faults, delayMsPerEvent, matches } = read;
  assert.deepEqual(
    { edits, planText, commitMessage, onEnd, faults, delayMsPerEvent, matches },
    {
      edits: [
        { path: "a.js", old: "x", new: "y" },
        { path: "b.js", content: "z" },
      ],
      planText: "1. Change a.js.\n2. Change b.js.\n3. Run the tests.",
      commitMessage: "fix: change a",
      onEnd: "finish",
      faults: [],
      delayMsPerEvent: 0,
      matches: null,
    },
  );
});

test("matches by text, by regular expression, and by any of a list", () => {
  const plain = script("match: a.b\nsteps: []\n");
  assert.deepEqual([plain.matches?.("xa.bx"), plain.matches?.("axb")], [true, false]);
  const regex = script("match: /A.B/i\nsteps: []\n");
  assert.deepEqual([regex.matches?.("xaxbx"), regex.matches?.("ab")], [true, false]);
  const list = script("match: [one, two]\nsteps: []\n");
  assert.deepEqual([list.matches?.("two"), list.matches?.("three")], [true, false]);
});
