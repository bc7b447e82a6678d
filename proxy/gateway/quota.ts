/**
 * When a provider says it may be asked again: by its headers, or by the text of its error. Pure.
 *
 * A wait of seconds is a rate limit, which clients sit out by themselves; one of minutes and more
 * is a quota that is used up, and whoever waits for it should do something else.
 */
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { ResponseHeaders } from "./exchange.ts";

/** Nobody waits longer: past this it is a mistake of who says so, or of our reading. */
const WAIT_MAX_MS = 7 * 24 * 3_600_000;
const TEXT_BYTES_MAX = 4_096;
const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 24 * 3_600_000,
};

/** Null when the answer does not say, or says a time that is over. */
export function quotaResetMs(
  headers: ResponseHeaders,
  body: Buffer,
  nowMs: EpochMs,
): EpochMs | null {
  const said = [
    ...retryAfter(headers, nowMs),
    ...exhausted(headers, "anthropic-ratelimit-", nowMs),
    ...exhausted(headers, "x-ratelimit-", nowMs),
  ];
  // Several limits may be passed at once: the last one to end decides.
  const latest = said.length > 0 ? Math.max(...said) : inText(body, nowMs);
  if (latest === null || latest <= nowMs) return null;
  return Math.min(latest, nowMs + WAIT_MAX_MS);
}

function retryAfter(headers: ResponseHeaders, nowMs: EpochMs): EpochMs[] {
  const ms = one(headers["retry-after-ms"]);
  if (ms !== null && /^\d{1,12}(\.\d+)?$/.test(ms)) return [nowMs + Number(ms)];
  return moment(one(headers["retry-after"]), nowMs);
}

/** The resets of limits of which nothing remains: `<prefix>requests-reset`, `-reset-requests`. */
function exhausted(headers: ResponseHeaders, prefix: string, nowMs: EpochMs): EpochMs[] {
  return Object.keys(headers).flatMap((name) => {
    if (!name.startsWith(prefix) || !name.includes("reset")) return [];
    const remaining = one(headers[name.replace("reset", "remaining")]);
    // What remains above nothing is not the limit that was passed.
    if (remaining !== null && Number(remaining) > 0) return [];
    return moment(one(headers[name]), nowMs);
  });
}

/** Seconds, a date, or a duration such as `6m0s` or `250ms`. */
function moment(text: string | null, nowMs: EpochMs): EpochMs[] {
  if (text === null) return [];
  const trimmed = text.trim();
  if (/^\d{1,12}(\.\d+)?$/.test(trimmed)) {
    const seconds = Number(trimmed);
    // Some send the time itself, in seconds since 1970.
    return [seconds > 1e9 ? seconds * 1_000 : nowMs + seconds * 1_000];
  }
  const lasts = duration(trimmed);
  if (lasts !== null) return [nowMs + lasts];
  const at = /^(\d{4}-\d\d-\d\dT|[A-Z][a-z]{2}, )/.test(trimmed) ? Date.parse(trimmed) : Number.NaN;
  return Number.isNaN(at) ? [] : [at];
}

function duration(text: string): number | null {
  if (!/^(\d{1,9}(\.\d+)?(ms|[smhd]))+$/.test(text)) return null;
  let sum = 0;
  for (const [, count, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)) {
    sum += Number(count) * (UNIT_MS[unit] ?? 0);
  }
  return sum;
}

/** "try again in 6m0s", "Please retry in 2 hours", "limit resets at 2026-11-21T18:00:00Z". */
function inText(body: Buffer, nowMs: EpochMs): EpochMs | null {
  const text = body.toString("utf8", 0, TEXT_BYTES_MAX);
  const at =
    /\b(?:reset|retry|again|until|after|available)\w*[^"\n]{0,40}?(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))/i.exec(
      text,
    )?.[1];
  if (at !== undefined) return Date.parse(at);
  const epoch = /\|(\d{10})\b/.exec(text)?.[1] ?? /"resets?_at"\s*:\s*(\d{10})\b/.exec(text)?.[1];
  if (epoch !== undefined) return Number(epoch) * 1_000;
  const lasts =
    /\b(?:retry|again|resets?|wait)\w*(?: in| after| for)? ((?:\d{1,6}(?:\.\d+)?(?:ms|[smhd]))+)\b/i.exec(
      text,
    )?.[1];
  if (lasts !== undefined) return nowMs + (duration(lasts) ?? 0);
  const words =
    /\b(?:retry|again|resets?|wait)\w*(?: in| after| for)? (\d{1,6}(?:\.\d+)?) ?(second|minute|hour|day)s?\b/i.exec(
      text,
    );
  const unit = words?.[2]?.[0]?.toLowerCase();
  if (words === null || unit === undefined) return null;
  return nowMs + Number(words[1]) * (UNIT_MS[unit] ?? 0);
}

function one(value: string | string[] | undefined): string | null {
  const first = Array.isArray(value) ? value[0] : value;
  return first === undefined || first.length > 100 ? null : first;
}
