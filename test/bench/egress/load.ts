/** Load of the egress bench: requests over TLS on connections that stay, through a proxy or not. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export interface Target {
  /** Null: directly. */
  proxyUrl: string | null;
  port: number;
}

export interface Measured {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  failed: number;
}

/** `connections` at once, each with its next request once the last was answered, for `forMs`. */
export async function run(target: Target, connections: number, forMs: number): Promise<Measured> {
  const sockets = await Promise.all(Array.from({ length: connections }, () => open(target)));
  const request = `GET /1k HTTP/1.1\r\nHost: localhost:${target.port}\r\n\r\n`;
  const latencies: number[] = [];
  let failed = 0;
  const startedMs = performance.now();
  const endMs = startedMs + forMs;
  await Promise.all(sockets.map(drive));
  const tookMs = performance.now() - startedMs;
  for (const socket of sockets) socket.destroy();
  latencies.sort((a, b) => a - b);
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? Number.NaN;
  return {
    perSecond: (latencies.length / tookMs) * 1_000,
    ...{ p50Ms: at(0.5), p99Ms: at(0.99), failed },
  };

  async function drive(socket: Socket): Promise<void> {
    while (performance.now() < endMs) {
      const askedMs = performance.now();
      socket.write(request);
      if ((await readAnswer(socket)) !== 200) {
        failed++;
        return;
      }
      latencies.push(performance.now() - askedMs);
    }
  }
}

function readAnswer(socket: Socket): Promise<number> {
  let bytes = Buffer.alloc(0);
  return new Promise((resolve) => {
    const done = (status: number) => {
      socket.off("data", onData).off("close", onClose);
      resolve(status);
    };
    const onClose = () => done(0);
    const onData = (chunk: Buffer) => {
      bytes = bytes.length === 0 ? Buffer.from(chunk) : Buffer.concat([bytes, chunk]);
      const head = bytes.indexOf("\r\n\r\n");
      if (head === -1) return;
      const text = bytes.toString("latin1", 0, head);
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (bytes.length >= head + 4 + length) done(Number(text.slice(9, 12)));
    };
    socket.on("data", onData).once("close", onClose);
  });
}

async function open({ proxyUrl, port }: Target): Promise<Socket> {
  const raw = proxyUrl === null ? connect(port, "127.0.0.1") : await tunnel(proxyUrl, port);
  // Whose certificate it is, is not what is measured.
  const secure = connectTls({ socket: raw, servername: "localhost", rejectUnauthorized: false });
  secure.on("error", () => undefined);
  await once(secure, "secureConnect");
  return secure;
}

async function tunnel(proxyUrl: string, port: number): Promise<Socket> {
  const { hostname, port: proxyPort, username, password } = new URL(proxyUrl);
  const socket = connect(Number(proxyPort), hostname);
  socket.on("error", () => undefined);
  const credentials = `Proxy-Authorization: Basic ${btoa(`${username}:${password}`)}\r\n`;
  socket.write(
    `CONNECT localhost:${port} HTTP/1.1\r\nHost: localhost:${port}\r\n${credentials}\r\n`,
  );
  const [answer] = await once(socket, "data");
  if (!String(answer).startsWith("HTTP/1.1 200")) throw new Error(String(answer));
  return socket;
}
