/** A request that changes something: sent once however fast its button is pressed. */
import { useRef, useState } from "/vendor/htm-preact.js";
import { ApiError, newIdempotencyKey, postJson } from "./api.js";

/**
 * `send` does nothing while a request, or what `onDone` does about its answer, is under way. One
 * whose answer was lost is sent again with its key, and has its effect once; after an answer, of
 * whatever kind, the same request is another.
 *
 * @param {(answer: any) => unknown} onDone
 */
export function useSendOnce(onDone) {
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  /** Known before the next drawing, which is later than a second click can be. */
  const isSending = useRef(false);
  const sent = useRef(/** @type {{ key: string, said: string } | null} */ (null));
  const send = async (/** @type {string} */ path, /** @type {object} */ body) => {
    if (isSending.current) return;
    const said = `${path} ${JSON.stringify(body)}`;
    if (sent.current?.said !== said) sent.current = { key: newIdempotencyKey(), said };
    isSending.current = true;
    setBusy(true);
    setError(null);
    try {
      const answer = await postJson(path, body, sent.current.key);
      sent.current = null;
      await onDone(answer);
    } catch (caught) {
      if (caught instanceof ApiError && Math.floor(caught.status / 100) === 4) sent.current = null;
      setError(/** @type {Error} */ (caught));
    }
    isSending.current = false;
    setBusy(false);
  };
  return { send, isBusy, error };
}
