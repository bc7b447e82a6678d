/**
 * Goal: of a line its parts are those of the record, whatever the record holds; of a line that no
 * sink of ours wrote nothing is said.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { readLine, wholeOf } from "../../../orchestrator/traffic/flow-line.ts";
import { toRow, toRowOfLine } from "../../../orchestrator/traffic/postgres-rows.ts";
import { flowRecord, textBody } from "../../support/flow-records.ts";

const NOW_MS = Date.UTC(2026, 10, 22, 9);
const SEED = Number(process.env["SEED"] ?? 20_261_122);
const ids = createIds({ now: () => NOW_MS }, seededRandom(8));
const HARD = [
  ...['"', "\\", '\\"', "\n", "\0", "\u001f", "\u007f", "\ud800", "\udc00", "🦊", "é", "\ue000"],
  ...["{", "}", "[", "]", ",", ":", '"content":"x"', '"body":null', "\\u0041", "/", "\u2028", "a"],
];

function lineOf(record: unknown): Buffer {
  return Buffer.from(JSON.stringify(record));
}

test("the row of a line is that of its record", () => {
  const text = fc.array(fc.constantFrom(...HARD), { maxLength: 40 }).map((parts) => parts.join(""));
  const headers = fc.array(fc.tuple(text, text), { maxLength: 3 });
  const body = fc.record({
    byte_count: fc.nat(),
    media_type: fc.option(text),
    encoding: fc.constantFrom("utf8" as const, "base64" as const),
    content: text,
    is_truncated: fc.boolean(),
  });
  const sides = fc.record({
    request: fc.option(
      fc.record({ headers: fc.option(headers), body: fc.option(body), path: text }),
    ),
    response: fc.option(fc.record({ headers: fc.option(headers), body: fc.option(body) })),
    error: fc.option(text),
  });
  const checkOne = (change: Parameters<typeof flowRecord>[2]) => {
    const record = flowRecord(ids, NOW_MS, change);
    const line = readLine(lineOf(record));
    assert.ok(line !== null);
    assert.deepEqual(wholeOf(line), JSON.parse(JSON.stringify(record)));
    assert.deepEqual(plain(toRowOfLine(line)), plain(toRow(record)));
  };
  checkOne({ request: { body: textBody("the question", "text/plain") } });
  fc.assert(fc.property(sides, checkOne), { numRuns: 500, seed: SEED });
});

test("the order of a body's fields is no matter, as older spools have another", () => {
  const { content, ...rest } = textBody('an "answer"', "text/plain");
  const bodies = [
    { content, ...rest },
    { ...rest, content },
  ];
  for (const body of bodies) {
    const record = flowRecord(ids, NOW_MS, { response: { body } });
    const line = readLine(lineOf(record));
    assert.deepEqual(line?.responseBody?.facts, JSON.stringify(rest));
    assert.deepEqual(line === null ? null : plain(toRowOfLine(line)), plain(toRow(record)));
  }
});

test("what no sink of ours wrote is left to whoever reads it whole", () => {
  const record = flowRecord(ids, NOW_MS, { response: { body: textBody("abc", "text/plain") } });
  const text = JSON.stringify(record);
  const message = { at_ms: 1, from: "client" as const, body: textBody("hello", null) };
  const lines = [
    ...["", "{", "{}", "null", "[]", '"a"', "not JSON", JSON.stringify(record, null, 2)],
    ...[text.slice(0, -1), text.slice(0, 400), text.replace('"abc"', '"a\\/bc"')],
    ...[text.replace('"abc"', '"\\ud83d\\ude00"'), text.replace('"abc"', '"\\u0041"')],
    ...[text.replace('"abc"', '"a\\xbc"'), text.replace('"abc"', "3"), text.replace("abc", "a\nc")],
    ...[text.replace('"content-type",', '"content-type" ,'), text.replace('"Host",', '"Host":')],
    ...[text.replace('"content":', '"kontent":'), text.replace('"utf8"', '"utf7"')],
    JSON.stringify({ ...record, messages: [message] } satisfies FlowRecord),
  ];
  for (const line of lines) assert.equal(readLine(Buffer.from(line)), null, line);
});

/** Bytes and texts alike; JSON by what it says, its keys in the order they have. */
function plain({ values, ...rest }: ReturnType<typeof toRow>) {
  const texts = values.map((value) =>
    Array.isArray(value) ? Buffer.concat(value).toString() : value,
  );
  return { id: rest.id, startedAtMs: rest.startedAtMs, texts };
}
