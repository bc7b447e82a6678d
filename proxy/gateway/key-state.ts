/**
 * What the gateway remembers of keys while it runs, none of it money: calls that run, and keys
 * whose budget is gone, for which nothing is forwarded any more.
 */
import type { Nanos } from "../../orchestrator/money.ts";
import type { AccountId, KeyId, TrialId } from "../../orchestrator/runtime/ids.ts";
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
  exhaust(keyId: KeyId, trialId: TrialId, facts: Exhaustion): boolean;
  exhaustion(keyId: KeyId): Exhaustion | null;
  resume(trialId: TrialId): void;
}

/** Old entries give way: their keys were revoked long ago. */
const EXHAUSTED_MAX = 10_000;

export function createKeyStates(callsPerKeyMax: number): KeyStates {
  const running = new Map<KeyId, number>();
  const exhausted = new Map<KeyId, Exhaustion & { trialId: TrialId }>();
  let total = 0;
  return {
    enter,
    leave,
    inFlight: () => total,
    exhaust,
    exhaustion: (keyId) => exhausted.get(keyId) ?? null,
    resume,
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

  function exhaust(keyId: KeyId, trialId: TrialId, facts: Exhaustion): boolean {
    if (exhausted.has(keyId)) return false;
    const [oldest] = exhausted.keys();
    if (exhausted.size >= EXHAUSTED_MAX && oldest !== undefined) exhausted.delete(oldest);
    exhausted.set(keyId, { ...facts, trialId });
    return true;
  }

  function resume(trialId: TrialId): void {
    for (const [keyId, { trialId: of }] of exhausted) if (of === trialId) exhausted.delete(keyId);
  }
}
