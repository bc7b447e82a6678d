/**
 * Peer: the least that a gateway on node:http and undici can do. It buffers the request, sends it
 * on, and passes the answer back as it comes: no key, no budget, no record.
 *
 *     node test/bench/gateway/pass-through.ts <upstream's port>
 */
import { createServer } from "node:http";
import { Agent } from "undici";

const origin = `http://127.0.0.1:${process.argv[2]}`;
const agent = new Agent({ connections: null, pipelining: 1 });

const server = createServer((incoming, response) => {
  const parts: Buffer[] = [];
  incoming.on("data", (part: Buffer) => parts.push(part));
  incoming.on("end", () => {
    const headers = { "content-type": "application/json" };
    const path = incoming.url ?? "/";
    agent.dispatch(
      { origin, path, method: "POST", body: Buffer.concat(parts), headers },
      {
        onRequestStart: () => undefined,
        onResponseStart(_, status, received) {
          response.statusCode = status;
          for (const name of ["content-type", "content-length"]) {
            const value = received[name];
            if (value !== undefined) response.setHeader(name, value);
          }
        },
        onResponseData: (_, chunk) => void response.write(chunk),
        onResponseEnd: () => void response.end(),
        onResponseError: () => void response.destroy(),
      },
    );
  });
});
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  if (typeof address === "object") process.stdout.write(`port ${address?.port}\n`);
});
