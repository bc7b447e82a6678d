/** Goal: what servers and agents write cannot drive a terminal (S13), and tables fit 80 columns. */
import assert from "node:assert/strict";
import test from "node:test";
import { layOut } from "../../../orchestrator/cli/print.ts";
import {
  safeLine,
  safeLines,
  safeTerminal,
  safeText,
} from "../../../orchestrator/cli/safe-text.ts";
import { compact, duration } from "../../../orchestrator/cli/tables.ts";

const ESC = "\u001b";
const HOSTILE = [
  `${ESC}[2J${ESC}[H`, // clears the screen
  `${ESC}]0;owned\u0007`, // sets the title
  `${ESC}]52;c;cm0gLXJm\u0007`, // writes the clipboard
  `${ESC}]8;;http://evil.example${ESC}\\click${ESC}]8;;${ESC}\\`, // a link
  `${ESC}P+q544e${ESC}\\`, // asks the terminal, which types an answer
  `${ESC}[6n`,
  `${ESC}c`, // resets it
  "\u009b31m",
  "\u009d0;owned\u009c",
  "\u0008\u0008\u0008",
  "\r",
  "\u202e",
  `${ESC}[`, // cut in the middle
  `${ESC}]52;c;unended`,
  "\u0000\u0001",
];

test("hostile text loses its escape sequences, and its words stay", () => {
  for (const hostile of HOSTILE) {
    const shown = safeText(`before ${hostile}`);
    assert.ok(shown.startsWith("before "), JSON.stringify(hostile));
    assert.doesNotMatch(shown.replaceAll(/[\n\t]/g, ""), /\p{Cc}|[\u202a-\u202e\u2066-\u2069]/u);
  }
  assert.equal(safeText("tab\tand\nline, é, 漢字, 👍🏽"), "tab\tand\nline, é, 漢字, 👍🏽");
  assert.equal(safeLine(" two\nlines\t"), "two lines");
});

test("hostile bytes lose them too, wherever they are cut", async () => {
  for (const hostile of HOSTILE) {
    const bytes = Buffer.from(`before ${hostile}\nafter\n`);
    for (let at = 0; at <= bytes.length; at++) {
      let shown = "";
      for await (const piece of safeLines(pieces(bytes.subarray(0, at), bytes.subarray(at)))) {
        shown += piece;
      }
      const lines = [`before ${hostile}`, "after", ""].map(safeText);
      assert.equal(shown, lines.join("\n"), `${JSON.stringify(hostile)} at ${at}`);
    }
  }
  let long = "";
  const line = Buffer.from(`${"x".repeat(100_000)}${HOSTILE.join("")}\n`);
  for await (const piece of safeLines(pieces(line, line))) long += piece;
  assert.doesNotMatch(long.replaceAll(/[\n\t]/g, ""), /\p{Cc}/u);
});

async function* pieces(...given: Uint8Array[]) {
  yield* given;
}

test("a recorded terminal keeps its colours and nothing else", () => {
  for (const hostile of HOSTILE) {
    const shown = safeTerminal(`a${ESC}[1;31mb${hostile}c${ESC}[0m`);
    assert.ok(shown.startsWith(`a${ESC}[1;31mb`), JSON.stringify(hostile));
    const rest = shown.replaceAll(new RegExp(`${ESC}\\[[0-9;:]*m`, "g"), "");
    assert.doesNotMatch(rest.replaceAll(/[\n\t]/g, ""), /\p{Cc}/u, JSON.stringify(hostile));
  }
  assert.equal(safeTerminal("one\r\ntwo"), "one\ntwo");
});

test("a table shrinks what may shrink until it fits 80 columns", () => {
  const lines = layOut(
    [
      { title: "id", value: ([id = ""]) => id },
      { title: "name", value: ([, name = ""]) => name, shrinks: true },
      { title: "cost", value: () => "1.00 CAD", align: "right" },
    ],
    [
      ["trial_01j9", "n".repeat(200)],
      ["trial_01j9", `short${ESC}[2J`],
    ],
  );
  assert.deepEqual(
    lines.map((line) => line.length),
    [80, 80, 80],
  );
  assert.match(lines[1] ?? "", /^trial_01j9 {2}n+… {2}1\.00 CAD$/);
  assert.match(lines[2] ?? "", /^trial_01j9 {2}short +1\.00 CAD$/);
});

test("counts and times are short", () => {
  assert.deepEqual([0, 999, 1000, 12_345, 999_999, 1_234_567].map(compact), [
    "0",
    "999",
    "1.00k",
    "12.3k",
    "1.00M",
    "1.23M",
  ]);
  assert.deepEqual([null, 900, 61_000, 3_700_000].map(duration), [
    "-",
    "0.9 s",
    "1 min 1 s",
    "1 h 1 min",
  ]);
});
