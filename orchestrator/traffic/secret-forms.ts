/** Values that must not be written, in every form in which a worker may send them. */
import type { KnownText } from "./secret-scan.ts";

/** What must not be written, wherever it is seen. */
export interface KnownSecrets {
  /** Of 6 characters or more; `kind` is what stands in their place: `[redacted:kind]`. */
  readonly values: readonly { readonly value: string; readonly kind: string }[];
  /** Of tokens that only their hash is known of: SHA-256, in hexadecimal. */
  readonly sha256: ReadonlySet<string>;
}

export const NO_SECRETS: KnownSecrets = { values: [], sha256: new Set() };

export const KNOWN_LENGTH_MIN = 6;

/** As it is, escaped in JSON and in URLs, and in base64 wherever it stands in what is encoded. */
export function knownTexts({ values }: Pick<KnownSecrets, "values">): KnownText[] {
  const texts = new Map<string, string>();
  for (const { value, kind } of values) {
    if (value.length < KNOWN_LENGTH_MIN) continue;
    for (const form of formsOf(value)) {
      if (form.length >= KNOWN_LENGTH_MIN && !texts.has(form)) texts.set(form, kind);
    }
  }
  // Of two with one beginning, the longer one is looked for first.
  return [...texts]
    .map(([text, kind]) => ({ text, kind }))
    .sort((a, b) => b.text.length - a.text.length);
}

function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const escaped = encodeURIComponent(value.toWellFormed());
  const inJson = JSON.stringify(value).slice(1, -1);
  return [
    value,
    // A body that is no text is looked at byte by byte.
    bytes.toString("latin1"),
    Buffer.from(value, "utf16le").toString("latin1"),
    inJson,
    inJson.replaceAll("/", "\\/"),
    JSON.stringify(inJson).slice(1, -1),
    escaped,
    escaped.replaceAll("%20", "+"),
    escaped.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
    bytes.toString("hex"),
    bytes.toString("hex").toUpperCase(),
    ...[0, 1, 2].flatMap((shift) => base64At(bytes, shift)),
  ];
}

/** The characters that these bytes alone decide, after `shift` bytes that are not known. */
function base64At(bytes: Buffer, shift: number): string[] {
  const encoded = Buffer.concat([Buffer.alloc(shift), bytes]).toString("base64");
  const from = Math.ceil((shift * 8) / 6);
  const text = encoded.slice(from, Math.floor(((shift + bytes.length) * 8) / 6));
  return [text, text.replaceAll("+", "-").replaceAll("/", "_")];
}
