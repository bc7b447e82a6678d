/**
 * Virtual keys: what a worker pays with. A key is worth nothing outside its trial; only its
 * SHA-256 is stored, and the secret is shown once, to the allocation that uses it.
 */
import type { Side, Wire } from "../contract/agents.ts";
import type { AccountId, KeyId, ProjectId, TrialId } from "../runtime/ids.ts";

/** What a million tokens cost, in nano-units. Text, since it is stored as JSON. */
export interface TokenPrices {
  inputNanosPerMillion: string;
  cacheReadNanosPerMillion: string;
  cacheWriteNanosPerMillion: string;
  /** Of what a cache keeps for an hour. Absent in keys made before it was a price of its own. */
  longCacheWriteNanosPerMillion?: string;
  outputNanosPerMillion: string;
}

/** The price a call is charged by (models/rates.ts computes with it); every amount is text. */
export interface PriceSnapshot extends TokenPrices {
  /** Which row of which book: "scripted-normal@2026-01-01". */
  version: string;
  currency: string;
  /** Ascending. A call is charged at the last one its whole input is above, every token of it. */
  tiers?: readonly PriceTier[];
  /** Of models on own GPUs: what their time is counted by. */
  gpu?: GpuTime;
}

export interface PriceTier extends TokenPrices {
  aboveInputTokens: number;
}

/** GPU-milliseconds (time, times GPUs) for a million tokens. */
export interface GpuTime {
  inputMsPerMillion: string;
  cacheReadMsPerMillion: string;
  outputMsPerMillion: string;
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
  /** Who is asked, in this order, when `provider` cannot answer; absent in older keys. */
  fallbacks?: readonly FallbackProvider[];
}

/** Another server of the model, at a price of its own. It speaks the wires of its model's agent. */
export interface FallbackProvider {
  provider: string;
  upstreamName: string;
  price: PriceSnapshot;
}

/** A token budget beside the money: its accounts are of the unit TOK, amounts are whole tokens. */
export interface TokenGrant {
  budget: AccountId;
  /** Enclosing budgets, outermost first; the day's is added at the call. */
  within: readonly AccountId[];
  spend: AccountId;
}

/** How fast a key may be used; what is absent is not limited (each gateway counts for itself). */
export interface KeyLimits {
  requestsPerMinute?: number;
  tokensPerMinute?: number;
  callsAtOnce?: number;
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
  /** Absent where the project rations no tokens: then money alone limits a call. */
  tokens?: TokenGrant;
  limits?: KeyLimits;
}

export type KeyLookup =
  | { outcome: "granted"; keyId: KeyId; grant: Grant }
  | { outcome: "unknown" }
  | { outcome: "expired" }
  | { outcome: "revoked" };

export interface Keys {
  /**
   * Makes the trial's key, revoking the ones it had. Returns the secret, which is not stored.
   *
   * @param fence of the allocation that the key is for. @throws Problem `fenced` once the trial has
   * another.
   */
  issue(
    grant: Grant,
    expiresAtMs: number,
    fence?: number,
  ): Promise<{ keyId: KeyId; secret: string }>;
  /** Looks a secret up by its hash, so that no comparison of secrets takes place. */
  find(secret: string): Promise<KeyLookup>;
  /** Revokes every key of the trial, unless it is past `fence`, if given. Idempotent. */
  revokeAll(trialId: TrialId, fence?: number): Promise<void>;
}
