/** A run of the simulated ledger: calls, processes, a reaper and a sealer, from one seed. */
import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { keyIdOf } from "../../orchestrator/journal/chain.ts";
import type { Signer } from "../../orchestrator/ledger/journal.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { type AccountId, createIds } from "../../orchestrator/runtime/ids.ts";
import { type Random, seededRandom } from "../../orchestrator/runtime/random.ts";
import type { TestDatabase } from "../support/database.ts";
import { createTestClock } from "../support/ledger.ts";
import { createCalmDatabase } from "./calm-database.ts";
import type { FateTally } from "./faulty-database.ts";
import { checkCalls, checkTree, type Tree } from "./ledger-books.ts";
import {
  createProcesses,
  drawCall,
  type LedgerWorld,
  type OutcomeTally,
  type Path,
  type SimulatedCall,
  stepCall,
} from "./ledger-world.ts";
import { createTurnstile } from "./turnstile.ts";

export interface RunOptions {
  fates: FateTally;
  outcomes: OutcomeTally;
  /** By how much the clock may be set forward or back, now and then. */
  jumpsMs?: readonly number[];
}

const STEPS = 50;
const PROCESSES = 3;
/** One operation in so many goes wrong. */
const FAULTY_ONE_IN = 2;
const LATER_MS = 7 * 86_400_000;

export const signer: Signer = newSigner();

/** One run: a function of its seed, told in the tallies. */
export async function runSeed(
  database: TestDatabase,
  seed: number,
  { fates, outcomes, jumpsMs = [] }: RunOptions,
): Promise<void> {
  const random = seededRandom(seed);
  const clock = createTestClock();
  const ids = createIds(clock, random);
  const turnstile = createTurnstile(random);
  const faults = { oneIn: FAULTY_ONE_IN, fates };
  const parts = { database: createCalmDatabase(database), random, turnstile, clock, ids, signer };
  const world: LedgerWorld = { ...parts, faults, outcomes };
  const { tree, paths } = await openTree(world, seed);
  const processes = createProcesses(world, PROCESSES);
  const calls: SimulatedCall[] = [];

  for (let step = 0; step < STEPS; step++) {
    if (step < STEPS - 10) calls.push(...draw(random, () => drawCall(world, paths)));
    const going = calls.filter(({ isOver }) => !isOver);
    const chosen = going.filter(() => random.below(3) > 0);
    await Promise.all([
      ...chosen.map((call) => stepCall(world, processes, call)),
      ...(random.below(4) === 0 ? [processes.reap()] : []),
      ...(random.below(4) === 0 ? [processes.seal()] : []),
    ]);
    await checkTree(database, tree);
    clock.ms += random.below(300);
    if (jumpsMs.length > 0 && random.below(6) === 0) {
      clock.ms += jumpsMs[random.below(jumpsMs.length)] ?? 0;
    }
  }
  for (const call of calls) call.isOver = true;
  await turnstile.idle();

  // Wherever the clock was when they were made.
  clock.ms += LATER_MS;
  while ((await processes.reliable.expire(50)) > 0);
  const held = await processes.reliable.balance(tree.leaves[0]?.id as AccountId);
  assert.equal(held?.reservedNanos, 0n, "reserved past its time");
  await checkTree(database, tree);
  outcomes.expired += await checkCalls(database, tree, calls);
}

export function newSigner(): Signer {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const keyId = keyIdOf(publicKey);
  return {
    sign: async (message) => ({
      keyId,
      signature: sign(null, message, privateKey).toString("base64"),
    }),
    publicKey: async () => keyId,
    publicKeys: async () => [keyId],
  };
}

function draw<Value>(random: Random, make: () => Value): Value[] {
  return Array.from({ length: random.below(3) }, make);
}

/** organisation > project > two trials, any of which may be the tightest. */
async function openTree(
  { database, random, clock, ids }: LedgerWorld,
  seed: number,
): Promise<{ tree: Tree; paths: Path[] }> {
  const ledger = createLedger(database, clock);
  const open = (kind: "funding" | "budget" | "spend", name: string) =>
    ledger.open({
      id: ids.next("account"),
      kind,
      owner: `simulated/${seed}/${name}`,
      currency: "CAD",
      mustNotExceed: kind === "budget",
    });
  const funding = await open("funding", "all");
  const budget = async (name: string, atLeast: number) => {
    const id = await open("budget", name);
    const fundedNanos = BigInt(atLeast + random.below(800));
    const transfer = { id: ids.next("transfer"), from: funding, to: id, reason: "test" };
    const { outcome } = await ledger.fund({ ...transfer, amountNanos: fundedNanos });
    assert.equal(outcome, "funded");
    return { id, fundedNanos };
  };
  const around = [await budget("organisation", 500), await budget("project", 400)];
  const leaves = [await budget("trial-1", 200), await budget("trial-2", 200)];
  const spend = await open("spend", "project");
  const within = around.map(({ id }) => id);
  const paths = leaves.map(({ id }) => ({ budget: id, within, spend }));
  return { tree: { around, leaves, spend }, paths };
}
