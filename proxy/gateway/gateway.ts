/** What the gateway is made of: the ports it needs, what it may be told, what it tells. */
import type { Grant, KeyLimits, Keys } from "../../orchestrator/keys/keys.ts";
import type { BudgetBalance, Ledger } from "../../orchestrator/ledger/ledger.ts";
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { AccountId, Ids, KeyId } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import type { FlowSink } from "../../orchestrator/traffic/sink.ts";
import type { Calls, FinishedCall } from "./calls.ts";
import type { Finisher } from "./finisher.ts";
import type { Exhaustion, KeyStates } from "./key-state.ts";
import type { RateLimits } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import type { ProviderHealth } from "./provider-health.ts";
import type { Recorder } from "./recorder.ts";
import type { Refusal } from "./refusal.ts";
import type { Thresholds } from "./thresholds.ts";
import type { Provider, Upstream } from "./upstream.ts";

/** Told after the fact; what they throw is logged and changes nothing. */
export interface GatewayHooks {
  /** Calls were forwarded, have ended and are settled. */
  onCalls?(ended: readonly FinishedCall[]): void | Promise<void>;
  /** A request with a good key was not forwarded. */
  onRefusal?(refusal: Refusal, grant: Grant, keyId: KeyId): void | Promise<void>;
  /** Once a key: its budget cannot cover a call, and nothing more is forwarded for it. */
  onBudgetExhausted?(grant: Grant, facts: Exhaustion): void | Promise<void>;
  /**
   * The provider of a model serves nothing until then, and nobody else serves it. Told for every
   * call that is refused for it.
   */
  onQuotaExhausted?(
    grant: Grant,
    quota: { provider: string; untilMs: EpochMs },
  ): void | Promise<void>;
  /** The trial's spending passed this percentage of its limit. */
  onThreshold?(grant: Grant, percent: number, balance: BudgetBalance): void | Promise<void>;
}

export interface GatewayDeps {
  keys: Pick<Keys, "find">;
  ledger: Ledger;
  calls: Calls;
  upstream: Upstream;
  /** A provider by name; null when this installation has none such. */
  providers: (name: string) => Provider | null;
  /**
   * Resolves when a provider that is away takes calls, when that was waited for long enough, or
   * when the signal aborts; never rejects.
   */
  untilPresent?: (name: string, grant: Grant, signal: AbortSignal) => Promise<void>;
  /** The budget of the day that now is for the grant's project; asked where it has an allowance. */
  dayAccount: (grant: Grant) => Promise<AccountId | null>;
  /** The token budget of the day; asked where the grant's tokens are rationed by the day. */
  tokenDayAccount?: (grant: Grant) => Promise<AccountId | null>;
  ids: Ids;
  clock: Clock;
  /** The jitter of repeated tries. */
  random: Pick<Random, "below">;
  log: Log;
  /** Where what passes is recorded; absent: nowhere. */
  flows?: Pick<FlowSink, "append" | "isBehind" | "fault" | "bodyBytesMax">;
  /** Whether the grant's project lets nothing pass that is not recorded; absent: none does. */
  isRecordRequired?: (grant: Grant) => Promise<boolean>;
  hooks?: GatewayHooks;
}

export interface GatewayOptions {
  /** The longest request that is read. */
  bodyBytesMax: number;
  /** The longest answer in one piece that is passed on. */
  answerBytesMax: number;
  /** How much of a request and of an answer is kept for the record. */
  recordBytesMax: number;
  /** The longest a call may take; its reservation outlives it by `settleGraceMs`. */
  callTimeoutMs: number;
  settleGraceMs: number;
  callsPerKeyMax: number;
  /** What limits a key whose grant does not say. */
  keyLimits: KeyLimits;
  /** The ceiling of a call whose client names none, and the least that is worth a call. */
  outputTokensDefault: number;
  outputTokensMin: number;
  /** Of an own model's stream: how much output is reserved before it is forwarded. */
  sliceTokens: number;
  /** How long to wait before the providers of a model are asked a second time; with jitter. */
  backoffMs: number;
}

export const GATEWAY_DEFAULTS: GatewayOptions = {
  bodyBytesMax: 8 * 1024 * 1024,
  answerBytesMax: 16 * 1024 * 1024,
  recordBytesMax: 2 * 1024 * 1024,
  callTimeoutMs: 30 * 60_000,
  settleGraceMs: 5 * 60_000,
  callsPerKeyMax: 32,
  keyLimits: {},
  outputTokensDefault: 8_192,
  outputTokensMin: 256,
  sliceTokens: 1_024,
  backoffMs: 500,
};

/** What the parts of one running gateway share. */
export interface GatewayState {
  keys: KeyStates;
  finisher: Finisher;
  recorder: Recorder;
  health: ProviderHealth;
  limits: RateLimits;
  thresholds: Thresholds;
  metrics: Metrics;
  /** Runs a hook; its failure is logged. */
  tell(hook: string, run: () => void | Promise<void> | undefined): void;
  /** Work that outlives its request, waited for at the close; its failure is logged. */
  background(work: Promise<unknown>): void;
}
