/** Spend as FOCUS columns: exact, and data wherever it is opened. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { focusCsv, type SpendRow } from "../../../orchestrator/ledger/focus.ts";

const ROW: SpendRow = {
  kind: "call",
  id: "call_1",
  trialId: "trial_1",
  projectId: "project_1",
  projectName: "example",
  currency: "CAD",
  agent: "aider",
  pair: "scripted",
  side: "normal",
  provider: "scripted",
  model: "scripted-normal",
  priceVersion: "scripted-normal@2026-01-01",
  costNanos: 9_007_199_254_740_993n,
  inputTokens: 100,
  cacheReadTokens: 20,
  cacheWriteTokens: 3,
  longCacheWriteTokens: 1,
  outputTokens: 40,
  reasoningTokens: 10,
  gpuMs: null,
  isEstimated: false,
  note: null,
  startedAtMs: Date.parse("2026-12-31T23:59:59.500Z"),
  endedAtMs: Date.parse("2027-01-01T00:00:01.000Z"),
};

/** Reads what RFC 4180 says, for fields without line breaks. */
function read(csv: string): Record<string, string>[] {
  const lines = csv.split("\r\n");
  assert.equal(lines.pop(), "");
  const [names = [], ...rows] = lines.map((line) =>
    [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
      ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "",
    ),
  );
  for (const cells of rows) assert.equal(cells.length, names.length);
  return rows.map((cells) => Object.fromEntries(names.map((name, at) => [name, cells[at] ?? ""])));
}

test("a call is a line with its exact cost, period and owner", () => {
  const [line] = read(focusCsv([ROW]));
  assert.ok(line !== undefined);
  assert.equal(line["BilledCost"], "9007199.254740993");
  assert.equal(line["EffectiveCost"], line["BilledCost"]);
  assert.equal(line["x_CostNanos"], "9007199254740993");
  assert.equal(line["ConsumedQuantity"], "163");
  assert.equal(line["BillingPeriodStart"], "2026-12-01T00:00:00.000Z");
  assert.equal(line["BillingPeriodEnd"], "2027-01-01T00:00:00.000Z");
  assert.equal(line["ChargePeriodStart"], "2026-12-31T23:59:59.500Z");
  assert.equal(line["SubAccountName"], "example");
  assert.equal(line["SkuPriceId"], "scripted-normal@2026-01-01");
});

test("what was taken back is a correction below nothing, a number in every program", () => {
  const [line] = read(focusCsv([{ ...ROW, kind: "correction", costNanos: -1_500n, gpuMs: 12 }]));
  assert.ok(line !== undefined);
  assert.deepEqual(
    ["BilledCost", "x_CostNanos", "ChargeClass", "ChargeDescription", "x_GpuMs"].map(
      (name) => line[name],
    ),
    ["-0.000001500", "-1500", "Correction", "A charge taken back", "12"],
  );
  const [expired] = read(focusCsv([{ ...ROW, kind: "expired", isEstimated: true }]));
  assert.match(expired?.["ChargeDescription"] ?? "", /never ended, charged in full$/);
  assert.equal(expired?.["x_IsEstimated"], "true");
});

test("nothing runs as a formula, and no field breaks its line", () => {
  const hostile = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("http://a","b")', 'a,"b"'];
  const lines = read(focusCsv(hostile.map((model) => ({ ...ROW, model }))));
  assert.deepEqual(
    lines.map((line) => line["ServiceName"]),
    hostile.map((model) => (/^[=+\-@\t]/.test(model) ? `'${model}` : model)),
  );
  assert.match(focusCsv([{ ...ROW, model: "a\r\nb" }]), /,"a\r\nb",/);
});

test("no calls are a header", () => {
  assert.match(focusCsv([]), /^BilledCost,BillingAccountId,[^\r\n]+\r\n$/);
});
