/** The first bytes of a tunnel, looked at and put back: whose TLS it is, if it is TLS. */

import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { getExtensionData, readTlsClientHello } from "read-tls-client-hello";
import type { ClientHello } from "../guard.ts";

const HANDSHAKE = 0x16;
const RECORD_HEAD_BYTES = 5;
/** RFC 8446, 5.1: 2^14, and some more of old versions. */
const RECORD_BYTES_MAX = 2 ** 14 + 2_048;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

export type FirstBytes = { outcome: "read"; hello: ClientHello | null } | { outcome: "gone" };

/** `hello` is null for what is no TLS, and for whoever says nothing in time. */
export async function readFirstBytes(socket: Socket, timeoutMs: number): Promise<FirstBytes> {
  const bytes = await gather(socket, timeoutMs);
  if (bytes === null) return { outcome: "gone" };
  if (bytes.length > 0) socket.unshift(bytes);
  return { outcome: "read", hello: isWholeRecord(bytes) ? await parse(bytes) : null };
}

/** What came until it is known what it is; empty after `timeoutMs` of silence; null: it left. */
async function gather(socket: Socket, timeoutMs: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  const { promise, resolve } = Promise.withResolvers<"read" | "gone" | "late">();
  const timer = setTimeout(() => resolve("late"), timeoutMs);
  const onReadable = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) chunks.push(chunk);
    if (chunks.length > 0 && missingOf(Buffer.concat(chunks)) <= 0) resolve("read");
  };
  const onGone = () => resolve("gone");
  socket.on("readable", onReadable).once("end", onGone).once("close", onGone);
  onReadable();
  const outcome = await promise;
  clearTimeout(timer);
  socket.off("readable", onReadable).off("end", onGone).off("close", onGone);
  return outcome === "gone" && chunks.length === 0 ? null : Buffer.concat(chunks);
}

function isWholeRecord(bytes: Buffer): boolean {
  if (bytes.length < RECORD_HEAD_BYTES || bytes[0] !== HANDSHAKE || bytes[1] !== 3) return false;
  return bytes.length >= RECORD_HEAD_BYTES + bytes.readUInt16BE(3);
}

/** How many bytes of the first record are still to come; 0 for what is no TLS. */
function missingOf(bytes: Buffer): number {
  if (bytes.length === 0) return 1;
  if (bytes[0] !== HANDSHAKE) return 0;
  if (bytes.length < RECORD_HEAD_BYTES) return RECORD_HEAD_BYTES - bytes.length;
  const length = bytes.readUInt16BE(3);
  if (bytes[1] !== 3 || length > RECORD_BYTES_MAX) return 0;
  return Math.max(0, RECORD_HEAD_BYTES + length - bytes.length);
}

/** A hello that lies over several records, or is broken, names no server: it is refused. */
async function parse(bytes: Buffer): Promise<ClientHello> {
  const stream = new PassThrough();
  stream.on("error", () => undefined);
  stream.write(bytes);
  try {
    const read = await readTlsClientHello(stream);
    const names = read.extensions.filter(({ id }) => id === 0);
    const serverName = getExtensionData(read, "server_name")?.serverName ?? null;
    const protocols = getExtensionData(read, "alpn")?.protocols;
    return {
      serverName: names.length === 1 ? serverName : null,
      protocols: protocols ?? [],
      hasEncryptedHello: read.extensions.some(({ id }) => id === ENCRYPTED_CLIENT_HELLO),
    };
  } catch {
    return { serverName: null, protocols: [], hasEncryptedHello: false };
  } finally {
    stream.destroy();
  }
}
