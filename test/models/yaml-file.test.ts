/** Goal: a fault in a catalogue file is one line with file, line and field. */
import assert from "node:assert/strict";
import test from "node:test";
import { Type } from "typebox";
import { readYaml } from "../../models/yaml-file.ts";

const Schema = Type.Object(
  { rows: Type.Array(Type.Object({ count: Type.Integer() }, { additionalProperties: false })) },
  { additionalProperties: false },
);

test("a value as its schema says is returned", () => {
  const { value, fault } = readYaml("rows:\n  - count: 1\n", "f.yaml", Schema);
  assert.deepEqual(value, { rows: [{ count: 1 }] });
  assert.equal(fault(["rows", 0, "count"], "no").message, "f.yaml:2: rows.0.count: no");
});

test("faults say where they stand", () => {
  const faults: [string, RegExp][] = [
    ["rows:\n  - count: 1\n  - count: x\n", /^f\.yaml:3: rows\.1\.count: must be integer$/],
    ["rows:\n  - {}\n", /^f\.yaml:2: rows\.0: missing count$/],
    ["rows: []\nmore: 1\n", /^f\.yaml:2: more: unknown key$/],
    ["rows: []\nrows: []\n", /^f\.yaml:2: Map keys must be unique/],
    ["", /^f\.yaml:1: /],
    ["- 1\n", /^f\.yaml:1: /],
  ];
  for (const [text, message] of faults) {
    assert.throws(() => readYaml(text, "f.yaml", Schema), { name: "CatalogError", message });
  }
});
