/** Goal: a stream is split into its events with nothing lost; usage-scan.test.ts cuts it anyhow. */
import assert from "node:assert/strict";
import test from "node:test";
import { createSseSplitter, eventData } from "../../../proxy/gateway/sse.ts";

function split(...chunks: string[]) {
  const events: string[] = [];
  const tails: string[] = [];
  const splitter = createSseSplitter(
    (event) => void events.push(event.toString()),
    (tail) => void tails.push(tail.toString()),
  );
  for (const chunk of chunks) splitter.push(Buffer.from(chunk));
  return { events, tails, rest: splitter.rest().toString() };
}

test("events end at a blank line, whichever ends it", () => {
  for (const end of ["\n", "\r\n", "\r"]) {
    const [first, second] = [`data: 1${end}${end}`, `event: x${end}data: 2${end}${end}`];
    const whole = { events: [first, second], tails: [], rest: "data" };
    assert.deepEqual(split(`${first}${second}data`), whole);
    assert.deepEqual(split(first, second, "da", "ta", ""), whole);
  }
});

test("a line end cut in two is one line end", () => {
  const events = ["data: 1\r\n\r\n", "data: 2\r\n\r\n"];
  assert.deepEqual(split("data: 1\r", "\n\r\ndata: 2\r\n\r\n"), { events, tails: [], rest: "" });
  assert.deepEqual(split("data: 1\r\n\r", "\n", "data: 2\r\n\r\n"), {
    events: ["data: 1\r\n\r", "data: 2\r\n\r\n"],
    tails: ["\n"],
    rest: "",
  });
});

test("an event's data", () => {
  const data = (event: string) => eventData(Buffer.from(event));
  assert.equal(data("data: a\ndata:b\ndata\n\n"), "a\nb\n");
  assert.equal(data("data: {}\n\n"), "{}");
  assert.equal(data("data:  a\n\n"), " a");
  assert.equal(data("data:a\r\n\n"), "a");
  assert.equal(data("event: x\r\ndata: {}\r\n\r\n"), "{}");
  assert.equal(data(": comment\nid: 1\ndatabase: 1\n\n"), null);
});
