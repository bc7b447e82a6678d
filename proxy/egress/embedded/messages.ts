/** A WebSocket's messages, read out of a copy of its frames: what the record has of them. */
import type { Writable } from "node:stream";
import * as ws from "ws";

interface Deflate {
  accept(offers: readonly unknown[]): unknown;
}

/** What the library has and its types have not. */
const { Receiver, PerMessageDeflate, extension } = ws as unknown as {
  Receiver: new (options: {
    isServer: boolean;
    extensions: Record<string, Deflate>;
    maxPayload: number;
    skipUTF8Validation: boolean;
  }) => Writable;
  PerMessageDeflate: {
    new (options: { isServer: boolean; maxPayload: number }): Deflate;
    extensionName: string;
  };
  extension: { parse(header: string): Record<string, readonly unknown[]> };
};

export interface MessageReader {
  /** Resolves when all messages in it were told. @throws what is wrong with them. */
  read(frames: Buffer): Promise<void>;
}

/**
 * @param isFromClient whose frames are masked
 * @param extensions what the server answered in `Sec-WebSocket-Extensions`
 * @param onControl what a ping, a pong or a close carries
 * @throws Error for an extension we do not know.
 */
export function createMessageReader(
  { isFromClient, extensions }: { isFromClient: boolean; extensions: string | undefined },
  bytesMax: number,
  onMessage: (message: Buffer, isText: boolean) => void,
  onControl: (payload: Buffer) => void,
): MessageReader {
  const maxPayload = bytesMax;
  const accepted: Record<string, Deflate> = {};
  const { extensionName } = PerMessageDeflate;
  const answered = extensions === undefined ? {} : extension.parse(extensions);
  for (const [name, offers] of Object.entries(answered)) {
    if (name !== extensionName) throw new Error(`it uses the extension ${name}, not known here`);
    const deflate = new PerMessageDeflate({ isServer: isFromClient, maxPayload });
    deflate.accept(offers);
    accepted[extensionName] = deflate;
  }
  const options = { isServer: isFromClient, extensions: accepted, maxPayload };
  const receiver = new Receiver({ ...options, skipUTF8Validation: true });
  receiver.on("message", (data: Buffer, isBinary: boolean) => onMessage(data, !isBinary));
  receiver.on("ping", onControl);
  receiver.on("pong", onControl);
  receiver.on("conclude", (_: number, reason: Buffer) => onControl(reason));
  receiver.on("error", () => undefined);
  return { read };

  function read(frames: Buffer): Promise<void> {
    // The reader takes masks off in place, and these bytes still go on as they are.
    const copy = Buffer.from(frames);
    return new Promise((resolve, reject) => {
      receiver.write(copy, (error) => (error == null ? resolve() : reject(error)));
    });
  }
}

/** Of what a worker offers: the one extension that we can read. */
export function knownExtensions(header: string): string {
  return header
    .split(",")
    .map((offer) => offer.trim())
    .filter((offer) => /^permessage-deflate(\s*;|$)/.test(offer))
    .join(", ");
}
