/** Reading from the API within a component. */
import { useCallback, useEffect, useRef, useState } from "/vendor/htm-preact.js";

/**
 * What `load` answers. Read again when `inputs` change or `reload` is called; the former data stay
 * until then, unless the inputs changed. A failed re-read keeps the data and tells its error.
 *
 * @template Data
 * @param {(signal: AbortSignal) => Promise<Data>} load
 * @param {readonly unknown[]} inputs
 */
export function useLoad(load, inputs) {
  const [state, setState] = useState(
    /** @type {{ data: Data | null, error: Error | null, isLoading: boolean }} */ ({
      data: null,
      error: null,
      isLoading: true,
    }),
  );
  const current = useRef(/** @type {AbortController | null} */ (null));
  const isAskedAgain = useRef(false);

  const read = useCallback(async () => {
    current.current?.abort();
    const controller = new AbortController();
    current.current = controller;
    isAskedAgain.current = false;
    try {
      const data = await load(controller.signal);
      if (!controller.signal.aborted) setState({ data, error: null, isLoading: false });
    } catch (error) {
      if (controller.signal.aborted) return;
      setState((before) => ({ ...before, error: /** @type {Error} */ (error), isLoading: false }));
    }
    if (controller.signal.aborted) return;
    current.current = null;
    if (isAskedAgain.current) await read();
  }, inputs);

  // What is under way may miss what happened meanwhile, but is shown sooner: read again after it.
  const reload = useCallback(async () => {
    if (current.current === null) await read();
    else isAskedAgain.current = true;
  }, [read]);

  useEffect(() => {
    setState({ data: null, error: null, isLoading: true });
    void read();
    return () => {
      current.current?.abort();
      current.current = null;
    };
  }, [read]);

  const setData = useCallback((/** @type {(data: Data) => Data} */ change) => {
    setState((before) =>
      before.data === null ? before : { ...before, data: change(before.data) },
    );
  }, []);
  return { ...state, reload, setData };
}

/**
 * `run` once, `waitMs` after the first of a burst of requests for it.
 *
 * @param {() => void} run
 * @param {number} waitMs
 */
export function useBatched(run, waitMs) {
  const latest = useRef(run);
  latest.current = run;
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | null} */ (null));
  useEffect(() => () => clearTimeout(timer.current ?? undefined), []);
  return useCallback(() => {
    if (timer.current !== null) return;
    timer.current = setTimeout(() => {
      timer.current = null;
      latest.current();
    }, waitMs);
  }, [waitMs]);
}
