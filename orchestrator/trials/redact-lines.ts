/**
 * A stream of bytes as text without its secrets: whole lines at a time, so that no secret is cut in
 * two by where the bytes happened to be; a private key, which has many lines, as one.
 */

/** A line that is longer goes out in pieces. */
const HELD_LENGTH_MAX = 65_536;
const KEY_BEGINS = /-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY/g;
const KEY_ENDS = /-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----/g;

/** @param redact of whole lines, what may be shown. */
export async function* redactLines(
  bytes: AsyncIterable<Uint8Array>,
  redact: (text: string) => string,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let held = "";
  for await (const chunk of bytes) {
    held += decoder.decode(chunk, { stream: true });
    const end = held.length > HELD_LENGTH_MAX ? held.length : endOfWhole(held);
    if (end === 0) continue;
    const ready = held.slice(0, end);
    held = held.slice(end);
    yield redact(ready);
  }
  held += decoder.decode();
  if (held !== "") yield redact(held);
}

/** After the last line that is whole and of no key that goes on. */
function endOfWhole(text: string): number {
  const lines = text.lastIndexOf("\n") + 1;
  const begins = [...text.slice(0, lines).matchAll(KEY_BEGINS)].at(-1)?.index ?? -1;
  const ends = [...text.slice(0, lines).matchAll(KEY_ENDS)].at(-1)?.index ?? -1;
  return begins > ends ? text.lastIndexOf("\n", begins) + 1 : lines;
}
