/**
 * Goal (R14): clocks that are set an hour forward or back, on any machine, give nothing away: no
 * reservation frees money that a call may still spend, what expired early is put right when the
 * call ends, nothing stays reserved for ever, and a revoked or expired key is not served.
 *
 * Method: the simulation of `ledger.test.ts` with a clock that jumps; and each part that remembers
 * a time, with the clock set back under it. Replay: SEED=n.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { openPayer } from "../chaos/payer.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestDatabase } from "../support/database.ts";
import { amounts, createTestClock, openTestLedger } from "../support/ledger.ts";
import { newFateTally } from "./faulty-database.ts";
import { runSeed } from "./ledger-run.ts";
import { newOutcomeTally } from "./ledger-world.ts";
import { seedsOf } from "./seeds.ts";

const SEEDS = seedsOf(12);
const HOUR_MS = 3_600_000;

test(`a clock that jumps by an hour, ${SEEDS.length} seeds`, async () => {
  await using database = await openTestDatabase();
  const [fates, outcomes] = [newFateTally(), newOutcomeTally()];
  for (const seed of SEEDS) {
    const jumpsMs = [-HOUR_MS, HOUR_MS];
    await runSeed(database, seed, { fates, outcomes, jumpsMs }).catch((error: unknown) => {
      throw new Error(`SEED=${seed}: ${(error as Error).message}`, { cause: error });
    });
  }
  await auditLedger(database);
  if (SEEDS.length < 12) return;
  assert.ok(outcomes.expired > 0 && outcomes.corrected > 0, JSON.stringify(outcomes));
});

for (const aheadMs of [HOUR_MS, 5 * HOUR_MS]) {
  test(`a reservation made after the clock was set back by ${aheadMs} ms expires`, async () => {
    await using fixture = await openTestLedger();
    const { ledger, ids, clock } = fixture;
    const { budget, spend } = await fixture.openBudget(100n);
    const reserve = async () => {
      const id = ids.next("transfer");
      const path = { budget, within: [], spend };
      const asked = { id, ...path, amountNanos: 10n, timeoutMs: 1_000 };
      assert.equal((await ledger.reserve(asked)).outcome, "reserved");
      return id;
    };
    const early = await reserve();
    clock.ms += aheadMs;
    assert.equal(await ledger.expire(10), 1);
    assert.equal(amounts(await ledger.balance(budget)).spentNanos, 10n, "posted, not given back");

    clock.ms -= aheadMs;
    // The call runs all the while, and costs what it costs.
    const settlement = { id: ids.next("transfer"), pendingId: early, amountNanos: 3n };
    assert.equal((await ledger.settle(settlement)).outcome, "corrected");
    await reserve();
    assert.equal(await ledger.expire(10), 0, "not before its time");
    clock.ms += 1_000;
    assert.equal(await ledger.expire(10), 1, "the same ledger finds it");
    assert.equal(amounts(await ledger.balance(budget)).spentNanos, 13n);
  });
}

test("a key revoked by another process is not served by one whose clock was set back", async () => {
  await using database = await openTestDatabase();
  const { secret, grant } = await openPayer(database, 100n);
  const clock = createTestClock(Date.now());
  const ids = createIds(clock, systemRandom);
  const [own, other] = [1, 2].map(() => createKeys(database, clock, ids, systemRandom));
  assert.ok(own !== undefined && other !== undefined);
  assert.equal((await own.find(secret)).outcome, "granted");
  clock.ms -= HOUR_MS;
  await other.revokeAll(grant.trialId);
  assert.equal((await own.find(secret)).outcome, "revoked");
});

test("a key is refused once its time is over, and a jump forward refuses it early", async () => {
  await using database = await openTestDatabase();
  const { secret } = await openPayer(database, 100n);
  const clock = createTestClock(Date.now());
  const keys = createKeys(database, clock, createIds(clock, systemRandom), systemRandom);
  assert.equal((await keys.find(secret)).outcome, "granted");
  clock.ms += 2 * HOUR_MS;
  assert.equal((await keys.find(secret)).outcome, "expired");
});

test("summer time neither lengthens nor shortens a reservation", async () => {
  await using fixture = await openTestLedger();
  const { ids, clock } = fixture;
  const { budget, spend } = await fixture.openBudget(1_000n);
  // Europe goes to summer time in March and back in October, both at 01:00 UTC.
  for (const change of ["2027-03-28T01:00:00Z", "2027-10-31T01:00:00Z"]) {
    clock.ms = Date.parse(change) - 60_000;
    const ledger = createLedger(fixture.database, clock);
    const id = ids.next("transfer");
    const path = { budget, within: [], spend };
    await ledger.reserve({ id, ...path, amountNanos: 5n, timeoutMs: 120_000 });
    clock.ms += 119_999;
    assert.equal(await ledger.expire(10), 0);
    clock.ms += 1;
    assert.equal(await ledger.expire(10), 1);
  }
});
