/** What goes in one round trip, what takes a look first, and that nobody can tell which it was. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Database, Statement } from "../../../orchestrator/db/database.ts";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger, type TestLedger } from "../../support/ledger.ts";

/** The database, and how many transactions went in one trip and in several. */
function counted(trips: { one: number; several: number }) {
  return (database: Database): Database => ({
    ...database,
    together: (statements: readonly Statement[]) => {
      trips.one++;
      assert.ok(database.together !== undefined);
      return database.together(statements);
    },
    sql: {
      execute: database.sql.execute,
      transaction: ((...given: Parameters<Database["sql"]["transaction"]>) => {
        trips.several++;
        return database.sql.transaction(...given);
      }) as Database["sql"]["transaction"],
    },
  });
}

async function openCounted(): Promise<{
  fixture: TestLedger;
  trips: { one: number; several: number };
}> {
  const trips = { one: 0, several: 0 };
  return { fixture: await openTestLedger({ over: counted(trips) }), trips };
}

test("reservations and settlements of one process take one trip, and tell balances in order", async () => {
  const { fixture: opened, trips } = await openCounted();
  await using fixture = opened;
  const { ledger, ids } = fixture;
  const { budget: project } = await fixture.openBudget(1_000n);
  const path = await fixture.openBudget(500n, [project]);
  const reserve = (amountNanos: bigint, id = ids.next("transfer")) =>
    ledger.reserve({ id, ...path, amountNanos, timeoutMs: 1_000 });
  const settle = (pendingId: TransferId, amountNanos: bigint) =>
    ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos });
  const made = Array.from({ length: 4 }, () => ids.next("transfer"));

  const first = await Promise.all(made.map((id, at) => reserve(BigInt(10 * (at + 1)), id)));
  const left = first.map((one) => one.outcome === "reserved" && one.balance.availableNanos);
  assert.deepEqual(left, [490n, 470n, 440n, 400n]);

  const [one, two, three, four] = made as [TransferId, TransferId, TransferId, TransferId];
  const second = await Promise.all([
    settle(one, 1n),
    reserve(100n),
    settle(two, 20n),
    ledger.release({ id: ids.next("transfer"), pendingId: three }),
    settle(four, 0n),
  ]);
  assert.deepEqual(
    second.map((two) => "balance" in two && two.balance.availableNanos),
    // The first goes alone, and each after it as those before it left the budget.
    [409n, 309n, 309n, 339n, 379n],
  );
  assert.deepEqual(trips, { one: 2, several: 0 });
  assert.deepEqual(amounts(await ledger.balance(project)), {
    fundedNanos: 1_000n,
    reservedNanos: 100n,
    spentNanos: 21n,
    availableNanos: 879n,
  });
  await auditLedger(fixture.database);
});

test("what one trip cannot answer is answered as ever, each in its turn", async () => {
  const { fixture: opened, trips } = await openCounted();
  await using fixture = opened;
  const { ledger, ids } = fixture;
  const path = await fixture.openBudget(100n);
  const reserve = (amountNanos: bigint, id = ids.next("transfer")) =>
    ledger.reserve({ id, ...path, amountNanos, timeoutMs: 1_000 });
  const held = ids.next("transfer");
  assert.equal((await reserve(50n, held)).outcome, "reserved");

  // It comes before what would have made room for it; what is given back covers the last one.
  const answers = await Promise.all([
    reserve(10n),
    reserve(45n),
    ledger.release({ id: ids.next("transfer"), pendingId: held }),
    reserve(40n),
  ]);
  assert.deepEqual(
    answers.map(({ outcome }) => outcome),
    ["reserved", "insufficient_funds", "released", "reserved"],
  );
  assert.ok(trips.one >= 1 && trips.several >= 1, "it was tried in one, and looked at");
  await auditLedger(fixture.database);
});

test("reservations of another process, and those it has ended, are looked up", async () => {
  const { fixture: opened, trips } = await openCounted();
  await using fixture = opened;
  const { ledger, ids, database } = fixture;
  await using other = await openTestLedger({ database, seed: 2 });
  const path = await fixture.openBudget(100n);
  const [mine, theirs] = [ids.next("transfer"), other.ids.next("transfer")];
  const reservation = { ...path, amountNanos: 10n, timeoutMs: 1_000 };
  await ledger.reserve({ id: mine, ...reservation });
  await other.ledger.reserve({ id: theirs, ...reservation });

  const settleBoth = () =>
    Promise.all(
      [mine, theirs, mine].map((pendingId) =>
        ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos: 4n }),
      ),
    );
  const outcomes = (await settleBoth()).map(({ outcome }) => outcome);
  assert.deepEqual(outcomes, ["settled", "settled", "already_resolved"]);
  assert.ok(trips.several > 0);

  const late = Array.from({ length: 2 }, () => ids.next("transfer"));
  await Promise.all(late.map((id) => ledger.reserve({ id, ...reservation })));
  other.clock.ms += 2_000;
  assert.equal(await other.ledger.expire(10), 2);
  const corrected = await Promise.all(
    late.map((pendingId) =>
      ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos: 3n }),
    ),
  );
  assert.deepEqual(
    corrected.map(({ outcome }) => outcome),
    ["corrected", "corrected"],
  );
  assert.equal((await ledger.balance(path.budget))?.spentNanos, 14n);
  await auditLedger(database);
});

test("two processes' trips on one budget wait for one another", async () => {
  const { fixture: opened, trips } = await openCounted();
  await using fixture = opened;
  const { database } = fixture;
  await using other = await openTestLedger({ database, seed: 2, over: counted(trips) });
  const path = await fixture.openBudget(1_000_000n);
  const callAll = async ({ ledger, ids }: TestLedger) => {
    for (let round = 0; round < 20; round++) {
      const held = Array.from({ length: 8 }, () => ids.next("transfer"));
      const reservation = { ...path, amountNanos: 10n, timeoutMs: 60_000 };
      await Promise.all(held.map((id) => ledger.reserve({ id, ...reservation })));
      await Promise.all(
        held.map((pendingId) =>
          ledger.settle({ id: ids.next("transfer"), pendingId, amountNanos: 7n }),
        ),
      );
    }
  };
  await Promise.all([callAll(fixture), callAll(other)]);
  assert.equal((await fixture.ledger.balance(path.budget))?.spentNanos, 2n * 20n * 8n * 7n);
  assert.ok(trips.one >= 40, `${trips.one} in one trip`);
  await auditLedger(database);
});
