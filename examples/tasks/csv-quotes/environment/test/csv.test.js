import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCsv, parseRecords } from "../src/csv.js";

test("plain fields", () => {
  assert.deepEqual(parseCsv("a,b\n1,2\r\n"), [
    ["a", "b"],
    ["1", "2"],
  ]);
});

test("empty fields", () => {
  assert.deepEqual(parseCsv(",x,\n"), [["", "x", ""]]);
});

test("a comma in quotes belongs to the field", () => {
  assert.deepEqual(parseCsv('name,city\n"Doe, Jane",Oslo\n'), [
    ["name", "city"],
    ["Doe, Jane", "Oslo"],
  ]);
});

test("records", () => {
  assert.deepEqual(parseRecords("id,name\n1,Ann\n2\n"), [
    { id: "1", name: "Ann" },
    { id: "2", name: "" },
  ]);
});
