/**
 * Asks the providers of a model one after the other, until one answers: as long as nothing has
 * reached the client, another may be asked. Bounded in tries and in time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { PriceRates } from "../../models/rates.ts";
import type { PriceSnapshot } from "../../orchestrator/keys/keys.ts";
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import type { ExchangeResult } from "./exchange.ts";
import { judge, type ProviderHealth, QUOTA_WAIT_MS } from "./provider-health.ts";
import type { Provider } from "./upstream.ts";

/** A provider that serves the model of a call, at its own price. */
export interface Candidate {
  provider: Provider;
  upstreamName: string;
  price: PriceSnapshot;
  rates: PriceRates;
}

/** A try that did not answer the call, for its record. */
export interface Attempt {
  provider: string;
  /** Null when no head came. */
  status: number | null;
  error: string | null;
}

export interface Attempted {
  result: ExchangeResult;
  /** Who gave it. */
  candidate: Candidate;
  /** The tries before it. */
  attempts: Attempt[];
  /** Until when its provider will refuse, where it said so. */
  limitedUntilMs: EpochMs | null;
}

export interface AttemptDeps {
  health: ProviderHealth;
  clock: Clock;
  random: Pick<Random, "below">;
}

/** In all: with one provider a call is tried once, since every client tries again by itself. */
const ATTEMPTS_MAX = 4;
const ERROR_LENGTH_MAX = 200;

/**
 * @param candidates in the order in which they are to be asked; at least one.
 * @param backoffMs how long to wait, with jitter, before the same ones are asked again.
 * @param run one exchange, within so many milliseconds.
 */
export async function attemptCall(
  { health, clock, random }: AttemptDeps,
  candidates: readonly Candidate[],
  { timeoutMs, backoffMs, isGone }: { timeoutMs: number; backoffMs: number; isGone(): boolean },
  run: (candidate: Candidate, deadlineMs: number) => Promise<ExchangeResult>,
): Promise<Attempted> {
  const untilMs = clock.now() + timeoutMs;
  const tried: Attempt[] = [];
  let last: Omit<Attempted, "attempts"> | null = null;
  for (let round = 0; ; round++) {
    if (round > 0) await sleep(backoffMs * 2 ** (round - 1) * (0.5 + random.below(501) / 1_000));
    for (const candidate of candidates) {
      if (last !== null && isGone()) break;
      // The last one is asked though it is shut, when all are: another call has just shut them.
      const isNeeded: boolean = last === null && candidate === candidates.at(-1);
      if (!health.enter(candidate, clock.now()) && !isNeeded) continue;
      last = await attempt(candidate);
      const { status, error } = last.result;
      const told = error?.slice(0, ERROR_LENGTH_MAX) ?? null;
      tried.push({ provider: candidate.provider.name, status, error: told });
      if (!isRetryable(last.result) || tried.length >= ATTEMPTS_MAX) break;
    }
    const isEnd = round > 0 || candidates.length === 1 || tried.length >= ATTEMPTS_MAX;
    if (last !== null && (isEnd || isGone() || !isRetryable(last.result))) {
      return { ...last, attempts: tried.slice(0, -1) };
    }
  }

  async function attempt(candidate: Candidate): Promise<Omit<Attempted, "attempts">> {
    const result = await run(candidate, Math.max(1, untilMs - clock.now())).catch((error) => {
      // A try that began must be told of, or a breaker on trial would wait for it for ever.
      health.told(candidate, { kind: "unknown" }, clock.now());
      throw error;
    });
    const nowMs = clock.now();
    const verdict = judge(result, nowMs);
    const limitedUntilMs = verdict.kind === "limited" ? verdict.untilMs : null;
    // With nobody else to ask, a short wait is the client's to sit out, and no pause.
    const isShort = limitedUntilMs !== null && limitedUntilMs - nowMs < QUOTA_WAIT_MS;
    const isPassed = candidates.length === 1 && isShort;
    health.told(candidate, isPassed ? { kind: "well" } : verdict, nowMs);
    return { result, candidate, limitedUntilMs };
  }
}

/** Nothing has been made of the call yet, and somebody else may make it. */
function isRetryable({ status, ending, isStreamed }: ExchangeResult): boolean {
  if (isStreamed || ending === "client_gone" || ending === "deadline") return false;
  return status === null || status === 429 || status >= 500;
}
