/**
 * What the agent's terminal showed: live while it runs, a replay after. Escape codes reach only
 * the player, which is loaded when a terminal is first looked at.
 */
import { html, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { loadScript, loadStyle } from "./assets.js";
import { Empty, Failure, Skeleton } from "./parts.js";
import { createTerminalFeed, liveDriver, recordingText } from "./terminal-feed.js";
import { isActive } from "./trial-facts.js";

/** @typedef {import("./trial-facts.js").Trial} Trial */

const NOT_OPENED = {
  feed: /** @type {ReturnType<typeof createTerminalFeed> | null} */ (null),
  hasHeader: false,
  isEnded: false,
  error: /** @type {Error | null} */ (null),
};
const PLAYER_OPTIONS = {
  fit: "width",
  idleTimeLimit: 2,
  terminalFontFamily:
    "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, monospace",
};

const LIVE_OPTIONS = { ...PLAYER_OPTIONS, autoPlay: true, controls: false };
/** A replay waits at its last screen. */
const REPLAY_OPTIONS = { ...PLAYER_OPTIONS, preload: true, poster: "npt:999:00", controls: true };

/** @param {{ trial: Trial }} props */
export function TerminalView({ trial }) {
  const isLive = isActive(trial);
  const { feed, hasHeader, isEnded, error, reopen } = useFeed(trial.id, isLive);
  const [isReplay, setReplay] = useState(false);
  if (error) return html`<${Failure} error=${error} onRetry=${reopen} />`;
  if (feed === null || (!isLive && !isEnded)) {
    return html`<${Skeleton} lines=${6} label="Loading the recording" />`;
  }
  if (!hasHeader && !isLive) return html`<${Empty} title="No terminal was recorded" />`;
  if (!hasHeader) {
    return html`<${Empty} title="The terminal has shown nothing yet">
      <p>It appears here as soon as the agent is started.</p>
    <//>`;
  }
  const isShownLive = isLive && !isReplay;
  return html`<div class="terminal-box">
    <div class="terminal-head">
      <span class=${`state ${isShownLive ? "busy" : "idle"}`}><span class="dot">
        </span>${isShownLive ? "live" : "recording"}</span>
      ${
        isLive &&
        html`<button type="button" class="button quiet" onClick=${() => setReplay(!isReplay)}>
          ${isReplay ? "Back to live" : "Replay from the start"}
        </button>`
      }
    </div>
    ${
      isShownLive
        ? html`<${Player} key="live" source=${liveDriver(feed)} options=${LIVE_OPTIONS} />`
        : html`<${Player} key="replay" source=${{ data: recordingText(feed) }}
          options=${REPLAY_OPTIONS} />`
    }
  </div>`;
}

/**
 * The trial's recording as it arrives; read anew when the trial begins or ceases to be live.
 *
 * @param {string} id
 * @param {boolean} isLive
 */
function useFeed(id, isLive) {
  const [opened, setOpened] = useState(0);
  const [state, setState] = useState(NOT_OPENED);
  useEffect(() => {
    const feed = createTerminalFeed(`/api/v1/trials/${encodeURIComponent(id)}/terminal`);
    setState({ ...NOT_OPENED, feed });
    const stop = feed.listen({
      onLine: () =>
        setState((before) => (before.hasHeader ? before : { ...before, hasHeader: true })),
      onRestart: () => setState((before) => ({ ...before, hasHeader: false })),
      onEnd: () => setState((before) => ({ ...before, isEnded: true })),
      onError: (error) => setState((before) => ({ ...before, error })),
    });
    return () => {
      stop();
      feed.close();
    };
  }, [id, isLive, opened]);
  return { ...state, reopen: () => setOpened(opened + 1) };
}

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
  return html`<div class="scroll-x"><div class="terminal" ref=${box}></div></div>`;
}

/** The player's `create`. */
async function loadPlayer() {
  await Promise.all([
    loadStyle("/vendor/asciinema-player.css"),
    loadScript("/vendor/asciinema-player.js"),
  ]);
  return globalThis.AsciinemaPlayer.create;
}
