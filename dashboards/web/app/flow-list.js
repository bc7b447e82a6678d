/**
 * The flows that fit a filter, the newest first: read by pages, and joined by what is stored from
 * then on. A hidden tab lets its stream go after a minute, and reads again when it is shown.
 */
import { useCallback, useEffect, useRef, useState } from "/vendor/htm-preact.js";
import { getJson, query } from "./api.js";
import { useLoad } from "./loading.js";

/** @typedef {import("../../../orchestrator/contract/flows.ts").FlowSummary} FlowSummary */

const PAGE = 100;
/** A page that is left open does not grow for ever. */
const ROWS_MAX = 2_000;
const BATCH_MS = 250;
const HIDDEN_MS = 60_000;
const RETRY_MS = 3_000;

/** @param {Record<string, string>} filter */
export function useFlows(filter) {
  const asked = query(filter);
  const list = useLoad(
    async (signal) => {
      const page = await getJson(`/flows${query({ ...filter, limit: PAGE })}`, signal);
      return { flows: /** @type {FlowSummary[]} */ (page.flows), cursor: page.next_cursor };
    },
    [asked],
  );
  const isLive = useStream(asked, list);
  const more = useCallback(async () => {
    const cursor = list.data?.cursor;
    const page = await getJson(`/flows${query({ ...filter, limit: PAGE, cursor })}`);
    list.setData((data) => ({
      flows: joined(data.flows, page.flows),
      cursor: page.next_cursor,
    }));
  }, [list.data?.cursor, asked]);
  return { list, more, isLive };
}

/**
 * @param {string} asked
 * @param {Pick<ReturnType<typeof useLoad>, "setData" | "reload">} list
 */
function useStream(asked, { setData, reload }) {
  const [isLive, setLive] = useState(false);
  const waiting = useRef(/** @type {FlowSummary[]} */ ([]));
  useEffect(() => {
    /** @type {EventSource | null} */
    let source = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let batch;
    const show = () => {
      batch = undefined;
      const fresh = waiting.current.splice(0);
      setData((data) => ({ ...data, flows: joined(fresh, data.flows).slice(0, ROWS_MAX) }));
    };
    const open = () => {
      clearTimeout(timer);
      const opened = new EventSource(`/api/v1/flows/live${asked}`);
      source = opened;
      opened.addEventListener("open", () => {
        setLive(true);
        void reload();
      });
      opened.addEventListener("message", ({ data }) => {
        waiting.current.push(JSON.parse(data));
        batch ??= setTimeout(show, BATCH_MS);
      });
      opened.addEventListener("error", () => {
        setLive(false);
        if (opened.readyState !== EventSource.CLOSED || source !== opened) return;
        source = null;
        timer = setTimeout(open, RETRY_MS);
      });
    };
    const close = () => {
      source?.close();
      source = null;
      setLive(false);
    };
    const look = () => {
      clearTimeout(timer);
      if (document.hidden) timer = setTimeout(close, HIDDEN_MS);
      else if (source === null) open();
    };
    open();
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      clearTimeout(timer);
      clearTimeout(batch);
      waiting.current.length = 0;
      close();
    };
  }, [asked, setData, reload]);
  return isLive;
}

/**
 * Each flow once, the newest first; what stands first wins.
 *
 * @param {readonly FlowSummary[]} first
 * @param {readonly FlowSummary[]} second
 */
function joined(first, second) {
  const byId = new Map([...second, ...first].map((flow) => [flow.id, flow]));
  return [...byId.values()].sort((a, b) => {
    const order = Date.parse(b.started_at) - Date.parse(a.started_at);
    return order === 0 ? (a.id < b.id ? 1 : -1) : order;
  });
}
