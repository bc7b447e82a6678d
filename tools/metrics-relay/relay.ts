/** One path a source, each a GET of one address; whatever else is asked for is not there. */
import { readFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface RelayOptions {
  host: string;
  port: number;
  /** Where the metrics are, by the path that serves them. */
  sources: ReadonlyMap<string, string>;
  /** Where the orchestrator says its token; sent to the source `orchestrator` alone. */
  endpointFile: string | null;
}

const TIMEOUT_MS = 8000;
const TEXT = "text/plain; version=0.0.4; charset=utf-8";

export async function openRelay(options: RelayOptions) {
  const { host, port, sources, endpointFile } = options;
  const server = createServer((request, response) => {
    const name = (request.url ?? "").slice(1);
    const source = sources.get(name);
    if (request.method !== "GET" || source === undefined) {
      end(response, 404, "no such metrics\n");
      return;
    }
    read(name, source).then(
      (text) => end(response, 200, text),
      (error: unknown) => end(response, 502, `${name}: ${reason(error)}\n`),
    );
  });
  await new Promise<void>((listening, failed) => {
    server.once("error", failed);
    server.listen(port, host, listening);
  });
  return { port: (server.address() as AddressInfo).port, [Symbol.asyncDispose]: close };

  async function read(name: string, source: string): Promise<string> {
    const token =
      name === "orchestrator" && endpointFile !== null ? await tokenIn(endpointFile) : null;
    const answer = await fetch(source, {
      headers: token === null ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "error",
    });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    return answer.text();
  }

  async function close(): Promise<void> {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  }
}

async function tokenIn(file: string): Promise<string> {
  const { token } = JSON.parse(await readFile(file, "utf8")) as { token?: unknown };
  if (typeof token !== "string") throw new Error("the endpoint file has no token");
  return token;
}

/** Never an answer's body: what is relayed is metrics. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return "failed";
  return error.cause instanceof Error ? error.cause.message : error.message;
}

function end(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": TEXT }).end(text);
}
