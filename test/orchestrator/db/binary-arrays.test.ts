/** Goal: the server reads what was given, of every type and whatever its elements hold. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type ArrayType,
  binaryArray,
  type Element,
  UnfitElement,
} from "../../../orchestrator/db/binary-arrays.ts";
import { together } from "../../../orchestrator/db/statement.ts";
import { openTestDatabase } from "../../support/database.ts";

const LONG = 'ä"\\{},\n🦊 null'.repeat(2_000);
const CASES: readonly [ArrayType, readonly Element[], unknown[] | null][] = [
  ["text", ["", "a", null, "null", '"', "{}", LONG], null],
  ["text", [[Buffer.from(LONG)], [Buffer.alloc(0)], [], "é"], [LONG, "", "", "é"]],
  ["bigint", [0, -1, 1, null, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER], null],
  ["integer", [0, -5, 2 ** 31 - 1, -(2 ** 31), null], null],
  ["boolean", [true, false, null], null],
  [
    "timestamptz",
    [0, Date.UTC(2026, 10, 22, 9, 30, 1, 123), Date.UTC(1969, 0, 1), null],
    ["1970-01-01T00:00:00.000", "2026-11-22T09:30:01.123", "1969-01-01T00:00:00.000", null],
  ],
  ["text", [], []],
  // Wherever the end of what was reserved falls.
  [
    "text",
    Array.from({ length: 300 }, (_, at) => `${"é🦊".repeat(at % 40)}${"a".repeat(at)}`),
    null,
  ],
];

test("arrays of every type are read by the server as they were given", async () => {
  await using db = await openTestDatabase();
  for (const [type, elements, wanted] of CASES) {
    const shown = {
      timestamptz: `to_char(given at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS')`,
    }[type as string];
    const text = `select coalesce(json_agg(${shown ?? "given"} order by at), '[]')::text as all
      from unnest($1::${type}[]) with ordinality as given (given, at)`;
    const [found] = await together(db, [{ text, values: [binaryArray(type, elements)] }]);
    assert.deepEqual(JSON.parse(String(found?.[0]?.["all"])), wanted ?? elements, type);
  }
});

test("a text that the server cannot keep is refused in its words", async () => {
  await using db = await openTestDatabase();
  const values = [binaryArray("text", ["a\0b"])];
  const asked = together(db, [{ text: "select unnest($1::text[])", values }]);
  await assert.rejects(asked, /invalid byte sequence/);
});

test("what is none of its type is refused by its name, and never cut to something else", () => {
  const wrong: [ArrayType, Element, string][] = [
    ["integer", 99_999_999_999, "99999999999"],
    ["integer", 2 ** 31, "2147483648"],
    ["integer", -(2 ** 31) - 1, "-2147483649"],
    ["integer", 200.5, "200.5"],
    ["integer", Number.NaN, "NaN"],
    ["integer", "1234", "a string"],
    ["integer", true, "a boolean"],
    ["bigint", 2 ** 63, "9223372036854776000"],
    ["bigint", 0.1, "0.1"],
    ["bigint", Number.POSITIVE_INFINITY, "Infinity"],
    ["timestamptz", Number.NaN, "NaN"],
    ["boolean", 1, "1"],
    ["text", 1, "1"],
  ];
  for (const [type, element, told] of wrong) {
    assert.throws(
      () => binaryArray(type, [null, element], "status"),
      (error) => {
        assert.ok(error instanceof UnfitElement, String(error));
        assert.equal(error.message, `status: ${told} is no ${type}`);
        return true;
      },
    );
  }
});
