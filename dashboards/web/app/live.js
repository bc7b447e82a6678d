/**
 * The one stream of events of a browser tab. Pages listen to it; it comes back by itself, and says
 * `resync` whenever events may have been missed, so that a page reads again what it shows.
 *
 * A hidden tab lets its stream go after a minute: a browser grants a server six connections in all.
 */
import { useEffect, useState } from "/vendor/htm-preact.js";

/** @typedef {import("../../../orchestrator/contract/events.ts").TrialEvent} TrialEvent */
/** @typedef {"connecting" | "live" | "lost" | "paused"} LiveStatus */

const RETRY_MS = 3_000;
const HIDDEN_MS = 60_000;

/** @type {Set<{ onEvent: (event: TrialEvent) => void, onResync: () => void }>} */
const listeners = new Set();
/** @type {Set<(status: LiveStatus) => void>} */
const watchers = new Set();
/** @type {EventSource | null} */
let source = null;
/** @type {LiveStatus} */
let status = "connecting";
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** Opens the stream; called once, by main.js. */
export function startLive() {
  connect();
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(letGo, HIDDEN_MS);
    else if (source === null) connect();
  });
}

/**
 * Calls `onEvent` with each event of any trial and `onResync` after a gap, while mounted.
 *
 * @param {(event: TrialEvent) => void} onEvent
 * @param {() => void} onResync
 * @param {readonly unknown[]} inputs what the two functions close over
 */
export function useLive(onEvent, onResync, inputs) {
  useEffect(() => {
    const listener = { onEvent, onResync };
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, inputs);
}

/** @returns {LiveStatus} */
export function useLiveStatus() {
  const [shown, setShown] = useState(status);
  useEffect(() => {
    watchers.add(setShown);
    setShown(status);
    return () => watchers.delete(setShown);
  }, []);
  return shown;
}

function connect() {
  clearTimeout(timer);
  const opened = new EventSource("/api/v1/events");
  source = opened;
  opened.addEventListener("open", () => {
    say("live");
    // The first opening too: a page may have read its data before the stream began.
    for (const { onResync } of listeners) onResync();
  });
  opened.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    for (const { onEvent } of listeners) onEvent(event);
  });
  opened.addEventListener("error", () => {
    say("lost");
    if (opened.readyState !== EventSource.CLOSED || source !== opened) return;
    // Refused, not just cut: the browser gives up, so we try again ourselves.
    source = null;
    timer = setTimeout(connect, RETRY_MS);
  });
}

function letGo() {
  source?.close();
  source = null;
  say("paused");
}

/** @param {LiveStatus} next */
function say(next) {
  status = next;
  for (const watcher of watchers) watcher(next);
}
