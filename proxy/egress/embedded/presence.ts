/**
 * Who is on which connection: a session's connections are closed when it ends, and are no more than
 * it may have. Of those that no session counts (they said no name, or are one too many) the oldest
 * makes room for a new one.
 *
 * Invariant: a connection that is open is known here, whoever's it is.
 */
import { setMaxListeners } from "node:events";
import type { Socket } from "node:net";
import type { EgressGuard, EgressSession } from "../guard.ts";
import { closeSoon, type Denial } from "./client.ts";

export interface Presence {
  /** A connection of nobody yet. */
  meet(socket: Socket): void;
  /** By `Proxy-Authorization`, once for a connection; null: nobody we know. */
  authenticate(socket: Socket, header: string | undefined): Promise<Present | null>;
  /** Who was last known on it; null: nobody. */
  sessionOf(socket: Socket): EgressSession | null;
  /** Whoever's they are. */
  closeAll(): void;
}

export interface Present {
  readonly session: EgressSession;
  /**
   * Its session has all the connections that it may: whatever is asked on this one is refused, and
   * it is closed as soon as that was said.
   */
  readonly denial: Denial | null;
}

interface Known extends Present {
  readonly header: string;
}

export function createPresence(
  guard: Pick<EgressGuard, "session">,
  strangersMax: number,
): Presence {
  const known = new WeakMap<Socket, Known>();
  const met = new Set<Socket>();
  /** Of these, those that no session counts. */
  const strangers = new Set<Socket>();
  return { meet, authenticate, sessionOf, closeAll };

  function meet(socket: Socket): void {
    const [oldest] = strangers;
    if (oldest !== undefined && strangers.size >= strangersMax) {
      strangers.delete(oldest);
      oldest.destroy();
    }
    met.add(socket);
    strangers.add(socket);
    socket.once("close", () => {
      met.delete(socket);
      strangers.delete(socket);
    });
  }

  async function authenticate(socket: Socket, header: string | undefined): Promise<Present | null> {
    const before = known.get(socket);
    const isSameWord = before !== undefined && before.header === header;
    if (isSameWord && !before.session.signal.aborted) return before;
    const credentials = basic(header);
    if (header === undefined || credentials === null) return null;
    const session = await guard.session(credentials.username, credentials.password);
    if (session === null || session.signal.aborted) return null;
    // It has gone while its name was looked up: nobody would uncount it.
    if (socket.destroyed) return { session, denial: null };
    // What it asked at the same time may have been first.
    const last = known.get(socket);
    const denial = last?.session === session ? last.denial : follow(socket, session);
    const present = { header, session, denial };
    known.set(socket, present);
    return present;
  }

  function follow(socket: Socket, { signal, places }: EgressSession): Denial | null {
    const place = places.enter("connection");
    if (place.outcome === "refuse") {
      closeSoon(socket);
      return place;
    }
    strangers.delete(socket);
    const end = () => socket.destroy();
    // As many as it has connections.
    setMaxListeners(0, signal);
    signal.addEventListener("abort", end, { once: true });
    socket.once("close", () => {
      signal.removeEventListener("abort", end);
      place.leave();
    });
    return null;
  }

  function sessionOf(socket: Socket): EgressSession | null {
    return known.get(socket)?.session ?? null;
  }

  function closeAll(): void {
    for (const socket of met) socket.destroy();
  }
}

/** RFC 7617; null for what is no Basic credential. */
function basic(header: string | undefined): { username: string; password: string } | null {
  const encoded = /^Basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header ?? "")?.[1];
  if (encoded === undefined || encoded.length > 2_000) return null;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const at = text.indexOf(":");
  return at === -1 ? null : { username: text.slice(0, at), password: text.slice(at + 1) };
}
