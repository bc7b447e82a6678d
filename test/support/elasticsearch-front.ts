/**
 * What the Elasticsearch for tests lacks for its makers' other programs: the answers at `/`, which
 * a whole one's module `rest-root` gives, with the server's own version, and at `/_license`. All
 * else goes to the server as it is; while it is away, so is this.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** Of one that nobody paid for. */
const LICENSE = { status: "active", uid: "of-tests", type: "basic" };

export interface ElasticsearchFront extends AsyncDisposable {
  url: string;
}

export async function openElasticsearchFront(url: string): Promise<ElasticsearchFront> {
  const server = createServer((incoming, outgoing) => {
    const [path = ""] = (incoming.url ?? "").split("?");
    if (path === "/" || path.startsWith("/_license")) {
      answerTo(path).then(
        (text) => outgoing.writeHead(200, { "content-type": "application/json" }).end(text),
        () => outgoing.destroy(),
      );
    } else pass(incoming, outgoing);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };

  async function answerTo(path: string): Promise<string> {
    const answer = await fetch(`${url}/_nodes/_local?filter_path=nodes.*.version,cluster_name`);
    const { cluster_name, nodes } = (await answer.json()) as {
      cluster_name: string;
      nodes: Record<string, { version: string }>;
    };
    if (path !== "/") return JSON.stringify({ license: LICENSE });
    const [name = "", { version = "" } = {}] = Object.entries(nodes)[0] ?? [];
    return JSON.stringify({ name, cluster_name, version: { number: version } });
  }

  function pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, headers } = incoming;
    const onward = request(new URL(incoming.url ?? "", url), { method, headers });
    onward.once("response", (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
      answer.once("error", () => outgoing.destroy());
    });
    onward.once("error", () => outgoing.destroy());
    incoming.pipe(onward);
  }
}
