/**
 * LISTEN on one connection of its own, made again when it breaks.
 *
 * Notifications are hints: those sent while the connection was away are lost, which is what
 * `onReconnect` is for.
 */
import pg from "pg";
import type { Log } from "../runtime/log.ts";

const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 5_000;

type Subscriber = { onNotify: (payload: string) => void; onReconnect: () => void };

export type Listener = ReturnType<typeof createListener>;

/** Connects at the first `listen`, with `config`. */
export function createListener(config: pg.ClientConfig, log: Log) {
  const channels = new Map<string, Set<Subscriber>>();
  let client: pg.Client | null = null;
  let connecting: Promise<pg.Client> | null = null;
  let retryTimer: NodeJS.Timeout | null = null;
  let isClosed = false;
  return { listen, close };

  async function listen(
    channel: string,
    onNotify: (payload: string) => void,
    onReconnect: () => void = () => {},
  ): Promise<AsyncDisposable> {
    const subscriber = { onNotify, onReconnect };
    const subscribers = channels.get(channel) ?? new Set();
    channels.set(channel, subscribers.add(subscriber));
    const connected = await connect();
    // LISTEN twice on one connection is no error, and a connect just made has it already.
    await connected.query(`listen ${connected.escapeIdentifier(channel)}`);
    return { [Symbol.asyncDispose]: async () => void subscribers.delete(subscriber) };
  }

  function connect(): Promise<pg.Client> {
    connecting ??= open().catch((error: unknown) => {
      connecting = null;
      throw error;
    });
    return connecting;
  }

  async function open(): Promise<pg.Client> {
    const opened = new pg.Client(config);
    opened.on("notification", ({ channel, payload = "" }) => {
      for (const { onNotify } of channels.get(channel) ?? []) onNotify(payload);
    });
    opened.on("error", (error) => log.warn({ err: error }, "listening connection failed"));
    opened.on("end", () => {
      if (client !== opened) return;
      client = null;
      connecting = null;
      retry(RETRY_FIRST_MS);
    });
    await opened.connect();
    for (const channel of channels.keys()) {
      await opened.query(`listen ${opened.escapeIdentifier(channel)}`);
    }
    client = opened;
    return opened;
  }

  function retry(delayMs: number): void {
    if (isClosed) return;
    retryTimer = setTimeout(() => {
      connect().then(
        () => {
          for (const subscribers of channels.values()) {
            for (const { onReconnect } of subscribers) onReconnect();
          }
        },
        () => retry(Math.min(delayMs * 2, RETRY_MAX_MS)),
      );
    }, delayMs);
  }

  async function close(): Promise<void> {
    isClosed = true;
    if (retryTimer !== null) clearTimeout(retryTimer);
    const opened = await connecting?.catch(() => null);
    client = null;
    await opened?.end();
  }
}
