/**
 * Goal (R2): whatever callers do to one account at once, through however many ledgers, could have
 * been done one after another: every answer, refusal and balance is that of some order.
 *
 * Method: clients reserve, settle, release, top up, expire and read, several histories at a time
 * so that their requests share flushes; some answers are lost on the way. Each history is then
 * searched for an order in which a model of the account gives the same answers (`linear.ts`). The
 * interleavings are the machine's, what is asked is the seed's: SEED=n, and SEEDS=n for more, which
 * MINUTES=n cuts short.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Database, Sql } from "../../orchestrator/db/database.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import type { BudgetBalance, Ledger } from "../../orchestrator/ledger/ledger.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type Random, seededRandom } from "../../orchestrator/runtime/random.ts";
import { auditLedger } from "../support/audit.ts";
import { openTestLedger, type TestLedger } from "../support/ledger.ts";
import {
  type AccountOp,
  type AccountResult,
  createAccountModel,
  type Facts,
  NOTHING,
} from "./account-model.ts";
import { ConnectionLost } from "./faulty-database.ts";
import { findContradiction, type Operation } from "./linear.ts";
import { inTime, seedsOf } from "./seeds.ts";

const SEEDS = seedsOf(160);
const AT_ONCE = 8;
const CLIENTS = 6;
const OPS_EACH = 8;
const RESERVATIONS = 14;
const TOP_UPS = 2;
const SHORT_MS = 1;
const LONG_MS = 1_000_000_000;
/** The expirer's clock is so far ahead: what is short has expired for it from the first. */
const AHEAD_MS = 60_000;
const LOST_ONE_IN = 40;

type History = Operation<AccountOp, AccountResult>[];

test("a contradiction is found", () => {
  const facts: Facts = {
    fundedNanos: 10n,
    topUpNanos: [],
    amountNanos: [10n, 10n],
    isVoidedByExpiry: [false, false],
    costNanos: [[4n], [4n]],
  };
  const nothing = { availableNanos: null, reservedNanos: null, spentNanos: null };
  const done = (op: AccountOp, outcome: string, askedAt: number, answeredAt: number) => ({
    op,
    result: { ...nothing, outcome },
    askedAt,
    answeredAt,
  });
  const check = (history: History) =>
    findContradiction(history, NOTHING(facts), createAccountModel(facts)) === null;
  const first = done({ op: "reserve", at: 0 }, "reserved", 1, 4);
  const refused = done({ op: "reserve", at: 1 }, "insufficient_funds", 2, 3);
  assert.ok(check([first, refused]), "at once: either may be the first");
  assert.ok(!check([first, done({ op: "reserve", at: 1 }, "reserved", 2, 3)]), "an overspend");
  assert.ok(!check([{ ...first, askedAt: 5, answeredAt: 6 }, refused]), "refused by the future");
  const settled = done({ op: "settle", at: 0, by: 0 }, "settled", 5, 6);
  assert.ok(!check([first, settled, { ...settled, askedAt: 7, answeredAt: 8 }]), "settled twice");
  const unknown = { ...settled, result: null, answeredAt: Number.POSITIVE_INFINITY };
  const again = { ...first, ...done({ op: "reserve", at: 1 }, "reserved", 9, 10) };
  assert.ok(!check([first, unknown, again]), "6 are not enough, settled or not");
  const stale = done({ op: "balance" }, "balance", 7, 8);
  const read = { ...stale, result: { ...nothing, outcome: "balance", spentNanos: 0n } };
  assert.ok(!check([first, settled, read]), "a stale read");
  assert.ok(check([first, unknown, read]), "a settlement that never came");
});

test(`${SEEDS.length} concurrent histories have an order each`, async (t) => {
  await using fixture = await openTestLedger();
  await using ledgers = await openLedgers(fixture);
  const counts: Record<string, number> = {};
  // One generator for all lanes: each takes the next seed.
  const waiting = inTime(SEEDS);
  let ran = 0;
  const lane = async () => {
    for (const seed of waiting) {
      ran += 1;
      await runHistory(fixture, ledgers, seed, counts);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  await auditLedger(fixture.database);
  t.diagnostic(`${ran} histories: ${JSON.stringify(counts)}`);
  if (ran < 100) return;
  const met = ["reserve reserved", "reserve insufficient_funds", "settle settled"];
  met.push("settle already_resolved", "settle reservation_not_found", "release released");
  met.push(
    "fund already_funded",
    "settle corrected",
    "release corrected",
    "reserve null",
    "settle null",
    "expire",
  );
  for (const what of met) assert.ok((counts[what] ?? 0) > 0, `never: ${what}`);
});

interface Ledgers extends AsyncDisposable {
  draw(random: Random): Ledger;
  /** One whose clock is ahead, and whose answers are never lost. */
  readonly expirer: Ledger;
}

/** On pools of their own, as other processes would have. */
async function openLedgers({ database, clock }: TestLedger): Promise<Ledgers> {
  const random = seededRandom(1);
  const opened = await Promise.all(
    [1, 500, 500].map(() =>
      openPostgresDatabase({ url: database.url, log: createLog("error"), connectionsMax: 3 }),
    ),
  );
  const ledgers = opened.map((one, index) =>
    createLedger(losingAnswers(one, random), clock, { batchMax: index === 0 ? 1 : 500 }),
  );
  const ahead = { now: () => clock.now() + AHEAD_MS };
  return {
    draw: (drawn) => ledgers[drawn.below(ledgers.length)] as Ledger,
    expirer: createLedger(database, ahead),
    [Symbol.asyncDispose]: async () => {
      for (const one of opened) await one[Symbol.asyncDispose]();
    },
  };
}

function losingAnswers({ sql }: Pick<Database, "sql">, random: Random): Pick<Database, "sql"> {
  const lose = () => {
    if (random.below(LOST_ONE_IN) === 0) throw new ConnectionLost("the answer was lost");
  };
  return {
    sql: {
      execute: async (statement: Parameters<Sql["execute"]>[0]) => {
        const result = await sql.execute(statement);
        lose();
        return result;
      },
      transaction: async (run: Parameters<Sql["transaction"]>[0]) => {
        const result = await sql.transaction(run);
        lose();
        return result;
      },
    } as unknown as Sql,
  };
}

async function runHistory(
  fixture: TestLedger,
  ledgers: Ledgers,
  seed: number,
  counts: Record<string, number>,
): Promise<void> {
  const { ids } = fixture;
  const random = seededRandom(seed);
  const facts = drawFacts(random);
  const { budget, spend } = await fixture.openBudget(facts.fundedNanos);
  const reservationIds = facts.amountNanos.map(() => ids.next("transfer"));
  const topUpIds = facts.topUpNanos.map(() => ids.next("transfer"));
  const funding = await fixture.ledger.open({
    id: ids.next("account"),
    kind: "funding",
    owner: `history/${seed}`,
    currency: "CAD",
    mustNotExceed: false,
  });
  const history: History = [];
  let now = 0;
  // Another history's expirer may come by at any time.
  for (const at of facts.amountNanos.keys()) {
    const times = { askedAt: -1, answeredAt: Number.POSITIVE_INFINITY };
    if (isShort(at)) history.push({ op: { op: "expire", at }, result: null, ...times });
  }

  const ops = Array.from({ length: CLIENTS }, () =>
    Array.from({ length: OPS_EACH }, () => drawOp(random)),
  );
  await Promise.all(
    ops.map(async (own) => {
      for (const op of own) {
        if (op.op === "expire") await expire();
        else await record(op, () => perform(op));
      }
    }),
  );
  const contradiction = findContradiction(history, NOTHING(facts), createAccountModel(facts));
  if (contradiction === null) return;
  const text = (value: unknown) =>
    JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? String(inner) : inner));
  assert.fail(
    `SEED=${seed}: no order gives these answers\n${text(facts)}\nas far as it goes:\n` +
      `${contradiction.order.map(text).join("\n")}\n` +
      `what does not fit after it:\n${contradiction.rest.map(text).join("\n")}`,
  );

  async function record(op: AccountOp, run: () => Promise<AccountResult | null>): Promise<void> {
    const askedAt = now++;
    const result = await run().catch((error: unknown) => {
      for (let at = error; at instanceof Error; at = at.cause) {
        if (at instanceof ConnectionLost) return null;
      }
      throw error;
    });
    const answeredAt = result === null ? Number.POSITIVE_INFINITY : now++;
    history.push({ op, result, askedAt, answeredAt });
    const what = `${op.op} ${result?.outcome ?? null}`;
    counts[what] = (counts[what] ?? 0) + 1;
  }

  async function perform(op: Exclude<AccountOp, { op: "expire" }>): Promise<AccountResult> {
    const ledger = ledgers.draw(random);
    switch (op.op) {
      case "balance": {
        const balance = await ledger.balance(budget);
        assert.ok(balance !== null);
        return { ...balance, outcome: "balance" };
      }
      case "fund": {
        const id = topUpIds[op.at] as (typeof topUpIds)[number];
        const amountNanos = facts.topUpNanos[op.at] ?? 0n;
        const to = { from: funding, to: budget, amountNanos, reason: "topup" };
        return answer(await ledger.fund({ id, ...to }));
      }
      case "reserve": {
        const amountNanos = facts.amountNanos[op.at] ?? 0n;
        const timeoutMs = isShort(op.at) ? SHORT_MS : LONG_MS;
        const id = reservationIds[op.at] as (typeof reservationIds)[number];
        const expiresTo = facts.isVoidedByExpiry[op.at] ? "void" : "post";
        const asked = { id, budget, within: [], spend, amountNanos, timeoutMs, expiresTo } as const;
        return answer(await ledger.reserve(asked));
      }
      case "settle":
      case "release": {
        const pendingId = reservationIds[op.at] as (typeof reservationIds)[number];
        const id = ids.next("transfer");
        if (op.op === "release") return answer(await ledger.release({ id, pendingId }));
        const amountNanos = facts.costNanos[op.at]?.[op.by] ?? 0n;
        return answer(await ledger.settle({ id, pendingId, amountNanos }));
      }
    }
  }

  /** Everything short that is reserved before it is over: an operation for each. */
  async function expire(): Promise<void> {
    const askedAt = now++;
    // Until nothing is left: another history's may fill the batch.
    while ((await ledgers.expirer.expire(1_000)) >= 1_000);
    const answeredAt = now++;
    for (const at of facts.amountNanos.keys()) {
      if (!isShort(at)) continue;
      const result = { ...UNTOLD, outcome: "expire" };
      history.push({ op: { op: "expire", at }, result, askedAt, answeredAt });
    }
    counts["expire"] = (counts["expire"] ?? 0) + 1;
  }
}

/** Every second one. */
function isShort(at: number): boolean {
  return at % 2 === 0;
}

const UNTOLD = { availableNanos: null, reservedNanos: null, spentNanos: null };

/** What an answer says, of the balance too where it tells it. */
function answer(result: { outcome: string; balance?: BudgetBalance }): AccountResult {
  const { outcome, balance, ...refused } = result;
  return { ...UNTOLD, ...refused, ...balance, outcome };
}

function drawFacts(random: Random): Facts {
  const nanos = (below: number) => BigInt(random.below(below));
  const amountNanos = Array.from({ length: RESERVATIONS }, () => 5n + nanos(60));
  return {
    fundedNanos: 50n + nanos(150),
    topUpNanos: Array.from({ length: TOP_UPS }, () => nanos(80)),
    amountNanos,
    isVoidedByExpiry: amountNanos.map(() => random.below(4) === 0),
    costNanos: amountNanos.map((most) =>
      Array.from({ length: CLIENTS }, () => nanos(Number(most) + 1)),
    ),
  };
}

function drawOp(random: Random): AccountOp {
  const drawn = random.below(20);
  const at = random.below(RESERVATIONS);
  if (drawn < 8) return { op: "reserve", at };
  if (drawn < 13) return { op: "settle", at, by: random.below(CLIENTS) };
  if (drawn < 16) return { op: "release", at, by: 0 };
  if (drawn < 18) return { op: "balance" };
  if (drawn < 19) return { op: "fund", at: random.below(TOP_UPS) };
  return { op: "expire", at };
}
