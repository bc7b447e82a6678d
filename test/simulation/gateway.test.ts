/**
 * Goal (R1, through the gateway): wherever a gateway dies or loses the database, each call that it
 * forwarded is charged once, at the model server's own count or in full by expiry, none that it
 * did not forward costs anything, and no budget is overspent.
 *
 * Method: the real gateway over HTTP, ledger, keys and tables; one seed decides the fate of every
 * database operation (`faulty-database.ts`), how long each life of the gateway lasts, and what the
 * model server answers. Sockets keep an order of their own, so a seed repeats the draw, not every
 * interleaving: SEED=n, and SEEDS=n for more, which MINUTES=n cuts short.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Agent, request } from "undici";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import type { AccountId } from "../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { openPayer, type Payer } from "../chaos/payer.ts";
import type { Billed } from "../chaos/provider.ts";
import { reckon } from "../chaos/reckoning.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import { createTestClock } from "../support/ledger.ts";
import { FATES, newFateTally } from "./faulty-database.ts";
import { createKnowingUpstream, openLife } from "./gateway-life.ts";
import { checkTree, type Tree } from "./ledger-books.ts";
import { inTime, seedsOf } from "./seeds.ts";

const SEEDS = seedsOf(16);
const LIVES = 6;
const ROUNDS = 5;
const CALLS_AT_ONCE = 4;
const FUNDED_NANOS = 40_000n;
const TOKENS = 30_000n;

const fates = newFateTally();
const statuses: Record<string, number> = {};

test(`gateways under ${SEEDS.length} seeds of crashes`, async (t) => {
  await using database = await openTestDatabase();
  const billed: Billed[] = [];
  let ran = 0;
  for (const seed of inTime(SEEDS)) {
    ran += 1;
    await runSeed(database, seed, billed).catch((error: unknown) => {
      throw new Error(`SEED=${seed}: ${(error as Error).message}`, { cause: error });
    });
  }
  const { calls, spentNanos, flaggedNanos, lostNanos } = await reckon(database, billed);
  const crashPoints = FATES.reduce((sum, fate) => sum + fates[fate], 0);
  t.diagnostic(`${ran} seeds, ${crashPoints} crash points: ${JSON.stringify(fates)}`);
  t.diagnostic(`${JSON.stringify(statuses)}; ${calls} forwarded, ${spentNanos} spent`);
  t.diagnostic(`${flaggedNanos} of it by expiry, for ${lostNanos} by the model server's count`);
  if (ran < 16) return;
  for (const status of ["200", "500", "502", "503"]) {
    assert.ok((statuses[status] ?? 0) > 0, `nobody was answered ${status}`);
  }
  assert.ok(flaggedNanos > 0n && calls > 100, "a run in which nothing happens tests nothing");
});

async function runSeed(database: TestDatabase, seed: number, billed: Billed[]): Promise<void> {
  const random = seededRandom(seed);
  const clock = createTestClock(Date.now());
  // Every second one rations tokens beside money: both are reserved, or neither.
  const isRationed = seed % 2 === 0;
  const payer = await openPayer(database, FUNDED_NANOS, isRationed ? { tokens: TOKENS } : {});
  const trees = treesOf(payer);
  const upstream = createKnowingUpstream(random, billed);
  for (let lives = 0; lives < LIVES; lives++) {
    await using life = new AsyncDisposableStack();
    const gateway = await openLife({ database, random, clock, fates, upstream });
    life.defer(gateway.die);
    const agent = life.adopt(new Agent({ connections: CALLS_AT_ONCE }), (one) => one.destroy());
    for (let round = 0; round < ROUNDS && !gateway.isDead(); round++) {
      const calls = Array.from({ length: 1 + random.below(CALLS_AT_ONCE) }, () =>
        call(gateway.url, payer.secret, agent, random.below(2) === 0),
      );
      await Promise.all(calls);
      for (const tree of trees) await checkTree(database, tree);
      clock.ms += random.below(1_000);
    }
  }
  clock.ms += 30 * 86_400_000;
  const ledger = createLedger(database, clock);
  // What a killed gateway had sent may be committed after its end: it expires all the same.
  await eventually(
    async () => {
      while ((await ledger.expire(100)) > 0);
      const leaves = trees.flatMap((tree) => tree.leaves);
      const balances = await Promise.all(leaves.map(({ id }) => ledger.balance(id)));
      return balances.map((balance) => String(balance?.reservedNanos));
    },
    (reserved) => reserved.every((nanos) => nanos === "0"),
  );
  for (const tree of trees) await checkTree(database, tree);
}

function treesOf({ project, budget, spend, grant }: Payer): Tree[] {
  const tree = (around: AccountId, leaf: AccountId, to: AccountId, fundedNanos: bigint) => ({
    around: [{ id: around, fundedNanos }],
    leaves: [{ id: leaf, fundedNanos }],
    spend: to,
  });
  const money = tree(project, budget, spend, FUNDED_NANOS);
  const { tokens } = grant;
  const [around] = tokens?.within ?? [];
  if (tokens === undefined || around === undefined) return [money];
  return [money, tree(around, tokens.budget, tokens.spend, TOKENS)];
}

async function call(url: string, secret: string, agent: Agent, isStream: boolean): Promise<void> {
  let status = "none";
  try {
    const { statusCode, body } = await request(`${url}/v1/chat/completions`, {
      method: "POST",
      dispatcher: agent,
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "normal",
        messages: [{ role: "user", content: "hello" }],
        max_tokens: 16,
        stream: isStream,
      }),
    });
    await body.dump();
    status = String(statusCode);
  } catch {
    // Its process died, or cut it off.
  }
  assert.match(status, /^(200|403|429|500|502|503|none)$/);
  statuses[status] = (statuses[status] ?? 0) + 1;
}
