/**
 * Goal: no sequence of what a ledger does overspends a budget or loses money, and every balance of
 * the past can be had again.
 *
 * Method: fast-check draws rounds of steps; the steps of a round are sent at once (so the group
 * commit gets them together) and are answered in their order. Two budgets of money lie within a
 * third that cannot cover both; a fourth is of tokens. Each answer and each balance must agree with
 * a model, a page of arithmetic; at the end, the balance at the time of each round is what was read
 * then. Each run has budgets of its own, so a failure shrinks. Replay: SEED=n.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Resolution } from "../../../orchestrator/ledger/ledger.ts";
import type { LedgerOptions } from "../../../orchestrator/ledger/postgres.ts";
import { type AccountId, derivedId, type TransferId } from "../../../orchestrator/runtime/ids.ts";
import { auditLedger } from "../../support/audit.ts";
import { amounts, openTestLedger, type TestLedger } from "../../support/ledger.ts";

const SEED = Number(process.env["SEED"] ?? 20_261_121);
const RUNS = Number(process.env["MODEL_RUNS"] ?? 60);
const WAYS: [string, LedgerOptions][] = [
  ["single statements", { batchMax: 1 }],
  ["group commit", {}],
];
const FUNDED_NANOS = 100n;
const OUTER_NANOS = 150n;
const TOKENS = 2;
const TIMEOUT_MS = 1_000;

const amountNanos = fc.bigInt({ min: 0n, max: 60n });
const which = fc.nat({ max: 30 });
const budget = fc.nat({ max: 1 });
const expiresTo = fc.constantFrom("post" as const, "void" as const);
const step = fc.oneof(
  fc.record({ op: fc.constant("reserve" as const), amountNanos, budget, expiresTo }),
  fc.record({ op: fc.constant("pair" as const), amountNanos, budget, tokens: amountNanos }),
  fc.record({ op: fc.constant("settle" as const), amountNanos, which }),
  fc.record({ op: fc.constant("release" as const), which }),
  fc.record({ op: fc.constant("reverse" as const), amountNanos, which }),
);
const round = fc.oneof(
  { weight: 5, arbitrary: fc.array(step, { minLength: 1, maxLength: 6 }) },
  { weight: 1, arbitrary: fc.constant("expire" as const) },
);
type Step = typeof step extends fc.Arbitrary<infer Drawn> ? Drawn : never;

/** A reservation as the model knows it. */
interface Held {
  id: TransferId;
  budget: number;
  amountNanos: bigint;
  expiresTo: "post" | "void";
  state: "open" | "ended" | "expired";
  postId: TransferId | null;
  postedNanos: bigint;
  reversedNanos: bigint;
}

for (const [way, options] of WAYS) {
  test(`the ledger agrees with its model (${way}), SEED=${SEED}`, async () => {
    await using fixture = await openTestLedger(options);
    await fc.assert(
      fc.asyncProperty(fc.array(round, { maxLength: 7 }), async (rounds) => {
        const { ledger, clock } = fixture;
        // What the run before left open.
        clock.ms += 2 * TIMEOUT_MS;
        await ledger.expire(1_000);
        const world = await openWorld(fixture);
        const seen: { atMs: number; account: AccountId; balance: object }[] = [];
        for (const drawn of rounds) {
          clock.ms += 1;
          if (drawn === "expire") {
            clock.ms += 2 * TIMEOUT_MS;
            assert.equal(await ledger.expire(100), world.expireAll());
          } else {
            const checks = drawn.map((one) => world.send(one));
            for (const check of checks) await check;
          }
          for (const [account, expected] of world.balances()) {
            const balance = amounts(await ledger.balance(account));
            assert.deepEqual(balance, expected);
            seen.push({ atMs: clock.ms, account, balance });
          }
          const { spend } = world;
          seen.push({
            atMs: clock.ms,
            account: spend,
            balance: amounts(await ledger.balance(spend)),
          });
        }
        for (const { atMs, account, balance } of seen) {
          assert.deepEqual(amounts(await ledger.balanceAt(account, atMs)), balance);
        }
      }),
      { seed: SEED, numRuns: RUNS },
    );
    await auditLedger(fixture.database);
  });
}

test("a statement runs from one balance to the next, on every page", async () => {
  await using fixture = await openTestLedger();
  const { ledger, clock } = fixture;
  await fc.assert(
    fc.asyncProperty(fc.array(round, { maxLength: 6 }), async (rounds) => {
      const world = await openWorld(fixture);
      for (const drawn of rounds) {
        if (drawn === "expire") {
          clock.ms += 2 * TIMEOUT_MS;
          await ledger.expire(100);
          world.expireAll();
        } else await Promise.all(drawn.map((one) => world.send(one)));
        clock.ms += 1;
      }
      for (const [account, { availableNanos }] of world.balances()) {
        const all = await ledger.statement(account, { limit: 1_000 });
        assert.equal(all[0]?.availableNanos, availableNanos);
        assert.equal(all.at(-1)?.reason, "test");
        assert.ok(
          all.every((line, index) => index === 0 || line.seq < (all[index - 1]?.seq ?? 0n)),
        );
        for (const [index, line] of all.entries()) {
          const next = all[index + 1];
          if (next === undefined || next.at === line.at) continue;
          const then = await ledger.balanceAt(account, next.at);
          assert.equal(next.availableNanos, then?.availableNanos);
        }
        const before = all[0]?.transferId;
        if (before === undefined) continue;
        assert.deepEqual(await ledger.statement(account, { limit: 3, before }), all.slice(1, 4));
      }
    }),
    { seed: SEED, numRuns: 15 },
  );
});

/** Budgets of one's own, and what the model says of them. */
async function openWorld({ ledger, ids, openBudget }: TestLedger) {
  const { budget: outer } = await openBudget(OUTER_NANOS);
  const first = await openBudget(FUNDED_NANOS, [outer]);
  const { budget: second } = await openBudget(FUNDED_NANOS);
  const tokens = await openBudget(FUNDED_NANOS, [], "TOK");
  const paths = [first, { ...first, budget: second }, tokens];
  const made: Held[] = [];
  return { send, expireAll, balances, spend: first.spend };

  /** Sends a step; the promise checks its answer, which the model knows already. */
  async function send(drawn: Step): Promise<void> {
    const [sent, outcome] = sendOne(drawn);
    assert.equal((await sent).outcome, outcome);
  }

  function sendOne(drawn: Step): readonly [Promise<{ outcome: string }>, string] {
    switch (drawn.op) {
      case "reserve":
        return reserve(drawn);
      case "pair":
        return reservePair(drawn);
      case "settle":
      case "release":
        return resolve(drawn);
      case "reverse":
        return reverse(drawn);
    }
  }

  function reserve(drawn: Step & { op: "reserve" }) {
    const held = draw(drawn.budget, drawn.amountNanos, drawn.expiresTo);
    const isMade = fits(held);
    if (isMade) made.push(held);
    return [
      ledger.reserve(reservationOf(held)),
      isMade ? "reserved" : "insufficient_funds",
    ] as const;
  }

  function reservePair(drawn: Step & { op: "pair" }) {
    const pair = [draw(drawn.budget, drawn.amountNanos), draw(TOKENS, drawn.tokens)];
    const isMade = pair.every(fits);
    if (isMade) made.push(...pair);
    const sent = ledger.reserveTogether(pair.map(reservationOf));
    return [sent, isMade ? "reserved" : "refused"] as const;
  }

  function resolve(drawn: Step & { op: "settle" | "release" }) {
    const held = made[drawn.which % Math.max(1, made.length)];
    const id = ids.next("transfer");
    const pendingId = held?.id ?? ids.next("transfer");
    const resolution: Resolution =
      drawn.op === "settle"
        ? { op: "settle", id, pendingId, amountNanos: drawn.amountNanos }
        : { op: "release", id, pendingId };
    const outcome = held === undefined ? "reservation_not_found" : end(held, resolution);
    // One of several, so that both ways of sending it are tried.
    if (drawn.which % 2 === 0) {
      const sent = ledger.resolveTogether([resolution]);
      return [sent.then(([result]) => result ?? { outcome: "none" }), outcome] as const;
    }
    const { op, ...rest } = resolution;
    const sent = "amountNanos" in rest ? ledger.settle(rest) : ledger.release(rest);
    return [sent, outcome] as const;
  }

  function reverse({ which: index, amountNanos: drawnNanos }: Step & { op: "reverse" }) {
    const posts = made.filter(({ postId }) => postId !== null);
    const held = posts[index % Math.max(1, posts.length)];
    const transferId = held?.postId ?? ids.next("transfer");
    const amount = drawnNanos + 1n;
    const id = ids.next("transfer");
    const sent = ledger.reverse({ id, transferId, amountNanos: amount, note: "drawn" });
    if (held === undefined) return [sent, "transfer_not_found"] as const;
    if (amount > held.postedNanos - held.reversedNanos) return [sent, "exceeds_transfer"] as const;
    held.reversedNanos += amount;
    return [sent, "reversed"] as const;
  }

  function end(held: Held, resolution: Resolution): string {
    const isSettle = resolution.op === "settle";
    const costNanos = isSettle ? resolution.amountNanos : 0n;
    if (held.state === "ended") return "already_resolved";
    if (costNanos > held.amountNanos) return "exceeds_reservation";
    const isLate = held.state === "expired";
    held.state = "ended";
    if (isLate) {
      const aboveNanos = held.postedNanos - held.reversedNanos - costNanos;
      if (aboveNanos > 0n) held.reversedNanos += aboveNanos;
      return "corrected";
    }
    if (!isSettle) return "released";
    held.postId = resolution.id;
    held.postedNanos = costNanos;
    return "settled";
  }

  function expireAll(): number {
    const open = made.filter(({ state }) => state === "open");
    for (const held of open) {
      held.state = held.expiresTo === "post" ? "expired" : "ended";
      if (held.expiresTo === "void") continue;
      held.postId = derivedId("transfer", "expire", held.id);
      held.postedNanos = held.amountNanos;
    }
    return open.length;
  }

  function draw(index: number, amount: bigint, then: Held["expiresTo"] = "post"): Held {
    const id = ids.next("transfer");
    const nothing = { postId: null, postedNanos: 0n, reversedNanos: 0n };
    return { id, budget: index, amountNanos: amount, expiresTo: then, state: "open", ...nothing };
  }

  function fits(held: Held): boolean {
    const isCovered = left([held.budget], FUNDED_NANOS) >= held.amountNanos;
    // The second budget lies within the outer one as the first does.
    const isEnclosed = held.budget === TOKENS || left([0, 1], OUTER_NANOS) >= held.amountNanos;
    return isCovered && isEnclosed;
  }

  function reservationOf({ id, budget: index, amountNanos: amount, expiresTo: then }: Held) {
    const path = paths[index];
    assert.ok(path !== undefined);
    const within = index === TOKENS ? [] : [outer];
    return { id, ...path, within, amountNanos: amount, timeoutMs: TIMEOUT_MS, expiresTo: then };
  }

  function left(indexes: readonly number[], fundedNanos: bigint): bigint {
    return balanceOf(indexes, fundedNanos).availableNanos;
  }

  function balanceOf(indexes: readonly number[], fundedNanos: bigint) {
    const of = made.filter(({ budget: index }) => indexes.includes(index));
    const open = of.filter(({ state }) => state === "open");
    const reservedNanos = open.reduce((sum, one) => sum + one.amountNanos, 0n);
    const spentNanos = of.reduce((sum, one) => sum + one.postedNanos - one.reversedNanos, 0n);
    const availableNanos = fundedNanos - reservedNanos - spentNanos;
    return { fundedNanos, reservedNanos, spentNanos, availableNanos };
  }

  function balances() {
    return [
      [first.budget, balanceOf([0], FUNDED_NANOS)],
      [second, balanceOf([1], FUNDED_NANOS)],
      [tokens.budget, balanceOf([TOKENS], FUNDED_NANOS)],
      [outer, balanceOf([0, 1], OUTER_NANOS)],
    ] as const;
  }
}
