/** A request that changes something: sent once however fast its button is pressed. */
import { useRef, useState } from "/vendor/htm-preact.js";
import { newIdempotencyKey, postJson } from "./api.js";

/**
 * `send` does nothing while a request, or what `onDone` does about its answer, is under way. The
 * same request has the same key ever after: one whose answer was lost has its effect once.
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
      await onDone(await postJson(path, body, sent.current.key));
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
    isSending.current = false;
    setBusy(false);
  };
  return { send, isBusy, error };
}
