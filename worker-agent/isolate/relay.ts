/**
 * A TCP relay of ours to one address: what the other side of the wall may reach. It reads nothing
 * of what it carries; where the gateway speaks TLS, the relay does so in the program's place.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { request as requestTls } from "node:https";
import { connect, createServer as createTcpServer, type Server, type Socket } from "node:net";

/** At once: programs open tens, and each costs us two sockets. */
const CONNECTIONS_MAX = 1_000;

export interface Relay extends AsyncDisposable {
  /** Its port; 0 when it listens at a path. */
  readonly port: number;
}

/** Where it listens: a free port of an address of the host, or a Unix socket. */
export type RelayPlace = { readonly host: string } | { readonly path: string };

/** Relays to an http or https address. @throws Error when it cannot listen. */
export async function openRelay(place: RelayPlace, targetUrl: string): Promise<Relay> {
  const target = new URL(targetUrl);
  const sockets = new Set<Socket>();
  const server =
    target.protocol === "https:"
      ? createServer((asked, answer) => passOn(target, asked, answer))
      : createTcpServer((socket) => pipeTo(target, socket, sockets));
  server.maxConnections = CONNECTIONS_MAX;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await listen(server, place);
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, [Symbol.asyncDispose]: close };

  async function close(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.destroy();
    await closed;
  }
}

function listen(server: Server, place: RelayPlace): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if ("path" in place) server.listen(place.path, resolve);
    else server.listen(0, place.host, resolve);
  });
}

/** Each side's end is the other's; a side that fails takes the other down. */
function pipeTo(target: URL, socket: Socket, sockets: Set<Socket>): void {
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const onward = connect({ host, port: Number(target.port || 80), allowHalfOpen: true });
  sockets.add(onward);
  socket.allowHalfOpen = true;
  onward.on("close", () => {
    sockets.delete(onward);
    socket.destroy();
  });
  socket.on("close", () => onward.destroy());
  for (const side of [socket, onward]) side.on("error", () => side.destroy());
  socket.pipe(onward).pipe(socket);
}

/** One request, with the target's own name in it; bodies stream both ways. */
function passOn(target: URL, asked: IncomingMessage, answer: ServerResponse): void {
  const onward = requestTls(
    {
      host: target.hostname,
      port: target.port || 443,
      method: asked.method,
      path: asked.url,
      headers: { ...asked.headers, host: target.host },
    },
    (answered) => {
      answer.writeHead(answered.statusCode ?? 502, answered.rawHeaders);
      answered.pipe(answer);
      answered.on("error", () => answer.destroy());
    },
  );
  onward.on("error", (error) => {
    if (answer.headersSent) answer.destroy();
    else answer.writeHead(502, { "content-type": "text/plain" }).end(`${error.message}\n`);
  });
  answer.on("close", () => onward.destroy());
  asked.pipe(onward);
}

/** The address with the relay in its place; its path stays, and plain HTTP is spoken to us. */
export function relayedUrl(targetUrl: string, host: string, port: number): string {
  const url = new URL(targetUrl);
  const path = `${url.pathname}${url.search}`.replace(/\/+$/, "");
  return `http://${host}:${port}${path}`;
}
