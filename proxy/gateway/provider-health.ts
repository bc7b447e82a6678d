/**
 * Which providers may be asked now: a breaker for each, and pauses until the time they name when a
 * quota is used up. Of this process alone: another gateway learns it by its own calls.
 */
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import { type Breaker, createBreaker } from "./breaker.ts";
import type { ExchangeResult } from "./exchange.ts";
import { quotaResetMs } from "./quota.ts";

/** A model of a provider: quotas are of a model, failures of the provider. */
export interface Asked {
  provider: { name: string };
  upstreamName: string;
}

/** What an exchange says of its provider. */
export type Verdict =
  | { kind: "well" }
  | { kind: "failed" }
  /** `untilMs`: null when it does not say. */
  | { kind: "limited"; untilMs: EpochMs | null }
  /** Nothing: its client left, its time was over, or the request itself may be why it failed. */
  | { kind: "unknown" };

export interface Shut {
  why: "failing" | "quota";
  untilMs: EpochMs;
}

export interface ProviderHealth {
  /** Null when it may be asked; changes nothing. */
  shut(asked: Asked, nowMs: EpochMs): Shut | null;
  /** Whether a call goes there now; then `told` follows. */
  enter(asked: Asked, nowMs: EpochMs): boolean;
  told(asked: Asked, verdict: Verdict, nowMs: EpochMs): void;
}

/** Above it a wait is not for a client to sit out. */
export const QUOTA_WAIT_MS = 60_000;
const PAUSES_MAX = 1_000;

export function createProviderHealth(): ProviderHealth {
  const breakers = new Map<string, Breaker>();
  const pauses = new Map<string, EpochMs>();
  return { shut, enter, told };

  function shut(asked: Asked, nowMs: EpochMs): Shut | null {
    const pausedMs = pauses.get(nameOf(asked)) ?? 0;
    if (nowMs < pausedMs) return { why: "quota", untilMs: pausedMs };
    const untilMs = breakerOf(asked).shutUntilMs(nowMs);
    return untilMs === null ? null : { why: "failing", untilMs };
  }

  function enter(asked: Asked, nowMs: EpochMs): boolean {
    if (nowMs < (pauses.get(nameOf(asked)) ?? 0)) return false;
    return breakerOf(asked).enter(nowMs);
  }

  function told(asked: Asked, verdict: Verdict, nowMs: EpochMs): void {
    const breaker = breakerOf(asked);
    switch (verdict.kind) {
      case "well":
        breaker.succeeded();
        break;
      case "failed":
        breaker.failed(nowMs);
        break;
      case "limited":
        // It is there, and answers.
        breaker.succeeded();
        if (verdict.untilMs !== null) pause(asked, verdict.untilMs);
        break;
      case "unknown":
        breaker.ended();
    }
  }

  function pause(asked: Asked, untilMs: EpochMs): void {
    const name = nameOf(asked);
    pauses.delete(name);
    pauses.set(name, untilMs);
    const [oldest] = pauses.keys();
    if (pauses.size > PAUSES_MAX && oldest !== undefined) pauses.delete(oldest);
  }

  function breakerOf({ provider }: Asked): Breaker {
    const breaker = breakers.get(provider.name) ?? createBreaker();
    breakers.set(provider.name, breaker);
    return breaker;
  }
}

/** What a server, or what stands before it, says when it cannot serve anybody. */
const UNAVAILABLE: readonly number[] = [502, 503, 504, 529];

/**
 * Reads off an exchange how its provider is. A worker must not be able to shut a provider for the
 * others by requests of its own making: so a 500, or an answer that broke, is not held against it.
 */
export function judge(result: ExchangeResult, nowMs: EpochMs): Verdict {
  const { status, ending, headers, body } = result;
  if (ending === "client_gone" || ending === "deadline") return { kind: "unknown" };
  if (status === 429) return { kind: "limited", untilMs: quotaResetMs(headers, body, nowMs) };
  if (status === null || UNAVAILABLE.includes(status)) return { kind: "failed" };
  return status >= 500 || ending === "broken" ? { kind: "unknown" } : { kind: "well" };
}

function nameOf({ provider, upstreamName }: Asked): string {
  return `${provider.name} ${upstreamName}`;
}
