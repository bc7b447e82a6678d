/**
 * A port of loopback, for servers that must be told one. Not of the range that the system draws
 * from for whoever asks for any port, or connects: between this look and the server's start
 * somebody else would now and then be given it.
 */
import { once } from "node:events";
import { createServer } from "node:net";
import { systemRandom } from "../../orchestrator/runtime/random.ts";

const FIRST = 12_000;
/** Up to where Linux begins to draw: `net.ipv4.ip_local_port_range`. */
const COUNT = 32_768 - FIRST;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + systemRandom.below(COUNT);
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  server.listen(port, "127.0.0.1");
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}
