/**
 * Splits a server-sent event stream into its events, however the network cut it and whichever line
 * ends it uses. Invariant: the events, their tails and the rest are the bytes that came in.
 */

const LF = 0x0a;
const CR = 0x0d;

export interface SseSplitter {
  push(chunk: Buffer): void;
  /** What came after the last whole event. */
  rest(): Buffer;
}

/**
 * @param onEvent the bytes of one event, up to and with the blank line that ends it.
 * @param onTail the second half of a line end whose first half closed the event before.
 */
export function createSseSplitter(
  onEvent: (event: Buffer) => void,
  onTail: (tail: Buffer) => void,
): SseSplitter {
  let pending: Buffer = Buffer.alloc(0);
  /** Where the line stands that is being read, and from where on its end is looked for. */
  let lineStart = 0;
  let at = 0;
  let isAfterCr = false;
  return { push, rest: () => pending };

  function push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    let bytes = chunk;
    if (isAfterCr && chunk[0] === LF) {
      if (pending.length === 0) {
        onTail(chunk.subarray(0, 1));
        bytes = chunk.subarray(1);
      } else {
        lineStart++;
        at++;
      }
    }
    isAfterCr = false;
    if (pending.length > 0) bytes = Buffer.concat([pending, bytes]);
    split(bytes);
  }

  function split(bytes: Buffer): void {
    let eventStart = 0;
    let lf = bytes.indexOf(LF, at);
    let cr = bytes.indexOf(CR, at);
    while (lf !== -1 || cr !== -1) {
      const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr;
      const isBlank = end === lineStart;
      let next = end + 1;
      if (end === cr) {
        if (bytes[next] === LF) next++;
        else if (next === bytes.length) isAfterCr = true;
      }
      lineStart = next;
      if (isBlank) {
        onEvent(bytes.subarray(eventStart, next));
        eventStart = next;
      }
      if (lf !== -1 && lf < next) lf = bytes.indexOf(LF, next);
      if (cr !== -1 && cr < next) cr = bytes.indexOf(CR, next);
    }
    pending = bytes.subarray(eventStart);
    lineStart -= eventStart;
    at = pending.length;
  }
}

/** The event's data as text: its `data` lines joined, or null when it has none. */
export function eventData(event: Buffer): string | null {
  const text = event.toString("utf8");
  const [lineEnd, end] = [text.indexOf("\n"), text.length - 2];
  // Nearly every event: one line of data and the blank one.
  if (lineEnd === end && text.startsWith("data:") && text.endsWith("\n") && !text.includes("\r")) {
    return text.slice(text[5] === " " ? 6 : 5, end);
  }
  let data: string | null = null;
  for (const line of text.split(/\r\n|\n|\r/)) {
    if (!line.startsWith("data")) continue;
    const value = line.startsWith("data:") ? line.slice(5).replace(/^ /, "") : null;
    if (value === null && line !== "data") continue;
    data = data === null ? (value ?? "") : `${data}\n${value ?? ""}`;
  }
  return data;
}
