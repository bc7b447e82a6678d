/**
 * The server's time, so that a browser whose clock is off still counts a running trial's seconds
 * right: the `Date` of the newest answer and what the page's own steady clock measured since.
 */
import { useEffect, useState } from "/vendor/htm-preact.js";

let serverMs = 0;
let heardAtMs = 0;

/** @param {string | null} dateHeader of an answer that has just arrived */
export function heardFromServer(dateHeader) {
  const ms = Date.parse(dateHeader ?? "");
  if (Number.isNaN(ms)) return;
  // The header is cut to a second, so only a later one, or one far behind, says something new.
  const behindMs = serverNow() - ms;
  if (serverMs !== 0 && behindMs >= 0 && behindMs < 2_000) return;
  serverMs = ms;
  heardAtMs = performance.now();
}

/** Milliseconds since 1970 as the server counts them. */
export function serverNow() {
  return serverMs + (performance.now() - heardAtMs);
}

/**
 * The server's time, rendering again each second while `isRunning`.
 *
 * @param {boolean} isRunning
 */
export function useServerNow(isRunning) {
  const [, setTick] = useState(0);
  useEffect(() => {
    if (!isRunning) return;
    const timer = setInterval(() => setTick((tick) => tick + 1), 1_000);
    return () => clearInterval(timer);
  }, [isRunning]);
  return serverNow();
}
