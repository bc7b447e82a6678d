/** Goal: a recorded answer names the replay's folder, however a stream cut the recorded one. */
import assert from "node:assert/strict";
import test from "node:test";
import { renamed } from "../../../proxy/replay/rename.ts";

const OLD = "/data/allocation_01m800pk4jfderxa8xg1q27ncp";
const NOW = "/var/lib/elsewhere/allocation_01m800rkddf8m9w58d2b5m7gan";
const FOLDERS = new Map([[OLD, NOW]]);

function streamOf(pieces: readonly string[], other = "untouched"): string {
  const events = pieces.flatMap((partial_json) => [
    `event: content_block_delta\ndata: ${JSON.stringify({
      ...{ type: "content_block_delta", index: 1 },
      delta: { type: "input_json_delta", partial_json },
    })}\n\n`,
    // Between them comes another block: it goes on with itself alone.
    `event: content_block_delta\ndata: {"type": "content_block_delta","index":0,"delta":{"type":"text_delta","text":"${other}"}}\n\n`,
  ]);
  return `${events.join("")}event: message_stop\ndata: {"type":"message_stop"}\n\n`;
}

function joined(stream: string): string {
  return [...stream.matchAll(/"partial_json":("(?:[^"\\]|\\.)*")/g)]
    .map(([, text = '""']) => JSON.parse(text) as string)
    .join("");
}

test("a name in one piece, or cut at any place, is renamed; the events stay as many", () => {
  const text = `{"a":"${OLD}/workspace/x.ts","b":"${OLD}/home"}`;
  const wanted = text.replaceAll(OLD, NOW);
  for (let size = 1; size <= text.length; size++) {
    const pieces = text.match(new RegExp(`.{1,${size}}`, "gs")) ?? [];
    const before = streamOf(pieces);
    const after = renamed(before, FOLDERS, true);
    assert.equal(joined(after), wanted, `pieces of ${size}`);
    assert.equal(after.split("\n").length, before.split("\n").length);
  }
});

test("an event without the name stays as it was, byte for byte", () => {
  const stream = streamOf(["{}"], "a");
  assert.equal(renamed(stream, FOLDERS, true), stream);
  const mixed = renamed(streamOf([`"${OLD}"`], "b"), FOLDERS, true);
  assert.match(mixed, /data: \{"type": "content_block_delta","index":0/);
});

test("pieces of two tool calls that are told in turns are kept apart", () => {
  const event = (index: number, text: string) =>
    `data: ${JSON.stringify({
      choices: [{ index: 0, delta: { tool_calls: [{ index, function: { arguments: text } }] } }],
    })}\n\n`;
  const half = OLD.length / 2;
  const stream =
    event(0, OLD.slice(0, half)) +
    event(1, OLD.slice(0, half)) +
    event(0, OLD.slice(half)) +
    event(1, OLD.slice(half));
  const texts = [
    ...renamed(stream, FOLDERS, true).matchAll(/"index":(\d),"function":\{"arguments":"([^"]*)"/g),
  ];
  const told = (index: string) =>
    texts
      .filter(([, each]) => each === index)
      .map(([, , text]) => text)
      .join("");
  assert.deepEqual([told("0"), told("1")], [NOW, NOW]);
});

test("a body in one piece", () => {
  assert.equal(renamed(`{"path":"${OLD}/x"}`, FOLDERS, false), `{"path":"${NOW}/x"}`);
  assert.equal(renamed("plain", FOLDERS, false), "plain");
});
