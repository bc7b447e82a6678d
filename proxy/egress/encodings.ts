/**
 * The forms in which a value passes: as it is, and as programs encode what it is a part of. Pure.
 */

/** Shorter ones would be found in texts that have nothing to do with it. */
const FORM_LENGTH_MIN = 8;

/** The value and its forms, the longest first, each once. */
export function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const hex = bytes.toString("hex");
  const encoded = [
    encodeURIComponent(value),
    JSON.stringify(value).slice(1, -1),
    hex,
    hex.toUpperCase(),
    ...[0, 1, 2].flatMap((offset) => alignedBase64(bytes, offset)),
  ].filter((form) => form.length >= FORM_LENGTH_MIN);
  return [...new Set([value, ...encoded])].toSorted((a, b) => b.length - a.length);
}

/** What base64 has of the bytes whatever lies around them, `offset` bytes into a group of three. */
function alignedBase64(bytes: Buffer, offset: number): string[] {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString("base64");
  const first = Math.ceil((offset * 8) / 6);
  const last = Math.floor(((offset + bytes.length) * 8) / 6);
  const form = text.slice(first, last);
  return [form, form.replaceAll("+", "-").replaceAll("/", "_")];
}

/** The text, and what it says once its percent signs are undone, twice at most. */
export function percentReadings(text: string): string[] {
  const once = undo(text);
  return [...new Set([text, once, undo(once)])];
}

function undo(text: string): string {
  return text.replaceAll(/%[0-9A-Fa-f]{2}/g, (code) =>
    String.fromCharCode(Number.parseInt(code.slice(1), 16)),
  );
}
