/**
 * Calls that pay from nested budgets through processes which die: what each knows, what it may
 * conclude from the answers it gets, and what must therefore be in the books.
 *
 * A call is a little state machine; its steps run in whichever process lives, some twice at once,
 * some too early, some never, as the seed draws.
 */
import assert from "node:assert/strict";
import type { Database } from "../../orchestrator/db/database.ts";
import { createJournal, type Journal, type Signer } from "../../orchestrator/ledger/journal.ts";
import type { Ledger } from "../../orchestrator/ledger/ledger.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import type { AccountId, Ids, TransferId } from "../../orchestrator/runtime/ids.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import type { TestClock } from "../support/ledger.ts";
import {
  ConnectionLost,
  createFaultyDatabase,
  type FateTally,
  type FaultyDatabase,
  Killed,
} from "./faulty-database.ts";
import type { Turnstile } from "./turnstile.ts";

export interface Path {
  budget: AccountId;
  within: readonly AccountId[];
  spend: AccountId;
}

type Known = "no" | "unknown" | "yes";

export interface SimulatedCall {
  pendingId: TransferId;
  settleId: TransferId;
  releaseId: TransferId;
  path: Path;
  amountNanos: bigint;
  costNanos: bigint;
  timeoutMs: number;
  expiresTo: "post" | "void";
  /** What its driver knows of its reservation, and of each way to end it. */
  reserved: Known;
  settled: Known;
  released: Known;
  isForwarded: boolean;
  /** Its driver is gone, or has what it wanted. */
  isOver: boolean;
}

/** What a run must have met, or it has tested nothing. */
export interface OutcomeTally {
  reserved: number;
  refused: number;
  settled: number;
  released: number;
  corrected: number;
  expired: number;
  repeated: number;
  tooEarly: number;
  orphaned: number;
  sealed: number;
  restarts: number;
}

export interface LedgerWorld {
  database: Pick<Database, "sql">;
  random: Random;
  turnstile: Turnstile;
  clock: TestClock;
  ids: Ids;
  signer: Signer;
  faults: { oneIn: number; fates: FateTally };
  outcomes: OutcomeTally;
}

interface Process {
  db: FaultyDatabase;
  ledger: Ledger;
  journal: Journal;
}

/** Some are over before their call is. */
const TIMEOUT_MIN_MS = 100;
const TIMEOUT_MORE_MS = 2_000;
/** A sealer needs some calm: what it seals it decides two looks ahead. */
const SEALER_FAULTY_ONE_IN = 8;

export function newOutcomeTally(): OutcomeTally {
  return {
    reserved: 0,
    refused: 0,
    settled: 0,
    released: 0,
    corrected: 0,
    expired: 0,
    repeated: 0,
    tooEarly: 0,
    orphaned: 0,
    sealed: 0,
    restarts: 0,
  };
}

export type Processes = ReturnType<typeof createProcesses>;

/** So many processes on one database; a dead one is replaced when next it is needed. */
export function createProcesses(world: LedgerWorld, count: number) {
  const { random, turnstile, clock, signer, outcomes } = world;
  const running: Process[] = Array.from({ length: count }, () => open(world.faults.oneIn));
  let sealer = open(SEALER_FAULTY_ONE_IN);
  const reliable = open(0);
  return { drawLedger: () => drawProcess().ledger, reap, seal, reliable: reliable.ledger };

  function open(oneIn: number): Process {
    const { fates: tally } = world.faults;
    const db = createFaultyDatabase(world.database, { random, turnstile, oneIn, tally });
    const batchMax = random.below(4) === 0 ? 1 : 500;
    const journal = createJournal(db, clock, signer, { batchMax: 7, checkpointTransfers: 20 });
    return { db, ledger: createLedger(db, clock, { batchMax }), journal };
  }

  /** What one cannot do, the next one's turn does. */
  async function reap(): Promise<void> {
    await drawProcess().ledger.expire(50).catch(checkFault);
  }

  async function seal(): Promise<void> {
    if (sealer.db.isDead()) {
      sealer = open(SEALER_FAULTY_ONE_IN);
      outcomes.restarts += 1;
    }
    const status = await sealer.journal.activate().catch(checkFault);
    outcomes.sealed += status?.sealed ?? 0;
  }

  function drawProcess(): Process {
    const index = random.below(count);
    let process = running[index];
    if (process === undefined || process.db.isDead()) {
      process = open(world.faults.oneIn);
      running[index] = process;
      outcomes.restarts += 1;
    }
    return process;
  }
}

export function drawCall({ random, ids }: LedgerWorld, paths: readonly Path[]): SimulatedCall {
  const path = paths[random.below(paths.length)];
  assert.ok(path !== undefined);
  const amountNanos = BigInt(random.below(80));
  return {
    pendingId: ids.next("transfer"),
    settleId: ids.next("transfer"),
    releaseId: ids.next("transfer"),
    path,
    amountNanos,
    costNanos: BigInt(random.below(Number(amountNanos) + 1)),
    timeoutMs: TIMEOUT_MIN_MS + random.below(TIMEOUT_MORE_MS),
    expiresTo: random.below(3) === 0 ? "void" : "post",
    reserved: "no",
    settled: "no",
    released: "no",
    isForwarded: false,
    isOver: false,
  };
}

/** One thing that happens to `call`; what goes wrong is part of it. */
export async function stepCall(
  world: LedgerWorld,
  processes: Processes,
  call: SimulatedCall,
): Promise<void> {
  const { random, outcomes } = world;
  if (call.reserved !== "yes") {
    if (call.reserved === "no" && random.below(12) === 0) return settleTooEarly();
    return reserve();
  }
  if (call.settled === "no" && call.released === "no" && random.below(10) === 0) {
    call.isOver = true;
    outcomes.orphaned += 1;
    return;
  }
  // What may expire into nothing must not have been forwarded: it is released, or left.
  if (call.released !== "no" || (call.settled === "no" && random.below(4) === 0)) return release();
  if (call.expiresTo === "void") return release();
  call.isForwarded = true;
  return settle();

  async function reserve(): Promise<void> {
    const { pendingId: id, path, amountNanos, timeoutMs, expiresTo } = call;
    const wasAsked = call.reserved !== "no";
    const ask = () =>
      processes.drawLedger().reserve({ id, ...path, amountNanos, timeoutMs, expiresTo });
    // The same request twice at once, as a client that lost patience sends it.
    const asked = random.below(6) === 0 ? [ask(), ask()] : [ask()];
    const answers = await Promise.allSettled(asked);
    if (asked.length > 1) outcomes.repeated += 1;
    let isRefused = false;
    for (const answer of answers) {
      if (answer.status === "rejected") {
        checkFault(answer.reason);
        if (call.reserved === "no") call.reserved = "unknown";
        continue;
      }
      const { outcome } = answer.value;
      assert.notEqual(outcome, "account_not_found");
      if (outcome === "insufficient_funds") {
        isRefused = true;
        continue;
      }
      if (outcome === "already_reserved") assert.ok(wasAsked || asked.length > 1, "reserved once");
      else outcomes.reserved += 1;
      call.reserved = "yes";
    }
    if (call.reserved === "yes") return;
    if (isRefused) outcomes.refused += 1;
    // It gives up: what may have been reserved all the same is left to its expiry.
    if (isRefused || random.below(5) === 0) call.isOver = true;
  }

  async function settleTooEarly(): Promise<void> {
    const { settleId: id, pendingId, costNanos: amountNanos } = call;
    const asked = processes.drawLedger().settle({ id, pendingId, amountNanos });
    const [answer] = await Promise.allSettled([asked]);
    if (answer.status === "rejected") {
      checkFault(answer.reason);
      // It may yet come, after the reservation: the call then costs what it would have.
      call.settled = "unknown";
      call.isForwarded = true;
      call.expiresTo = "post";
      return;
    }
    assert.equal(answer.value.outcome, "reservation_not_found");
    outcomes.tooEarly += 1;
  }

  async function settle(): Promise<void> {
    const { settleId: id, pendingId, costNanos: amountNanos } = call;
    const ask = () => processes.drawLedger().settle({ id, pendingId, amountNanos });
    const asked = random.below(6) === 0 ? [ask(), ask()] : [ask()];
    const wasAsked = call.settled !== "no" || asked.length > 1;
    const answers = await Promise.allSettled(asked);
    for (const answer of answers) {
      if (answer.status === "rejected") {
        checkFault(answer.reason);
        if (call.settled === "no") call.settled = "unknown";
        continue;
      }
      const { outcome } = answer.value;
      assert.ok(
        outcome === "settled" || outcome === "already_resolved" || outcome === "corrected",
        `settle: ${outcome}`,
      );
      if (outcome === "already_resolved") outcomes.repeated += wasAsked ? 1 : 0;
      else outcomes[outcome] += 1;
      call.settled = "yes";
      call.isOver = true;
    }
  }

  async function release(): Promise<void> {
    const { releaseId: id, pendingId } = call;
    const [answer] = await Promise.allSettled([processes.drawLedger().release({ id, pendingId })]);
    if (answer.status === "rejected") {
      checkFault(answer.reason);
      call.released = "unknown";
      return;
    }
    const { outcome } = answer.value;
    assert.ok(
      outcome === "released" || outcome === "already_resolved" || outcome === "corrected",
      `release: ${outcome}`,
    );
    if (outcome !== "already_resolved") outcomes[outcome] += 1;
    call.released = "yes";
    call.isOver = true;
  }
}

/** Only what was done to the process may fail it. */
function checkFault(reason: unknown): undefined {
  for (let at = reason; at instanceof Error; at = at.cause) {
    if (at instanceof Killed || at instanceof ConnectionLost) return undefined;
  }
  throw reason;
}
