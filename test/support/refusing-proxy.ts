/**
 * A loopback HTTP proxy that refuses everything, CONNECT too, and says what was asked of it. It
 * shows what a CLI tries to reach besides the gateway; it cannot stop one that ignores the proxy
 * variables.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** A host that is asked for again and again is told of this often. */
const TOLD_PER_HOST = 20;
const HOSTS_MAX = 200;

export interface RefusingProxy extends AsyncDisposable {
  readonly url: string;
}

export interface RefusedRequest {
  readonly host: string;
  readonly method: string;
}

/** Listens on a free port of the loopback address. */
export async function openRefusingProxy(
  onRefused: (request: RefusedRequest) => void,
): Promise<RefusingProxy> {
  const told = new Map<string, number>();
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    tell(request, hostOf(request));
    response.writeHead(403, { "content-type": "text/plain", connection: "close" });
    response.end("autocode: this trial may reach the model gateway only\n");
  });
  server.on("connect", (request: IncomingMessage, socket: Socket) => {
    tell(request, request.url ?? "");
    socket.on("error", () => socket.destroy());
    socket.end("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: close };

  function tell({ method = "" }: IncomingMessage, host: string): void {
    const key = `${method} ${host}`;
    const times = (told.get(key) ?? 0) + 1;
    if (times > TOLD_PER_HOST || (times === 1 && told.size >= HOSTS_MAX)) return;
    told.set(key, times);
    onRefused({ host: host.slice(0, 300), method: method.slice(0, 20) });
  }

  async function close(): Promise<void> {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  }
}

/** The proxied address's host, or the Host header of a request in origin form. */
function hostOf(request: IncomingMessage): string {
  const address = URL.parse(request.url ?? "");
  return address?.host ?? request.headers.host ?? "";
}

/** The variables that lead HTTP clients to the proxy, and past it to the gateway. */
export function proxyVariables(proxyUrl: string, gatewayUrl: string): Record<string, string> {
  const gatewayHost = URL.parse(gatewayUrl)?.hostname ?? "";
  const past = [...new Set([gatewayHost, "127.0.0.1", "localhost", "::1"])].filter(
    (host) => host !== "",
  );
  const variables = { http_proxy: proxyUrl, https_proxy: proxyUrl, no_proxy: past.join(",") };
  const upperCase = Object.entries(variables).map(([name, value]) => [name.toUpperCase(), value]);
  return { ...variables, ...Object.fromEntries(upperCase) };
}
