/**
 * What a gateway of its own process says of itself to those who run it: on a port of its own, on
 * loopback, because workers reach the gateway's and its metrics are none of their business.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface AdminSources {
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** Whether calls can be served: the ledger answers, and the gateway is not being stopped. */
  isReady(): Promise<boolean>;
}

export interface AdminServer extends AsyncDisposable {
  port: number;
}

/** Listens on 127.0.0.1; port 0 is any free one. @throws Error when the port is taken. */
export async function openAdminServer(sources: AdminSources, port: number): Promise<AdminServer> {
  const server = createServer((incoming, response) => {
    const path = (incoming.url ?? "/").split("?")[0] ?? "/";
    answer(path, response).catch(() => response.destroy());
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, "127.0.0.1", resolve);
  await promise;
  const { port: listening } = server.address() as AddressInfo;
  return { port: listening, [Symbol.asyncDispose]: close };

  async function answer(path: string, response: ServerResponse): Promise<void> {
    if (path === "/metrics") {
      const text = await sources.metrics();
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
      response.end(text);
      return;
    }
    if (path === "/healthz") return send(response, 200, "alive");
    if (path !== "/readyz") return send(response, 404, "not found");
    const isReady = await sources.isReady();
    send(response, isReady ? 200 : 503, isReady ? "ready" : "the database does not answer");
  }

  async function close(): Promise<void> {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
}

function send(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  response.end(`${text}\n`);
}
