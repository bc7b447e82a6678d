/** Goal: what a call used is settled in full, oldest reservation first, never more than held. */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import type { TransferId } from "../../../orchestrator/runtime/ids.ts";
import {
  endReservations,
  type HeldReservation,
  heldAmount,
} from "../../../proxy/gateway/reservations.ts";

const id = (name: string) => `transfer_${name}` as TransferId;

function end(held: readonly HeldReservation[], money: bigint | null, tokens: bigint | null) {
  let made = 0;
  return endReservations(held, { money, tokens }, () => id(`end${made++}`));
}

const HELD: HeldReservation[] = [
  { pendingId: id("a"), unit: "money", amount: 100n },
  { pendingId: id("t"), unit: "tokens", amount: 50n },
  { pendingId: id("b"), unit: "money", amount: 100n },
];

const settled = (money: bigint | null, tokens: bigint | null) =>
  end(HELD, money, tokens).map(({ settledAmount }) => settledAmount);

test("oldest first; what was not needed is released; each unit for itself", () => {
  assert.deepEqual(settled(130n, 7n), [100n, 7n, 30n]);
  assert.deepEqual(settled(100n, 50n), [100n, 50n, null]);
  assert.deepEqual(settled(0n, 0n), [0n, 0n, null]);
  assert.deepEqual(settled(null, null), [null, null, null]);
  assert.throws(() => settled(201n, 0n), /RangeError: endReservations: 1 too much/);
  assert.deepEqual(end(HELD.slice(0, 1), 5n, null), [
    { pendingId: id("a"), unit: "money", resolutionId: id("end0"), settledAmount: 5n },
  ]);
});

test("whatever is held and used, the sum is what was used", () => {
  const amounts = fc.array(fc.bigInt({ min: 0n, max: 1_000n }), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(amounts, fc.nat(1_000), (each, permille) => {
      const held = each.map(
        (amount, at): HeldReservation => ({ pendingId: id(`r${at}`), unit: "money", amount }),
      );
      const used = (heldAmount(held, "money") * BigInt(permille)) / 1_000n;
      const ended = end(held, used, null);
      const sum = ended.reduce((total, one) => total + (one.settledAmount ?? 0n), 0n);
      assert.equal(sum, used);
      for (const [at, one] of ended.entries()) {
        assert.ok((one.settledAmount ?? 0n) <= (each[at] ?? 0n));
      }
    }),
  );
});
