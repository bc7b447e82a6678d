/** A recording (asciicast, a line an event) read from the server's stream, kept for replays. */

/**
 * @typedef {object} FeedListener
 * @property {(line: string) => void} [onLine]
 * @property {() => void} [onRestart] another recording follows, from its header
 * @property {() => void} [onEnd] the last line has come
 * @property {(error: Error) => void} [onError] the stream was refused
 */

/**
 * Opens the stream at `url`; it reconnects by itself until it ends or is closed.
 *
 * @param {string} url
 */
export function createTerminalFeed(url) {
  /** @type {string[]} */
  const lines = [];
  /** @type {Set<FeedListener>} */
  const listeners = new Set();
  const source = new EventSource(url);
  const feed = { lines, isEnded: false, listen, close: () => source.close() };

  source.addEventListener("message", ({ data }) => {
    lines.push(data);
    for (const listener of listeners) listener.onLine?.(data);
  });
  source.addEventListener("restart", () => {
    lines.length = 0;
    for (const listener of listeners) listener.onRestart?.();
  });
  source.addEventListener("end", () => {
    feed.isEnded = true;
    source.close();
    for (const listener of listeners) listener.onEnd?.();
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return;
    const error = new Error("The terminal’s recording cannot be read from the server");
    for (const listener of listeners) listener.onError?.(error);
  });
  return feed;

  /** @param {FeedListener} listener @returns {() => void} ends it */
  function listen(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }
}

/**
 * A driver of asciinema-player that shows each line at once: what has passed appears as the
 * screen it left, what happens as it happens.
 *
 * @param {ReturnType<typeof createTerminalFeed>} feed
 */
export function liveDriver(feed) {
  return (/** @type {{ dispatch: (name: string, data?: unknown) => void }} */ { dispatch }) => {
    let stop = () => {};
    return {
      init: () => ({}),
      play() {
        dispatch("play");
        for (const line of feed.lines) show(line);
        stop = feed.listen({
          onLine: show,
          onEnd: () => dispatch("ended"),
        });
        return true;
      },
      stop: () => stop(),
      getCurrentTime: () => undefined,
    };

    /** @param {string} line */
    function show(line) {
      const parsed = parseLine(line);
      if (Array.isArray(parsed)) {
        if (parsed[1] === "o") dispatch("output", String(parsed[2]));
        else if (parsed[1] === "r") dispatch("resize", sizeOf(String(parsed[2])));
        return;
      }
      const cols = Number(parsed?.cols ?? parsed?.width);
      const rows = Number(parsed?.rows ?? parsed?.height);
      if (!(cols > 0 && rows > 0)) return;
      dispatch("reset", { size: { cols, rows } });
      dispatch("playing");
    }
  };
}

/**
 * The whole recording as a file, without a last line that was cut.
 *
 * @param {{ lines: string[] }} feed
 */
export function recordingText({ lines }) {
  return `${lines.filter((line) => parseLine(line) !== null).join("\n")}\n`;
}

/** @param {string} line */
function parseLine(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

/** "80x24" @param {string} text */
function sizeOf(text) {
  const [cols, rows] = text.split("x").map(Number);
  return { cols, rows };
}
