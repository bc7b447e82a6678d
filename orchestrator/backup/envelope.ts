/**
 * The file that a backup is kept in: a line that says what it is, then the backup as it came, or
 * sealed with a passphrase. Pure: the command line seals what the server sends, so that the
 * passphrase leaves neither its machine nor its process.
 *
 *     autocode-backup/1 plain\n    <bytes>
 *     autocode-backup/1 sealed\n   {"salt","N","r","p","check"}\n  <frames>
 *
 * A frame is four bytes of length and AES-256-GCM of at most 1 MiB; its nonce is its number, with a
 * mark on the last one. So none can be changed, left out, moved, or cut off at the end unnoticed.
 */
import { createCipheriv, createDecipheriv, createHmac, scrypt, timingSafeEqual } from "node:crypto";

/** The file is not what it should be; its message says how, for people. */
export class EnvelopeFault extends Error {
  override readonly name = "EnvelopeFault";
}

const MAGIC = "autocode-backup/1";
const FRAME_BYTES = 1_048_576;
const TAG_BYTES = 16;
const LINE_BYTES_MAX = 1_000;
/** About 100 ms and 64 MiB a guess, as for the secrets. */
const SCRYPT = { N: 65_536, r: 8, p: 1 };
const SCRYPT_MEMORY = 256 * 1024 * 1024;

type Bytes = AsyncIterable<Uint8Array>;
interface KeyHead {
  salt: string;
  N: number;
  r: number;
  p: number;
  check: string;
}

/** @param salt 16 random bytes, when there is a passphrase. */
export async function* wrap(
  source: Bytes,
  sealing: { passphrase: string; salt: Uint8Array } | null,
): AsyncGenerator<Uint8Array> {
  if (sealing === null) {
    yield Buffer.from(`${MAGIC} plain\n`);
    yield* source;
    return;
  }
  const salt = Buffer.from(sealing.salt).toString("base64");
  const key = await deriveKey(sealing.passphrase, { salt, ...SCRYPT });
  const head: KeyHead = { salt, ...SCRYPT, check: checkOf(key).toString("base64") };
  yield Buffer.from(`${MAGIC} sealed\n${JSON.stringify(head)}\n`);
  let number = 0;
  let held: Buffer = Buffer.alloc(0);
  for await (const chunk of source) {
    held = Buffer.concat([held, chunk]);
    // Something is kept back: the last frame must be marked as such.
    while (held.length > FRAME_BYTES) {
      yield sealFrame(key, number++, false, held.subarray(0, FRAME_BYTES));
      held = held.subarray(FRAME_BYTES);
    }
  }
  yield sealFrame(key, number, true, held);
}

/**
 * What `wrap` was given.
 *
 * @throws EnvelopeFault for a file of another kind or version, a wrong or missing passphrase, and
 * a sealed one that was changed or cut off.
 */
export async function* unwrap(
  source: Bytes,
  passphrase: string | null,
): AsyncGenerator<Uint8Array> {
  const reader = createReader(source);
  const first = await reader.line();
  const [, form] = /^autocode-backup\/1 (plain|sealed)$/.exec(first) ?? [];
  if (form === undefined) {
    const [, version] = /^autocode-backup\/(\d+)/.exec(first) ?? [];
    throw new EnvelopeFault(
      version === undefined
        ? "it is no backup of autocode"
        : `it is a backup of format ${version}, and this autocode reads format 1: use a newer one`,
    );
  }
  if (form === "plain") {
    if (passphrase !== null) throw new EnvelopeFault("it is not sealed: leave the passphrase out");
    yield* reader.rest();
    return;
  }
  if (passphrase === null) {
    throw new EnvelopeFault("it is sealed with a passphrase: give --passphrase-file");
  }
  const head = parseHead(await reader.line());
  const key = await deriveKey(passphrase, head);
  const check = Buffer.from(head.check, "base64");
  if (check.length !== 16 || !timingSafeEqual(check, checkOf(key))) {
    throw new EnvelopeFault("the passphrase is not the one that it was sealed with");
  }
  for (let number = 0; ; number++) {
    const length = (await reader.exactly(4)).readUInt32BE();
    if (length < TAG_BYTES || length > FRAME_BYTES + TAG_BYTES) throw damaged();
    const frame = await reader.exactly(length);
    const isLast = await reader.isOver();
    yield openFrame(key, number, isLast, frame);
    if (isLast) return;
  }
}

function sealFrame(key: Buffer, number: number, isLast: boolean, bytes: Uint8Array): Buffer {
  const cipher = createCipheriv("aes-256-gcm", key, nonceOf(number, isLast));
  const body = Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

function openFrame(key: Buffer, number: number, isLast: boolean, frame: Buffer): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", key, nonceOf(number, isLast));
  decipher.setAuthTag(frame.subarray(-TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(frame.subarray(0, -TAG_BYTES)), decipher.final()]);
  } catch {
    throw isLast ? new EnvelopeFault("it is cut off or damaged at its end") : damaged();
  }
}

/** A key is used for one file, so that a number is used once with it. */
function nonceOf(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt8(isLast ? 1 : 0, 0);
  nonce.writeBigUInt64BE(BigInt(number), 4);
  return nonce;
}

function parseHead(line: string): KeyHead {
  try {
    const { salt, N, r, p, check } = JSON.parse(line) as KeyHead;
    const isSane = N >= 1_024 && N <= 1_048_576 && r >= 1 && r <= 16 && p >= 1 && p <= 16;
    if (isSane && typeof salt === "string" && typeof check === "string") {
      return { salt, N, r, p, check };
    }
  } catch {
    // As damaged as one with other fields.
  }
  throw damaged();
}

function deriveKey(passphrase: string, { salt, N, r, p }: Omit<KeyHead, "check">): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.from(salt, "base64");
    const options = { N, r, p, maxmem: SCRYPT_MEMORY };
    scrypt(passphrase.normalize("NFKC"), bytes, 32, options, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}

/** Tells a wrong passphrase without telling anything of the right one. */
function checkOf(key: Buffer): Buffer {
  return createHmac("sha256", key).update("autocode backup key check 1").digest().subarray(0, 16);
}

function damaged(): EnvelopeFault {
  return new EnvelopeFault("it is damaged");
}

function createReader(source: Bytes) {
  const chunks = source[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);
  return { line, exactly, isOver, rest };

  async function more(): Promise<boolean> {
    const { value, done } = await chunks.next();
    if (done === true) return false;
    held = Buffer.concat([held, value]);
    return true;
  }

  async function line(): Promise<string> {
    while (!held.includes(10)) {
      if (held.length > LINE_BYTES_MAX || !(await more())) break;
    }
    const end = held.indexOf(10);
    if (end === -1 || end > LINE_BYTES_MAX) return "";
    const text = held.subarray(0, end).toString("latin1");
    held = held.subarray(end + 1);
    return text;
  }

  async function exactly(length: number): Promise<Buffer> {
    while (held.length < length) {
      if (!(await more())) throw new EnvelopeFault("it is cut off");
    }
    const bytes = held.subarray(0, length);
    held = held.subarray(length);
    return bytes;
  }

  async function isOver(): Promise<boolean> {
    while (held.length === 0) if (!(await more())) return true;
    return false;
  }

  async function* rest(): AsyncGenerator<Uint8Array> {
    yield held;
    for (;;) {
      const { value, done } = await chunks.next();
      if (done === true) return;
      yield value;
    }
  }
}
