/**
 * Goal: what the gateway reads of a request is what any JSON parser reads, or it is refused.
 *
 * Method: fast-check draws JSON objects in varied spelling; the scan and `JSON.parse` must agree on
 * every member. Then a corpus of inputs that two parsers could read differently.
 */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import {
  readValue,
  ScanError,
  scanArray,
  scanObject,
  setMember,
  splice,
} from "../../../proxy/gateway/json-scan.ts";

const WATCHED = new Set(["model", "max_tokens"]);
const scan = (text: string | Buffer) => scanObject(Buffer.from(text as string), WATCHED);

test("the scan agrees with JSON.parse on every member", () => {
  const key = fc.string({ unit: "grapheme" }).filter((text) => !/["\\\p{Cc}]/u.test(text));
  const object = fc.dictionary(
    key.map((text) => `k${text}`.toLowerCase()),
    fc.jsonValue(),
  );
  fc.assert(
    fc.property(object, fc.constantFrom(undefined, 1, "\t"), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      const bytes = Buffer.from(text);
      const { members } = scanObject(bytes, WATCHED);
      const read = [...members].map(([name, span]) => [name, readValue(bytes, span)]);
      assert.deepEqual(Object.fromEntries(read), JSON.parse(text));
    }),
    { numRuns: 1_000 },
  );
});

test("mutated bytes are read as JSON.parse reads them, or refused", () => {
  const text = '{"model":"a\\"b","n":[1,{"x":[true,null]}],"s":{"t":-1.5e3},"u":"\\u00e9\\\\"}';
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.nat(127), (at, code) => {
      const mutated = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
      let members: ReturnType<typeof scanObject>["members"];
      try {
        members = scan(mutated).members;
      } catch (error) {
        assert.ok(error instanceof ScanError);
        return;
      }
      let parsed: Record<string, unknown>;
      try {
        parsed = JSON.parse(mutated);
      } catch {
        return; // Values stay unread, so the model server may refuse what the scan lets pass.
      }
      assert.deepEqual([...members.keys()].sort(), Object.keys(parsed).sort());
    }),
    { numRuns: 5_000 },
  );
});

test("what two parsers could read differently is refused", () => {
  const corpus = {
    array: "[]",
    "a string": '"x"',
    empty: "",
    twice: '{"model":"a","model":"b"}',
    "twice, not watched": '{"x":1,"x":2}',
    "escaped key": '{"mod\\u0065l":"a"}',
    "other case": '{"Model":"a"}',
    "upper case": '{"MAX_TOKENS":1}',
    "trailing bytes": '{"model":"a"}{"model":"b"}',
    "trailing comma": '{"model":"a",}',
    comment: '{"model":"a"/*,*/}',
    "line comment": '{"x":[1 //\n]}',
    "single quotes": "{'model':'a'}",
    "bare key": '{model:"a"}',
    NaN: '{"x":NaN}',
    infinity: '{"x":-Infinity}',
    hex: '{"x":0x10}',
    "byte order mark": '\ufeff{"model":"a"}',
    "null byte": '{"model":"a"\0}',
    "unbalanced brackets": '{"x":[}',
    "crossed brackets": '{"x":[{]}}',
    "no end": '{"x":"',
    "no end, escaped": '{"x":"\\"}',
    "no value": '{"x":}',
    "no colon": '{"x" 1}',
    "no comma": '{"x":1 "y":2}',
    deep: `{"x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
    "many keys": `{${Array.from({ length: 5_000 }, (_, i) => `"k${i}":1`).join(",")}}`,
    "leading zero": '{"max_tokens":010}',
    plus: '{"max_tokens":+1}',
  };
  for (const [what, text] of Object.entries(corpus)) {
    assert.throws(() => scan(text), { name: "ScanError" }, what);
  }
  assert.throws(() => scan(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), ScanError);
  assert.deepEqual(
    [...scan('{"__proto__":{"a":1},"model":"m"}').members.keys()],
    ["__proto__", "model"],
  );
});

test("edits replace members or insert them first", () => {
  const text = ' { "model" : "a", "stream_options":{ } } ';
  const bytes = Buffer.from(text);
  const object = scanObject(bytes, WATCHED);
  const inner = scanObject(bytes, WATCHED, object.members.get("stream_options"));
  const edited = splice(bytes, [
    setMember(inner, "include_usage", "true"),
    setMember(object, "max_tokens", "5"),
    setMember(object, "n", "1"),
    setMember(object, "model", '"b"'),
  ]);
  assert.equal(
    edited.toString(),
    ' {"max_tokens":5,"n":1, "model" : "b", "stream_options":{"include_usage":true } } ',
  );
  assert.equal(splice(bytes, []).toString(), text);
});

test("an array's elements are found", () => {
  const bytes = Buffer.from('[ {"a":[1]}, "x,]" ,3]');
  const spans = scanArray(bytes, { start: 0, end: bytes.length });
  assert.deepEqual(
    spans.map((span) => readValue(bytes, span)),
    [{ a: [1] }, "x,]", 3],
  );
});
