/**
 * Virtual keys: what a worker pays with. A key is worth nothing outside its trial; only its
 * SHA-256 is stored, and the secret is shown once, to the allocation that uses it.
 */
import type { Side, Wire } from "../contract/agents.ts";
import type { AccountId, KeyId, ProjectId, TrialId } from "../runtime/ids.ts";

/** Prices in nano-units of the currency for a million tokens. Text, since it is stored as JSON. */
export interface PriceSnapshot {
  /** Which row of which book: "scripted-normal@2026-01-01". */
  version: string;
  currency: string;
  inputNanosPerMillion: string;
  cacheReadNanosPerMillion: string;
  cacheWriteNanosPerMillion: string;
  outputNanosPerMillion: string;
}

export interface GrantedModel {
  side: Side;
  /** The name the agent is told, and the name its provider knows it by. */
  name: string;
  upstreamName: string;
  /** A provider of the installation; its address and credential stay with the gateway. */
  provider: string;
  wires: readonly Wire[];
  contextTokens: number;
  maxOutputTokens: number;
  price: PriceSnapshot;
}

/** What a key may do. */
export interface Grant {
  trialId: TrialId;
  projectId: ProjectId;
  currency: string;
  /** Enclosing budgets of every call, outermost first; the day's budget is added at the call. */
  enclosing: readonly AccountId[];
  budget: AccountId;
  spend: AccountId;
  models: readonly GrantedModel[];
  /** The refusal status at which this key's agent stops (AgentFacts.budget_stop_status). */
  budgetStopStatus: number;
  hasDailyAllowance: boolean;
}

export type KeyLookup =
  | { outcome: "granted"; keyId: KeyId; grant: Grant }
  | { outcome: "unknown" }
  | { outcome: "expired" }
  | { outcome: "revoked" };

export interface Keys {
  /** Makes the trial's key, revoking the ones it had. Returns the secret, which is not stored. */
  issue(grant: Grant, expiresAtMs: number): Promise<{ keyId: KeyId; secret: string }>;
  /** Looks a secret up by its hash, so that no comparison of secrets takes place. */
  find(secret: string): Promise<KeyLookup>;
  /** Revokes every key of the trial. Idempotent. */
  revokeAll(trialId: TrialId): Promise<void>;
}
