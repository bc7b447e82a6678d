/** Reads a request's body whole, within bounds: anything larger is refused before it is kept. */
import type { IncomingMessage } from "node:http";
import type { Refusal } from "./refusal.ts";

export type BodyResult =
  | { outcome: "read"; bytes: Buffer }
  | { outcome: "refused"; refusal: Refusal }
  /** The client went away meanwhile. */
  | { outcome: "gone" };

export function readBody(incoming: IncomingMessage, bytesMax: number): Promise<BodyResult> {
  // It left while its key was looked up: its events are over, and waiting for them would not end.
  if (incoming.destroyed) return Promise.resolve({ outcome: "gone" });
  const encoding = incoming.headers["content-encoding"] ?? "identity";
  if (encoding !== "identity") {
    const message = `content-encoding: "${encoding.slice(0, 40)}" is not read here; send it plain`;
    const refusal: Refusal = { status: 415, code: "unsupported_encoding", message };
    return Promise.resolve({ outcome: "refused", refusal });
  }
  const tooLarge: BodyResult = {
    outcome: "refused",
    refusal: { status: 413, code: "too_large", message: `the body is over ${bytesMax} bytes` },
  };
  if (Number(incoming.headers["content-length"] ?? 0) > bytesMax) return Promise.resolve(tooLarge);

  const { promise, resolve } = Promise.withResolvers<BodyResult>();
  const chunks: Buffer[] = [];
  let byteCount = 0;
  const onData = (chunk: Buffer): void => {
    byteCount += chunk.length;
    if (byteCount <= bytesMax) {
      chunks.push(chunk);
      return;
    }
    chunks.length = 0;
    incoming.off("data", onData);
    incoming.resume();
    resolve(tooLarge);
  };
  incoming.on("data", onData);
  incoming.on("end", () => resolve({ outcome: "read", bytes: Buffer.concat(chunks) }));
  incoming.on("error", () => resolve({ outcome: "gone" }));
  incoming.on("close", () => resolve({ outcome: "gone" }));
  return promise;
}
