/**
 * Goal: a project that rations tokens has its trials charged in tokens beside money, by the real
 * gateway: input, cached input and output; and refused when they are used up, money or not.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { createDays } from "../../../orchestrator/projects/day.ts";
import { grantTokens, openTokenAccounts } from "../../../orchestrator/projects/tokens.ts";
import { auditLedger } from "../../support/audit.ts";
import { openTestGateway, sendJson } from "../../support/gateway.ts";

const BUDGET = { total: "1", per_trial: "1" };

test("tokens are charged beside money at every level, and their end is the end", async () => {
  const state: { day: string | null } = { day: null };
  await using world = await openTestGateway({
    deps: { tokenDayAccount: async () => state.day as never },
    behave: (_, response) =>
      sendJson(response, {
        usage: {
          prompt_tokens: 1_000,
          completion_tokens: 500,
          prompt_tokens_details: { cached_tokens: 400 },
        },
      }),
  });
  const { ledger, ids, clock, database, grant } = world;
  const { projectId, trialId } = grant;
  const tokens = { total: 1_000_000, per_trial: 8_000, daily: 100_000 };
  const config = { project: "p", currency: "CAD", budget: { ...BUDGET, tokens } };
  const opener = { ledger, ids };
  const accounts = await openTokenAccounts(opener, projectId);
  const total = { from: accounts.funding, to: accounts.budget, reason: "total" };
  await ledger.fund({ ...total, id: ids.next("transfer"), amountNanos: 1_000_000n });
  const granted = await grantTokens(opener, { id: projectId, config }, trialId);
  assert.ok(granted !== null);
  assert.deepEqual(await grantTokens(opener, { id: projectId, config }, trialId), granted);
  const days = createDays({ db: database, ledgerIn: (tx) => createLedger(tx, clock), ids, clock });
  state.day = await days.tokenDayAccount({
    ...{ projectId, timeZone: "UTC", currency: "CAD", allowanceNanos: null, carryOverNanos: 0n },
    tokenAllowance: BigInt(tokens.daily),
  });
  const { secret } = await world.keys.issue({ ...grant, tokens: granted }, Date.now() + 60_000);

  assert.equal((await world.chat({ max_tokens: 600 }, secret)).status, 200);
  await world.calls();
  for (const account of [granted.budget, accounts.budget, state.day]) {
    assert.equal((await ledger.balance(account as never))?.spentNanos, 1_500n);
  }
  let calls = 1;
  while ((await world.chat({ max_tokens: 600 }, secret)).status === 200) calls++;
  assert.ok(calls > 1 && calls <= 5, `${calls} calls of 1,500 tokens on a budget of 8,000`);
  const left = await ledger.balance(granted.budget);
  assert.equal(left?.spentNanos, BigInt(calls) * 1_500n);
  assert.ok(((await ledger.balance(grant.budget))?.availableNanos ?? 0n) > 900_000n);
  await auditLedger(database);
});

test("a project that rations none grants none", async () => {
  const config = { project: "p", currency: "CAD", budget: BUDGET };
  const project = { id: "project_01jd7sm1g0e0080000000000p1", config } as const;
  assert.equal(await grantTokens({} as never, project, "trial_01jd7sm1g0e0080000000000t1"), null);
});
