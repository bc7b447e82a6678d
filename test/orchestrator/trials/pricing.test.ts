/**
 * Goal: prices can be asked for, and a trial charged again costs by its own prices exactly what
 * the ledger has, whatever became of the book since.
 *
 * Method: real calls through the real gateway, its ledger and keys; the shipped catalogue.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { sql } from "drizzle-orm";
import { loadCatalog } from "../../../models/catalog.ts";
import type { ProjectFile } from "../../../orchestrator/contract/projects.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createCatalogPairs } from "../../../orchestrator/trials/catalog-pairs.ts";
import { createPricing } from "../../../orchestrator/trials/pricing.ts";
import { openTestGateway, PRICE } from "../../support/gateway.ts";

const MODELS = join(import.meta.dirname, "../../../models");
const FILE: ProjectFile = {
  project: "demo",
  currency: "CAD",
  budget: { total: "1", per_trial: "1" },
  models: {
    mine: {
      normal: { model: "m", provider: "openai", price: { input: "5", output: "7" } },
      thinking: { model: "o3", provider: "openai" },
    },
  },
};
const BOOK = `
fx: []
prices:
  - { model: test, currency: CAD, effective_from: "2026-01-01", source: s, input: "0.002", output: "0.01" }
`;

async function open() {
  const gateway = await openTestGateway();
  const pairs = createCatalogPairs(
    await loadCatalog(MODELS),
    () => [],
    () => null,
    systemClock,
  );
  const pricing = createPricing(gateway.database, pairs, systemClock);
  const { grant } = gateway;
  await rows(
    gateway.database.sql,
    sql`update project set name = 'demo', config = ${JSON.stringify(FILE)}::jsonb
      where id = ${grant.projectId}`,
  );
  return { gateway, pricing, trialId: grant.trialId };
}

test("by its own prices a trial costs exactly what the ledger has spent", async () => {
  const { gateway, pricing, trialId } = await open();
  await using _ = gateway;
  for (const model of ["normal", "thinking", "normal"]) {
    const response = await gateway.chat({ model });
    assert.equal(response.status, 200);
    await response.text();
  }
  const { spentNanos } = await gateway.quiet(gateway.budget, (spent) => spent > 0n);
  const own = await pricing.reprice(trialId, {});
  assert.equal(own.calls.length, 3);
  assert.deepEqual(
    [own.trial_id, own.charged_nanos, own.repriced_nanos, own.difference_nanos],
    [trialId, String(spentNanos), String(spentNanos), "0"],
  );
  assert.equal(own.calls[0]?.charged.price_version, PRICE.version);

  assert.equal(own.swap_nanos, "0");
  // The snapshot was 1 nano a token of input and 2 of output: this book has 2 and 10.
  const other = await pricing.reprice(trialId, { book: BOOK });
  const expected = own.calls.reduce(
    (sum, call) => sum + call.input_tokens * 2 + call.output_tokens * 10,
    0,
  );
  assert.equal(other.repriced_nanos, String(expected));
  assert.equal(other.calls[0]?.repriced.price_version, "test@2026-01-01");

  // What a swap cost it is of the same sum at any price.
  await rows(
    gateway.database.sql,
    sql`insert into model_swap (transfer_id, trial_id, pair, side, model, ended_at, duration_ms,
        gpu_ms, cost_nanos, currency, charged_nanos, uncharged_nanos)
      values (${gateway.ids.next("transfer")}, ${trialId}, 'p', 'normal', 'm', now(), 1, 1, 70,
        'CAD', 50, 20)`,
  );
  const swapped = await pricing.reprice(trialId, { book: BOOK });
  const { charged_nanos, repriced_nanos, difference_nanos, swap_nanos } = swapped;
  assert.deepEqual(
    [charged_nanos, repriced_nanos, difference_nanos, swap_nanos],
    [String(spentNanos + 50n), String(expected + 50), other.difference_nanos, "50"],
  );
});

test("another pair charges each side by its model, at a time of one's choice", async () => {
  const { gateway, pricing, trialId } = await open();
  await using _ = gateway;
  await (await gateway.chat({ model: "thinking" })).text();
  await gateway.quiet(gateway.budget, (spent) => spent > 0n);
  const { calls } = await pricing.reprice(trialId, { pair: "mine" });
  assert.match(calls[0]?.repriced.price_version ?? "", /^o3@2025-06-10,USD\/CAD@/);
  const scripted = await pricing.reprice(trialId, { pair: "scripted", at: "2026-05-01T00:00:00Z" });
  assert.equal(scripted.calls[0]?.repriced.model, "scripted-thinking");

  const refuse = async (wanted: object, code: string, message: RegExp) =>
    assert.rejects(pricing.reprice(trialId, wanted), { code, message });
  await refuse(
    { pair: "nobody" },
    "invalid_request",
    /^pair: unknown pair "nobody"; known: .*mine/,
  );
  await refuse({ book: "fx: 1" }, "invalid_request", /^the book:1: /);
  await refuse({ book: "fx: []\nprices: []" }, "unpriced_model", /^test has no price in CAD at/);
  const early = { pair: "mine", at: "2024-01-01T00:00:00Z" };
  await refuse(early, "unpriced_model", /^o3 has no price in CAD at 2024-01-01/);
  const unknown = gateway.ids.next("trial");
  await assert.rejects(pricing.reprice(unknown, {}), { code: "not_found" });
});

test("a fallback's call is charged again by the fallback's price", async () => {
  const { gateway, pricing, trialId } = await open();
  await using _ = gateway;
  await (await gateway.chat({ model: "normal" })).text();
  await gateway.quiet(gateway.budget, (spent) => spent > 0n);
  const dear = { ...PRICE, version: "elsewhere@2026-01-01", outputNanosPerMillion: "9000000" };
  const fallbacks = [{ provider: "test", upstreamName: "elsewhere", price: dear }];
  const { grant } = gateway;
  const models = grant.models.map((model) => ({ ...model, fallbacks }));
  const until = systemClock.now() + 60_000;
  const { keyId } = await gateway.keys.issue({ ...grant, models }, until);
  // As if the fallback had answered: 10 nanos of input, 90 of output.
  await rows(
    gateway.database.sql,
    sql`update call set key_id = ${keyId}, price_version = ${dear.version}, cost_nanos = 100,
        input_tokens = 10, cache_read_tokens = 0, output_tokens = 10
      where trial_id = ${trialId}`,
  );
  const { calls, reservation_count: otherwise } = await pricing.reprice(trialId, {});
  assert.deepEqual([calls[0]?.repriced.cost_nanos, otherwise], ["100", 0]);
});

test("prices are shown in the project's currency, now, where nothing else is wished", async () => {
  const { gateway, pricing } = await open();
  await using _ = gateway;
  const { prices } = await pricing.list({ project: "demo" });
  const own = prices.find(({ model }) => model === "mine-normal");
  assert.equal(own?.output_nanos_per_million, "7000000000");
  assert.match(own?.version ?? "", /^mine-normal@project-[0-9a-f]{8}$/);
  const report = await pricing.explain("claude-sonnet-4-5", { currency: "USD" });
  assert.equal(report.price.long_cache_write_nanos_per_million, "6000000000");
  assert.equal(report.price.tiers[0]?.output_nanos_per_million, "22500000000");
  await assert.rejects(pricing.explain("nobody", {}), {
    code: "not_found",
    message: /it has .*o3/,
  });
  const early = { at: "2020-01-01T00:00:00Z" };
  await assert.rejects(pricing.explain("o3", early), { code: "unpriced_model" });
  await assert.rejects(pricing.list({ project: "nobody" }), { code: "not_found" });
});
