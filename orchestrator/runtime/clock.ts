/** Time as a dependency: nothing but this file reads the machine's clock. */

/** Milliseconds since 1970-01-01T00:00:00Z. */
export type EpochMs = number;

export interface Clock {
  now(): EpochMs;
}

export const systemClock: Clock = { now: () => Date.now() };

/** Milliseconds since some moment, never set back: for what is measured inside one process. */
export function monotonicMs(): number {
  return performance.now();
}

/** Waits; ends early when `signal` does. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish, { once: true });
    function finish(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    }
  });
}

/** RFC 3339 in UTC with milliseconds, as the wire and the tables have it. */
export function rfc3339(atMs: EpochMs): string {
  return new Date(atMs).toISOString();
}

/** Making one costs a millisecond, and finding where a day begins asks some sixty times. */
const formats = new Map<string, Intl.DateTimeFormat>();

/**
 * The calendar day `atMs` falls on in `timeZone` (an IANA name), as `YYYY-MM-DD`.
 *
 * @throws RangeError for a time zone that does not exist.
 */
export function localDate(atMs: EpochMs, timeZone: string): string {
  let format = formats.get(timeZone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-CA", { timeZone, dateStyle: "short" });
    formats.set(timeZone, format);
  }
  return format.format(atMs);
}
