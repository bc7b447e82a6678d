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
  [
    "a carry-over of nothing",
    `${GOOD}  carry_over: 1\n`,
    6,
    /carry_over: .*without a budget\.daily/,
  ],
  [
    "a top-up on a day that is none",
    `${GOOD}  top_ups: [{ amount: 1, every: week, starting: 2026-02-30 }]\n`,
    6,
    /budget\.top_ups\.0\.starting: there is no day 2026-02-30; use /,
  ],
  [
    "top-ups that fall on one day",
    `${GOOD}  top_ups:
    - { amount: 1, every: month, starting: 2026-01-30 }
    - { amount: 2, every: month, starting: 2026-03-31 }\n`,
    8,
    /budget\.top_ups\.1: falls on days of budget\.top_ups\.0; make one/,
  ],
  [
    "a top-up of too much",
    `${GOOD}  top_ups: [{ amount: 9999999999, every: week, starting: 2026-01-01 }]\n`,
    6,
    /budget\.top_ups\.0\.amount: .* too much/,
  ],
  [
    "an unknown rhythm",
    `${GOOD}  top_ups: [{ amount: 1, every: day, starting: 2026-01-01 }]\n`,
    6,
    /every: must be one of week/,
  ],
  [
    "half a token",
    `${GOOD}  tokens: { total: 10.5, per_trial: 1 }\n`,
    6,
    /tokens\.total: must be a whole number/,
  ],
  [
    "more tokens for one than for all",
    `${GOOD}  tokens: { total: 1, per_trial: 2 }\n`,
    6,
    /budget\.tokens\.per_trial: is more/,
  ],
  ["an alert above 100 %", `${GOOD}  alerts: [101]\n`, 6, /alerts/],
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
  const topUps = "  top_ups: [{ amount: 5.10, every: two_weeks, starting: 2026-11-01 }]\n";
  assert.deepEqual(parseProjectFile(GOOD + topUps, "f").budget.top_ups, [
    { amount: "5.10", every: "two_weeks", starting: "2026-11-01" },
  ]);
  const exact = GOOD.replace("10.10", "123456789.123456789");
  assert.equal(parseProjectFile(exact, "f").budget.total, "123456789.123456789");
});
