/** Who is on which connection: a session's connections are closed when it ends. */
import { setMaxListeners } from "node:events";
import type { Socket } from "node:net";
import type { EgressGuard, EgressSession } from "../guard.ts";

export interface Presence {
  /** By `Proxy-Authorization`, once for a connection; null: nobody we know. */
  authenticate(socket: Socket, header: string | undefined): Promise<EgressSession | null>;
  /** Who was last known on it; null: nobody. */
  sessionOf(socket: Socket): EgressSession | null;
  closeAll(): void;
}

interface Known {
  header: string;
  session: EgressSession;
}

export function createPresence(guard: Pick<EgressGuard, "session">): Presence {
  const known = new WeakMap<Socket, Known>();
  const sockets = new Set<Socket>();
  return { authenticate, sessionOf, closeAll };

  async function authenticate(
    socket: Socket,
    header: string | undefined,
  ): Promise<EgressSession | null> {
    const before = known.get(socket);
    if (before !== undefined && before.header === header && !before.session.signal.aborted) {
      return before.session;
    }
    const credentials = basic(header);
    if (header === undefined || credentials === null) return null;
    const session = await guard.session(credentials.username, credentials.password);
    if (session === null || session.signal.aborted) return null;
    known.set(socket, { header, session });
    follow(socket, session);
    return session;
  }

  function follow(socket: Socket, { signal }: EgressSession): void {
    const end = () => socket.destroy();
    // As many as it has connections.
    setMaxListeners(0, signal);
    signal.addEventListener("abort", end, { once: true });
    sockets.add(socket);
    socket.once("close", () => {
      signal.removeEventListener("abort", end);
      sockets.delete(socket);
    });
  }

  function sessionOf(socket: Socket): EgressSession | null {
    return known.get(socket)?.session ?? null;
  }

  function closeAll(): void {
    for (const socket of sockets) socket.destroy();
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
