/** Goal: a recording shows what was said, and no text can play tricks on who replays it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createTerminal, withoutEscapes } from "../../worker-agent/terminal.ts";

test("escape codes and control characters go, colours and line ends stay", () => {
  const rows = [
    ["plain\ttext\r\n", "plain\ttext\r\n"],
    ["\u001b[1;31mred\u001b[0m", "\u001b[1;31mred\u001b[0m"],
    ["\u001b[2J\u001b[Hcleared", "cleared"],
    ["\u001b]0;title\u0007x", "x"],
    ["\u001b]52;c;c2VjcmV0\u001b\\x", "x"],
    ["\u001b]8;;http://evil\u0007link\u001b]8;;\u0007", "link"],
    ["\u001bP+q544e\u001b\\x", "x"],
    ["\u001b[6n\u001b[cx", "x"],
    ["\u001bc\u001b(0x", "x"],
    ["a\u0008\u0000\u007f\u009b2Jb", "a2Jb"],
    ["\u001b", ""],
    ["\u001b[?1049h\u001b[?25lx", "x"],
  ] as const;
  for (const [text, safe] of rows) assert.equal(withoutEscapes(text), safe, JSON.stringify(text));
});

test("an asciicast: a header, then what was shown and when", () => {
  let written = "";
  let nowMs = 1_700_000_000_000;
  const artefact = {
    append: (bytes: Uint8Array | string) => {
      written += bytes.toString();
    },
    isFull: () => false,
    flush: async () => {},
  };
  const terminal = createTerminal({ now: () => nowMs }, artefact, "fake");
  nowMs += 1_500;
  terminal.text("one\ntwo\u001b[2J\n");
  nowMs += 500;
  const euro = Buffer.from("€");
  terminal.raw(euro.subarray(0, 1));
  terminal.raw(euro.subarray(1));
  const lines = written
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(lines, [
    { version: 2, width: 100, height: 30, timestamp: 1_700_000_000, title: "fake" },
    [1.5, "o", "one\r\ntwo\r\n"],
    [2, "o", "€"],
  ]);
});
