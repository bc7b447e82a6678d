/**
 * A database as a process sees it that may die, or lose its connection, at any operation: before
 * the server got it, in the middle of a transaction, after the commit, or with the request still
 * on its way, to be carried out when nobody reckons with it any more (`commit_unknown`).
 */
import type { Database, Sql } from "../../orchestrator/db/database.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import type { Turnstile } from "./turnstile.ts";

/** What is counted as a crash point; each is drawn as often as the others. */
export const FATES = [
  "kill_before",
  "kill_inside",
  "kill_after",
  "lose_request",
  "lose_inside",
  "lose_answer",
  "come_late",
] as const;
export type Fate = (typeof FATES)[number];
export type FateTally = Record<Fate, number>;

/** The process that asked is dead: its callers hear nothing, which is told to the test so. */
export class Killed extends Error {
  override readonly name = "Killed";
}

/** What the driver says of a connection that broke. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
  readonly code = "ECONNRESET";
}

export interface FaultyDatabase extends Pick<Database, "sql"> {
  isDead(): boolean;
  kill(): void;
}

export interface FaultOptions {
  random: Random;
  turnstile: Turnstile;
  /** One operation in so many meets its fate; 0: none does. */
  oneIn: number;
  tally: FateTally;
}

export function newFateTally(): FateTally {
  return Object.fromEntries(FATES.map((fate) => [fate, 0])) as FateTally;
}

export function createFaultyDatabase(
  real: Pick<Database, "sql">,
  { random, turnstile, oneIn, tally }: FaultOptions,
): FaultyDatabase {
  let isDead = false;
  return {
    sql: {
      execute: ((statement: Parameters<Sql["execute"]>[0]) =>
        operate((inner) => inner.execute(statement), false)) as unknown as Sql["execute"],
      transaction: ((run: (tx: Sql) => Promise<unknown>) =>
        operate(
          (inner) => inner.transaction((tx) => run(tx)),
          true,
        )) as unknown as Sql["transaction"],
    },
    isDead: () => isDead,
    kill: () => {
      isDead = true;
    },
  };

  function operate<Result>(
    effect: (inner: Sql) => Promise<Result>,
    isTransaction: boolean,
  ): Promise<Result> {
    return turnstile.pass(async () => {
      if (isDead) throw new Killed("the process is dead");
      const fate = drawFate();
      if (fate === null) return effect(real.sql);
      tally[fate] += 1;
      switch (fate) {
        case "kill_before":
          return die();
        case "kill_after":
          await effect(real.sql).catch(() => undefined);
          return die();
        case "lose_request":
          throw new ConnectionLost("the request was lost");
        case "lose_answer":
          await effect(real.sql).catch(() => undefined);
          throw new ConnectionLost("the answer was lost");
        case "come_late":
          // A transaction's client has to be there to drive it, so only its answer can be late.
          if (isTransaction) await effect(real.sql).catch(() => undefined);
          else turnstile.later(1 + random.below(12), () => effect(real.sql));
          throw new ConnectionLost("the request is on its way");
        case "kill_inside":
        case "lose_inside":
          await effect(breakingAfter(random.below(6))).catch(() => undefined);
          if (fate === "kill_inside") return die();
          throw new ConnectionLost("the connection broke inside a transaction");
      }
    });
  }

  function die(): never {
    isDead = true;
    throw new Killed("the process was killed here");
  }

  function drawFate(): Fate | null {
    if (oneIn === 0 || random.below(oneIn) !== 0) return null;
    return FATES[random.below(FATES.length)] ?? null;
  }

  /** Transactions that break after so many statements, or before their commit: none commits. */
  function breakingAfter(statements: number): Sql {
    const broken = () => new ConnectionLost("the connection broke");
    return {
      execute: async () => {
        throw broken();
      },
      transaction: (run: (tx: Sql) => Promise<unknown>) =>
        real.sql.transaction(async (tx) => {
          let left = statements;
          const execute = async (statement: Parameters<Sql["execute"]>[0]) => {
            if (left-- <= 0) throw broken();
            return tx.execute(statement);
          };
          await run({ execute, transaction: tx.transaction.bind(tx) } as unknown as Sql);
          throw broken();
        }),
    } as unknown as Sql;
  }
}
