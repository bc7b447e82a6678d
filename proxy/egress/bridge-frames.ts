/**
 * The protocol between our process and mitmproxy's addon (`addon.py`), version 1, over a unix
 * socket that only our user reaches.
 *
 * A frame is two 32-bit sizes, most significant byte first: of all that follows them, and of the
 * JSON that comes first in it. After the JSON come its `parts`, as long as the list of that name
 * says, one after the other. A message has a `kind`; one with an `id` is a question, and is
 * answered by a frame with the same id; all others are notices, and nothing comes back.
 *
 * The addon asks `open` first, and is told the version, limits and the authority; then it tells
 * `ready`. It asks `connect`, `hello` and `request` as the guard's questions are, `sent_all` before
 * a body's end leaves that was told in pieces, and `failed` of an exchange that broke off. It tells
 * `sent`, `flow`, `tunnel`, `no_http`, `unreadable`, `tls_failed` and `gone`. We tell `close` of a
 * client and `cut` of an exchange.
 */

export const BRIDGE_VERSION = 1;

/** Bodies and messages that are kept for the record, and what is around them. */
const FRAME_BYTES_MAX = 512 * 2 ** 20;
const SIZES_LENGTH = 8;

/** What every question and notice of the addon may have; which it has is its kind's. */
export interface Said {
  readonly kind: string;
  readonly id?: number;
  readonly version?: number;
  /** A worker's connection (0: gone before it asked) and an exchange, by the addon's numbers. */
  readonly client?: number;
  readonly flow?: number;
  readonly listening?: readonly (readonly [mode: string, host: string, port: number])[];
  readonly peer?: string;
  readonly authorization?: string | null;
  readonly host?: string;
  readonly port?: number;
  readonly hello?: {
    readonly server_name: string | null;
    readonly protocols: readonly string[];
    readonly has_encrypted_hello: boolean;
  } | null;
  readonly is_request?: boolean;
  readonly is_transparent?: boolean;
  /** The answer has not begun: the worker can still be told. */
  readonly is_answerable?: boolean;
  readonly method?: string;
  readonly scheme?: "http" | "https" | "ws" | "wss";
  readonly authority?: string | null;
  readonly server_name?: string | null;
  readonly path?: string;
  readonly headers?: readonly (readonly [string, string])[] | null;
  readonly body_byte_count?: number | null;
  readonly http_version?: string | null;
  readonly fault?: string | null;
  readonly byte_count?: number;
  readonly reason?: string | null;
  readonly words?: string | null;
  readonly error?: string | null;
  readonly address?: string | null;
  readonly connect_ms?: number | null;
  readonly tls_ms?: number | null;
  readonly first_byte_ms?: number | null;
  readonly tls_version?: string | null;
  readonly certificate_sha256?: string | null;
  readonly request_byte_count?: number;
  readonly response_byte_count?: number;
  readonly status?: number | null;
  readonly messages?: readonly SaidMessage[] | null;
  readonly sent?: number;
  readonly received?: number;
  readonly parts?: readonly number[];
}

export interface SaidMessage {
  readonly at_ms: number;
  readonly from: "client" | "server";
  readonly is_text: boolean;
  readonly byte_count: number;
}

export function encodeFrame(message: object, body: Buffer | null = null): Buffer {
  const head = Buffer.from(JSON.stringify(message));
  const size = head.length + (body?.length ?? 0);
  const sizes = Buffer.allocUnsafe(SIZES_LENGTH);
  sizes.writeUInt32BE(size, 0);
  sizes.writeUInt32BE(head.length, 4);
  return body === null ? Buffer.concat([sizes, head]) : Buffer.concat([sizes, head, body]);
}

/**
 * Puts frames together from what arrives.
 *
 * @throws Error from `push` for what is no frame: whoever sends it is not to be listened to.
 */
export function createFrameReader(onFrame: (said: Said, parts: Buffer[]) => void) {
  let pieces: Buffer[] = [];
  let heldCount = 0;
  let wanted = SIZES_LENGTH;
  return { push };

  function push(chunk: Buffer): void {
    pieces.push(chunk);
    heldCount += chunk.length;
    if (heldCount < wanted) return;
    let held = pieces.length === 1 ? chunk : Buffer.concat(pieces);
    for (;;) {
      wanted = SIZES_LENGTH;
      if (held.length < SIZES_LENGTH) break;
      const size = held.readUInt32BE(0);
      const headSize = held.readUInt32BE(4);
      if (size > FRAME_BYTES_MAX || headSize > size) {
        throw new Error(`bridge: a frame of ${size} bytes with a head of ${headSize}`);
      }
      wanted = SIZES_LENGTH + size;
      if (held.length < wanted) break;
      read(held.subarray(SIZES_LENGTH, wanted), headSize);
      held = held.subarray(wanted);
    }
    pieces = held.length === 0 ? [] : [held];
    heldCount = held.length;
  }

  function read(frame: Buffer, headSize: number): void {
    const said = JSON.parse(frame.toString("utf8", 0, headSize)) as Said;
    const parts: Buffer[] = [];
    let at = headSize;
    for (const length of said.parts ?? []) {
      // A copy, or what is kept of one body would keep the whole frame.
      parts.push(Buffer.from(frame.subarray(at, at + length)));
      at += length;
    }
    if (at !== frame.length) throw new Error("bridge: a frame whose parts are not as long as it");
    onFrame(said, parts);
  }
}
