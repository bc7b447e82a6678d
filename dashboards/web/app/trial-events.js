/** A trial's events: what is stored, then what happens, each once and in order. */
import { useCallback, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { useLive } from "./live.js";

/** @typedef {import("./live.js").TrialEvent} TrialEvent */

const PAGE = 500;

/**
 * The tab's one stream brings what happens; what came before, and what a gap swallowed, is read
 * page by page after the last event that was read in order.
 *
 * @param {string} id
 */
export function useTrialEvents(id) {
  const [shown, setShown] = useState({
    events: /** @type {TrialEvent[]} */ ([]),
    error: /** @type {Error | null} */ (null),
    isLoaded: false,
  });
  const bySeq = useRef(/** @type {Map<number, TrialEvent>} */ (new Map()));
  const readTo = useRef(0);
  const running = useRef(/** @type {AbortController | null} */ (null));

  const show = useCallback((/** @type {Error | null} */ error, /** @type {boolean} */ isLoaded) => {
    const events = [...bySeq.current.values()].sort((a, b) => a.seq - b.seq);
    setShown((before) => ({ events, error, isLoaded: before.isLoaded || isLoaded }));
  }, []);

  const read = useCallback(async () => {
    running.current?.abort();
    const controller = new AbortController();
    running.current = controller;
    try {
      for (let isMore = true; isMore; ) {
        const after = query({ after_seq: readTo.current, limit: PAGE });
        const page = await getJson(
          `/trials/${encodeURIComponent(id)}/events${after}`,
          controller.signal,
        );
        for (const event of page.events) bySeq.current.set(event.seq, event);
        readTo.current = page.next_after_seq;
        isMore = page.events.length === PAGE;
        show(null, !isMore);
      }
    } catch (error) {
      if (!controller.signal.aborted) show(/** @type {Error} */ (error), true);
    }
  }, [id]);

  useEffect(() => {
    bySeq.current = new Map();
    readTo.current = 0;
    setShown({ events: [], error: null, isLoaded: false });
    void read();
    return () => running.current?.abort();
  }, [read]);

  useLive(
    (event) => {
      if (event.trial_id !== id) return;
      bySeq.current.set(event.seq, event);
      show(null, false);
    },
    () => void read(),
    [id, read],
  );
  return { ...shown, reload: read };
}
