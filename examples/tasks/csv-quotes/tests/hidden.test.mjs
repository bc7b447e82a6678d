import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const source = pathToFileURL(join(process.cwd(), "src/csv.js"));
const { parseCsv, parseRecords } = await import(source.href);

test("commas in quotes", () => {
  assert.deepEqual(parseCsv('"a,b",c\n'), [["a,b", "c"]]);
});

test("two quotes stand for one", () => {
  assert.deepEqual(parseCsv('"say ""hi""",""""\n'), [['say "hi"', '"']]);
});

test("line ends in quotes", () => {
  assert.deepEqual(parseCsv('"one\ntwo",3\r\n"x\r\ny",4'), [
    ["one\ntwo", "3"],
    ["x\r\ny", "4"],
  ]);
});

test("empty quoted fields", () => {
  assert.deepEqual(parseCsv('"",a\n""'), [["", "a"], [""]]);
});

test("plain text as before", () => {
  assert.deepEqual(parseCsv("a,b\r\n1,\n"), [
    ["a", "b"],
    ["1", ""],
  ]);
  assert.deepEqual(parseCsv(""), []);
  assert.deepEqual(parseRecords('k,v\n1,"a,b"'), [{ k: "1", v: "a,b" }]);
});
