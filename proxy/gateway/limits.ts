/**
 * How fast a key may be used: requests and tokens a minute, each a bucket that fills with time. Off
 * unless a grant or the installation sets them. Of this process alone: N gateways let N times pass.
 *
 * A request takes one at its start; tokens are taken when they are known, at the end, so the bucket
 * may fall below nothing, and the next request waits until it is above it again.
 */
import type { KeyLimits } from "../../orchestrator/keys/keys.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { KeyId } from "../../orchestrator/runtime/ids.ts";

export interface RateLimits {
  /** 0 when the request may pass, which counts it; else how many milliseconds to wait. */
  enter(keyId: KeyId, limits: KeyLimits, nowMs: EpochMs): number;
  /** What a call has used. */
  used(keyId: KeyId, limits: KeyLimits, tokens: number, nowMs: EpochMs): void;
}

interface Bucket {
  left: number;
  atMs: EpochMs;
}

interface Buckets {
  requests: Bucket | null;
  tokens: Bucket | null;
}

const MINUTE_MS = 60_000;
/** The least recently used gives way: a key that rests for a minute has full buckets anyway. */
const KEYS_MAX = 10_000;

export function createRateLimits(): RateLimits {
  const keys = new Map<KeyId, Buckets>();
  return { enter, used };

  function enter(keyId: KeyId, limits: KeyLimits, nowMs: EpochMs): number {
    if (!isLimited(limits)) return 0;
    const { requests, tokens } = filled(keyId, limits, nowMs);
    const waits = [
      waitOf(requests, 1, limits.requestsPerMinute),
      // Whatever is left above nothing may be begun on.
      waitOf(tokens, Number.MIN_VALUE, limits.tokensPerMinute),
    ];
    const waitMs = Math.max(...waits);
    if (waitMs === 0 && requests !== null) requests.left--;
    return waitMs;
  }

  function used(keyId: KeyId, limits: KeyLimits, used: number, nowMs: EpochMs): void {
    if (limits.tokensPerMinute === undefined) return;
    const { tokens } = filled(keyId, limits, nowMs);
    if (tokens !== null) tokens.left -= used;
  }

  function filled(keyId: KeyId, limits: KeyLimits, nowMs: EpochMs): Buckets {
    const found = keys.get(keyId);
    keys.delete(keyId);
    const buckets: Buckets = {
      requests: fill(found?.requests ?? null, limits.requestsPerMinute, nowMs),
      tokens: fill(found?.tokens ?? null, limits.tokensPerMinute, nowMs),
    };
    keys.set(keyId, buckets);
    const [oldest] = keys.keys();
    if (keys.size > KEYS_MAX && oldest !== undefined) keys.delete(oldest);
    return buckets;
  }
}

function isLimited({ requestsPerMinute, tokensPerMinute }: KeyLimits): boolean {
  return requestsPerMinute !== undefined || tokensPerMinute !== undefined;
}

/** A bucket holds a minute's worth. A clock that goes back adds nothing, and takes nothing. */
function fill(bucket: Bucket | null, perMinute: number | undefined, nowMs: EpochMs): Bucket | null {
  if (perMinute === undefined) return null;
  if (bucket === null) return { left: perMinute, atMs: nowMs };
  const passedMs = Math.max(0, nowMs - bucket.atMs);
  const left = Math.min(perMinute, bucket.left + (passedMs * perMinute) / MINUTE_MS);
  return { left, atMs: nowMs };
}

function waitOf(bucket: Bucket | null, wanted: number, perMinute: number | undefined): number {
  if (bucket === null || perMinute === undefined || bucket.left >= wanted) return 0;
  return Math.max(1, Math.ceil(((wanted - bucket.left) * MINUTE_MS) / perMinute));
}
