/**
 * The sealed form of a text: AES-256-GCM under a key from a key file or, by scrypt, a passphrase.
 *
 * The head says how the key is made and carries a check value, so that a wrong key is told from a
 * damaged file; the head is authenticated with the text. Format "autocode-secrets/1".
 */
import { createCipheriv, createDecipheriv, createHmac, scrypt, timingSafeEqual } from "node:crypto";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { Random } from "../runtime/random.ts";

const FORMAT = "autocode-secrets/1";
/** About 100 ms and 64 MiB a guess. */
const SCRYPT = { N: 65_536, r: 8, p: 1 } as const;
const SCRYPT_MEMORY = 256 * 1024 * 1024;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const Base64 = Type.String({ pattern: "^[A-Za-z0-9+/]*={0,2}$" });
type Head = Static<typeof Head>;
const Head = Type.Object(
  {
    format: Type.Literal(FORMAT),
    generation: Type.Integer({ minimum: 1 }),
    key: Type.Union([
      Type.Object({ from: Type.Literal("file") }, { additionalProperties: false }),
      Type.Object(
        {
          from: Type.Literal("passphrase"),
          salt: Base64,
          N: Type.Integer({ minimum: 1024, maximum: 1_048_576 }),
          r: Type.Integer({ minimum: 1, maximum: 16 }),
          p: Type.Integer({ minimum: 1, maximum: 16 }),
        },
        { additionalProperties: false },
      ),
    ]),
    check: Base64,
    nonce: Base64,
  },
  { additionalProperties: false },
);
const Sealed = Type.Object({ head: Head, body: Base64 }, { additionalProperties: false });

/** How the key is made: what a file's head says of it. */
export type KeyOrigin = Head["key"];

export interface SealingKey {
  bytes: Buffer;
  origin: KeyOrigin;
}

export type Opened =
  | { outcome: "opened"; text: string; generation: number }
  | { outcome: "wrong_key" }
  | { outcome: "damaged" };

export function newPassphraseOrigin(random: Random): KeyOrigin {
  const salt = Buffer.from(random.bytes(16)).toString("base64");
  return { from: "passphrase", salt, ...SCRYPT };
}

/** Slow on purpose: some 100 ms. */
export function keyFromPassphrase(passphrase: string, origin: KeyOrigin): Promise<SealingKey> {
  if (origin.from !== "passphrase") throw new RangeError("keyFromPassphrase: a key file's origin");
  const { N, r, p } = origin;
  const salt = Buffer.from(origin.salt, "base64");
  return new Promise((resolve, reject) => {
    // One passphrase may be typed in two forms of the same letters.
    const text = passphrase.normalize("NFKC");
    scrypt(text, salt, KEY_BYTES, { N, r, p, maxmem: SCRYPT_MEMORY }, (error, bytes) =>
      error === null ? resolve({ bytes, origin }) : reject(error),
    );
  });
}

/** `generation` is authenticated too: an older file under a newer name does not open. */
export function seal(text: string, generation: number, key: SealingKey, random: Random): string {
  const nonce = Buffer.from(random.bytes(NONCE_BYTES));
  const head: Head = {
    format: FORMAT,
    generation,
    key: key.origin,
    check: checkOf(key.bytes).toString("base64"),
    nonce: nonce.toString("base64"),
  };
  const cipher = createCipheriv("aes-256-gcm", key.bytes, nonce);
  cipher.setAAD(Buffer.from(JSON.stringify(head)));
  const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
  return `${JSON.stringify({ head, body: body.toString("base64") })}\n`;
}

/** How the key of a sealed file is made; null when it is no such file. */
export function keyOriginOf(sealed: string): KeyOrigin | null {
  return parse(sealed)?.head.key ?? null;
}

export function open(sealed: string, key: SealingKey): Opened {
  const parsed = parse(sealed);
  if (parsed === null) return { outcome: "damaged" };
  const { head, body } = parsed;
  const check = Buffer.from(head.check, "base64");
  const own = checkOf(key.bytes);
  if (check.length !== own.length || !timingSafeEqual(check, own)) return { outcome: "wrong_key" };
  const bytes = Buffer.from(body, "base64");
  const nonce = Buffer.from(head.nonce, "base64");
  if (bytes.length < TAG_BYTES || nonce.length !== NONCE_BYTES) return { outcome: "damaged" };
  try {
    const decipher = createDecipheriv("aes-256-gcm", key.bytes, nonce);
    decipher.setAAD(Buffer.from(JSON.stringify(head)));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    const text = decipher.update(bytes.subarray(0, -TAG_BYTES));
    return {
      outcome: "opened",
      text: Buffer.concat([text, decipher.final()]).toString(),
      generation: head.generation,
    };
  } catch {
    // The tag does not fit; what OpenSSL says of it helps nobody.
    return { outcome: "damaged" };
  }
}

function parse(sealed: string): Static<typeof Sealed> | null {
  try {
    const value: unknown = JSON.parse(sealed);
    return Value.Check(Sealed, value) ? value : null;
  } catch {
    return null;
  }
}

/** Tells a wrong key without telling anything of the right one. */
function checkOf(key: Buffer): Buffer {
  return createHmac("sha256", key).update("autocode secrets key check 1").digest().subarray(0, 16);
}
