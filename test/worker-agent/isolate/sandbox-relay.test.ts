/**
 * Goal: the program inside a sandbox reaches the socket by a port, and its end is the relay's.
 *
 * Method: the relay as the process that it is, with a server of the test behind the socket.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { listenFor } from "../../../worker-agent/isolate/sandbox-relay.ts";
import { runToEnd } from "../../support/installation.ts";
import { openFolder } from "../../support/worker-world.ts";

const RELAY = join(import.meta.dirname, "../../../worker-agent/isolate/sandbox-relay.ts");

async function serveAt(path: string, t: { after(fn: () => void): void }): Promise<void> {
  const server = createServer((request, response) => response.end(`served ${request.url}`));
  server.listen(path);
  await once(server, "listening");
  t.after(() => server.close());
}

test("a connection that the other side does not take is closed, not kept", async (t) => {
  using folder = openFolder();
  const server = await listenFor(0, join(folder.path, "nobody"));
  t.after(() => server.close());
  const { port } = server.address() as { port: number };
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => {});
  socket.resume();
  await once(socket, "close");
});

test("the program runs when the relay listens; its status and its words are passed on", async (t) => {
  using folder = openFolder();
  const path = join(folder.path, "socket");
  await serveAt(path, t);
  const run = (script: string) =>
    runToEnd(process.execPath, [RELAY, "18091", path, "--", "/bin/sh", "-c", script]);
  const asked = await run("curl -s --noproxy '*' http://127.0.0.1:18091/x; exit 7");
  assert.deepEqual([asked.exit, asked.out], [7, "served /x"]);
  assert.equal((await run("kill -9 $$")).exit, 137);
});
