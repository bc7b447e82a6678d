/**
 * What the gateway remembers of keys while it runs, none of it money: calls that run, and keys
 * whose budget is gone, for which nothing is forwarded any more.
 */
import type { Nanos } from "../../orchestrator/money.ts";
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { AccountId, KeyId } from "../../orchestrator/runtime/ids.ts";
import type { Unit } from "./reservations.ts";

/** `unit`: what the amounts are, nano-units or tokens. */
export interface Exhaustion {
  unit: Unit;
  budget: AccountId;
  requiredNanos: Nanos;
  availableNanos: Nanos;
}

export interface KeyStates {
  /** Counts a call in; false when the key has as many as it may. */
  enter(keyId: KeyId, callsMax?: number): boolean;
  leave(keyId: KeyId): void;
  inFlight(): number;
  /** True the first time. */
  exhaust(keyId: KeyId, facts: Exhaustion): boolean;
  exhaustion(keyId: KeyId): Exhaustion | null;
  /**
   * Whether the ledger is to be asked again, once a second for a key: another process may have
   * topped its budget up, or made a trial's next day.
   */
  isDue(keyId: KeyId): boolean;
  /** Its budget covers calls again. */
  restore(keyId: KeyId): void;
}

/** Old entries give way: their keys were revoked long ago. */
const EXHAUSTED_MAX = 10_000;
const ASK_AGAIN_MS = 1_000;

export function createKeyStates(callsPerKeyMax: number, clock: Clock): KeyStates {
  const running = new Map<KeyId, number>();
  const exhausted = new Map<KeyId, { facts: Exhaustion; askedAtMs: EpochMs }>();
  let total = 0;
  return {
    enter,
    leave,
    inFlight: () => total,
    exhaust,
    exhaustion: (keyId) => exhausted.get(keyId)?.facts ?? null,
    isDue,
    restore: (keyId) => void exhausted.delete(keyId),
  };

  function enter(keyId: KeyId, callsMax = callsPerKeyMax): boolean {
    const count = running.get(keyId) ?? 0;
    if (count >= callsMax) return false;
    running.set(keyId, count + 1);
    total++;
    return true;
  }

  function leave(keyId: KeyId): void {
    const count = running.get(keyId) ?? 0;
    if (count <= 1) running.delete(keyId);
    else running.set(keyId, count - 1);
    total--;
  }

  function exhaust(keyId: KeyId, facts: Exhaustion): boolean {
    if (exhausted.has(keyId)) return false;
    const [oldest] = exhausted.keys();
    if (exhausted.size >= EXHAUSTED_MAX && oldest !== undefined) exhausted.delete(oldest);
    exhausted.set(keyId, { facts, askedAtMs: clock.now() });
    return true;
  }

  function isDue(keyId: KeyId): boolean {
    const entry = exhausted.get(keyId);
    const now = clock.now();
    // A clock that was set back must not put it off.
    if (entry === undefined || Math.abs(now - entry.askedAtMs) < ASK_AGAIN_MS) return false;
    entry.askedAtMs = now;
    return true;
  }
}
