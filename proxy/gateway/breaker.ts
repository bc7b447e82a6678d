/**
 * A circuit breaker: after several failures in a row a server is not asked for a while; then one
 * call tries it, and its end decides. Pure but for what it remembers; times are given to it.
 *
 * closed: calls pass; failures in a row are counted, and `failuresMax` of them open it.
 * open: nothing passes until its time is over; each opening in a row lasts twice as long.
 * half open: one call passes and the rest do not; it closes on success, opens again on failure.
 */
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";

export interface BreakerOptions {
  failuresMax: number;
  openMs: number;
  openMaxMs: number;
}

export interface Breaker {
  /** Whether a call may pass now; one that may is told of by `succeeded`, `failed` or `ended`. */
  enter(nowMs: EpochMs): boolean;
  succeeded(): void;
  failed(nowMs: EpochMs): void;
  /** The call that was let in says nothing of the server: its client left, for one. */
  ended(): void;
  /** From when on a call may pass; null when one may now. */
  shutUntilMs(nowMs: EpochMs): EpochMs | null;
}

const TRY_MS = 1_000;

export const BREAKER_DEFAULTS: BreakerOptions = {
  failuresMax: 5,
  openMs: 5_000,
  openMaxMs: 5 * 60_000,
};

export function createBreaker(options: BreakerOptions = BREAKER_DEFAULTS): Breaker {
  let failures = 0;
  /** Openings in a row, without a success between them. */
  let openings = 0;
  let untilMs: EpochMs = 0;
  let isTrying = false;
  return { enter, succeeded, failed, ended, shutUntilMs };

  function enter(nowMs: EpochMs): boolean {
    if (shutUntilMs(nowMs) !== null) return false;
    isTrying = openings > 0;
    return true;
  }

  function shutUntilMs(nowMs: EpochMs): EpochMs | null {
    if (openings === 0) return null;
    if (nowMs < untilMs) return untilMs;
    // Nobody knows how long the try takes: asked again soon.
    return isTrying ? nowMs + TRY_MS : null;
  }

  function succeeded(): void {
    failures = 0;
    openings = 0;
    untilMs = 0;
    isTrying = false;
  }

  function failed(nowMs: EpochMs): void {
    failures++;
    const isTrial = isTrying;
    isTrying = false;
    // Calls that were let in before it opened may fail after that: they open nothing again.
    if (!isTrial && (openings > 0 || failures < options.failuresMax)) return;
    const lastsMs = Math.min(options.openMs * 2 ** openings, options.openMaxMs);
    openings++;
    untilMs = nowMs + lastsMs;
  }

  function ended(): void {
    isTrying = false;
  }
}
