/**
 * What the agent's terminal showed: live while it runs, a replay after. Escape codes reach only
 * the player, which is loaded when a terminal is first looked at.
 */
import { html, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { Empty, Failure, Skeleton } from "./parts.js";
import { createTerminalFeed, liveDriver, recordingText } from "./terminal-feed.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */

const PLAYER_OPTIONS = {
  fit: "width",
  idleTimeLimit: 2,
  terminalFontFamily:
    "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, monospace",
};

/** @param {{ trial: Trial }} props */
export function TerminalView({ trial }) {
  const feed = useFeed(trial.id);
  const [isReplay, setReplay] = useState(false);
  if (feed.error) return html`<${Failure} error=${feed.error} onRetry=${feed.reopen} />`;
  if (!feed.hasHeader) {
    if (feed.isEnded) return html`<${Empty} title="No terminal was recorded" />`;
    if (!isActive(trial)) return html`<${Skeleton} lines=${6} label="Loading the recording" />`;
    return html`<${Empty} title="The terminal has shown nothing yet">
      <p>It appears here as soon as the agent is started.</p>
    <//>`;
  }
  const isLive = !feed.isEnded && !isReplay;
  return html`<div class="terminal-box">
    <div class="terminal-head">
      <span class=${`state ${isLive ? "busy" : "idle"}`}><span class="dot"></span>${isLive ? "live" : "recording"}</span>
      ${
        feed.wasLive &&
        html`<button type="button" class="button quiet" onClick=${() => setReplay(!isReplay)}>
          ${isReplay ? "Back to the end" : "Replay from the start"}
        </button>`
      }
    </div>
    ${
      feed.wasLive && !isReplay
        ? html`<${Player} key="live" source=${liveDriver(feed.feed)} options=${LIVE_OPTIONS} />`
        : html`<${Player} key="replay" source=${{ data: recordingText(feed.feed) }} options=${REPLAY_OPTIONS} />`
    }
  </div>`;
}

const LIVE_OPTIONS = { ...PLAYER_OPTIONS, autoPlay: true, controls: false };
const REPLAY_OPTIONS = { ...PLAYER_OPTIONS, preload: true, poster: "npt:999:00", controls: true };

/** The trial's recording as it arrives. @param {string} id */
function useFeed(id) {
  const [opened, setOpened] = useState(0);
  const [state, setState] = useState({
    feed: /** @type {ReturnType<typeof createTerminalFeed> | null} */ (null),
    hasHeader: false,
    isEnded: false,
    wasLive: false,
    error: /** @type {Error | null} */ (null),
  });
  useEffect(() => {
    const feed = createTerminalFeed(`/api/v1/trials/${encodeURIComponent(id)}/terminal`);
    setState({ feed, hasHeader: false, isEnded: false, wasLive: false, error: null });
    // A recording that has ended arrives at once: only one that goes on is shown live.
    const liveTimer = setTimeout(() => {
      setState((before) => ({
        ...before,
        hasHeader: feed.lines.length > 0,
        wasLive: !feed.isEnded,
      }));
    }, LIVE_AFTER_MS);
    const stop = feed.listen({
      onLine: () =>
        setState((before) =>
          before.hasHeader || !before.wasLive ? before : { ...before, hasHeader: true },
        ),
      onRestart: () => setState((before) => ({ ...before, hasHeader: false })),
      onEnd: () =>
        setState((before) => ({ ...before, isEnded: true, hasHeader: feed.lines.length > 0 })),
      onError: (error) => setState((before) => ({ ...before, error })),
    });
    return () => {
      clearTimeout(liveTimer);
      stop();
      feed.close();
    };
  }, [id, opened]);
  return { ...state, reopen: () => setOpened(opened + 1) };
}

const LIVE_AFTER_MS = 400;

/** @param {{ source: unknown, options: Record<string, unknown> }} props */
function Player({ source, options }) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  useEffect(() => {
    /** @type {{ dispose: () => void } | null} */
    let player = null;
    let isGone = false;
    loadPlayer().then(
      (create) => {
        if (!isGone && box.current !== null) player = create(source, box.current, options);
      },
      (caught) => setError(caught),
    );
    return () => {
      isGone = true;
      player?.dispose();
    };
  }, []);
  if (error) return html`<${Failure} error=${error} />`;
  return html`<div class="terminal" ref=${box}></div>`;
}

/** @type {Promise<(source: unknown, box: HTMLElement, options: unknown) => { dispose: () => void }> | null} */
let loading = null;

function loadPlayer() {
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = "/vendor/asciinema-player.css";
    const script = document.createElement("script");
    script.src = "/vendor/asciinema-player.js";
    script.addEventListener("load", () => resolve(globalThis.AsciinemaPlayer.create));
    script.addEventListener("error", () => {
      loading = null;
      reject(new Error("The terminal player could not be loaded"));
    });
    document.head.append(style, script);
  });
  return loading;
}
