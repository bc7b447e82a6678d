/** A request that changes something: sent once however fast its button is pressed. */
import { useRef, useState } from "/vendor/htm-preact.js";
import { newIdempotencyKey, postJson } from "./api.js";

/**
 * `send` does nothing while a request is under way; after a failure the same request has the same
 * key, so that one whose answer was lost has its effect once.
 *
 * @param {(answer: any) => void} onDone
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
      onDone(answer);
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    isSending.current = false;
    setBusy(false);
  };
  return { send, isBusy, error };
}
