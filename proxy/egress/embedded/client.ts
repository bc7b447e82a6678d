/** One request of a worker, whichever version of HTTP it came by: `http1.ts`, `http2.ts`. */
import type { Duplex, Readable, Writable } from "node:stream";
import type { Decision } from "../../../orchestrator/contract/egress.ts";
import type { EgressSession, Refusal, RequestHead, Target } from "../guard.ts";
import type { HeaderList } from "./flow.ts";

export interface Denial {
  readonly decision: Decision;
  readonly refusal: Refusal;
}

/** A tunnel whose TLS we ended, or that has none. */
export interface Tunnel {
  readonly session: EgressSession;
  readonly target: Target;
  /** What TLS was opened for; null: it was not. */
  readonly serverName: string | null;
  readonly isSecure: boolean;
  /** Whatever is asked in it is answered so: it was refused, and is recorded already. */
  readonly refusal: Refusal | null;
  /** A request was read: what happens to it is recorded by itself. */
  isUsed: boolean;
}

export interface ClientExchange {
  readonly httpVersion: string;
  readonly address: string | null;
  readonly head: RequestHead;
  readonly hasBody: boolean;
  readonly body: Readable;
  /** It waits for a word before it sends its body. */
  readonly expectsContinue: boolean;
  /** Why it cannot be understood in one way only; null when it can. */
  readonly denial: Denial | null;
  sayContinue(): void;
  hasBegun(): boolean;
  /**
   * Sends the head; the body is written to what comes back. Null, and nothing sent: it is no head
   * that can be said, or nobody is there to be told. Throws nothing.
   */
  begin(status: number, headers: HeaderList, hasBody: boolean): Writable | null;
  /** After the last write. What the worker has not sent yet is not waited for long. */
  finish(trailers: HeaderList): void;
  /** Breaks off. */
  abort(): void;
  /** Once, when the worker breaks off. */
  onGone(listener: () => void): void;
  isGone(): boolean;
}

/** How long what is left of a body is read and thrown away, so that the answer gets through. */
export const LINGER_MS = 2_000;

/** Closes it once an answer had the time to get through, also where the other end stays open. */
export function closeSoon(socket: Duplex): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
}

/** `host:port`, taken apart; what cannot be is left as it is, for the guard to refuse. */
export function parseAuthority(text: string, usualPort: number): Target {
  const [, host, port] = /^(.*?)(?::([0-9]{1,5}))?$/s.exec(text) ?? [];
  if (host === undefined) return { host: text, port: usualPort };
  // "::1" has no port: an IPv6 address stands in brackets before one.
  if (port !== undefined && host.includes(":") && !host.endsWith("]")) {
    return { host: text, port: usualPort };
  }
  return { host, port: port === undefined ? usualPort : Number(port) };
}
