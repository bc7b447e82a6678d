/** Goal: whatever is wrong with a project file is told in one line: file, line, field, the fix. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseProjectFile } from "../../../orchestrator/projects/project-file.ts";

const GOOD = `project: demo
currency: CAD
budget:
  total: 10.10
  per_trial: "0.50"
`;

const FAULTS: [what: string, text: string, line: number, says: RegExp][] = [
  ["an unknown key", `${GOOD}colour: red\n`, 6, /colour: unknown key; known here: project, /],
  ["an unknown key inside", GOOD.replace("per_trial", "per_trail"), 5, /per_trail: unknown key/],
  ["a wrong type", GOOD.replace("CAD", "[CAD]"), 2, /currency/],
  ["a negative budget", GOOD.replace("10.10", "-1"), 4, /budget\.total: must be /],
  ["an exponent", GOOD.replace("10.10", "1e3"), 4, /budget\.total/],
  ["more than the ledger holds", GOOD.replace("10.10", "9999999999"), 4, /budget\.total.*too much/],
  ["a currency that is none", GOOD.replace("CAD", "QQQ"), 2, /currency: no such currency "QQQ"/],
  ["a time zone that is none", `${GOOD}time_zone: Mars/Base\n`, 6, /time_zone: no such time zone/],
  ["a key twice", `${GOOD}currency: USD\n`, 6, /unique/],
  ["a missing key", "project: demo\ncurrency: CAD\n", 1, /missing budget/],
  ["a missing key inside", GOOD.replace(/ {2}total.*\n/, ""), 4, /budget: missing total/],
  ["no YAML", "project: [\n", 2, /.+/],
  ["nothing", " \n", 1, /.+/],
  ["an alias without an anchor", `${GOOD}agents: *none\n`, 6, /alias/],
];

for (const [what, text, line, says] of FAULTS) {
  test(`${what} is told with its line`, () => {
    assert.throws(
      () => parseProjectFile(text, "autocode.yaml"),
      ({ code, message }: Error & { code: string }) => {
        assert.equal(code, "invalid_request");
        assert.ok(message.startsWith(`autocode.yaml:${line}: `), message);
        assert.match(message, says);
        assert.ok(!message.includes("\n"), message);
        return true;
      },
    );
  });
}

test("amounts are taken as they are written, quoted or not", () => {
  assert.deepEqual(parseProjectFile(GOOD, "f").budget, { total: "10.10", per_trial: "0.50" });
  const exact = GOOD.replace("10.10", "123456789.123456789");
  assert.equal(parseProjectFile(exact, "f").budget.total, "123456789.123456789");
});
