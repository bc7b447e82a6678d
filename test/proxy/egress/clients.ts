/** Clients of the tests: programs as workers run them, and sockets for what none would send. */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { delimiter } from "node:path";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import type { World } from "./world.ts";

export interface Ran {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program with a worker's environment and nothing of ours but the path to programs. */
export function runAs(
  world: World,
  file: string,
  args: readonly string[],
  { cwd = world.folder, env = {} }: { cwd?: string; env?: Record<string, string> } = {},
): Promise<Ran> {
  const path = [process.execPath.replace(/\/[^/]+$/, ""), process.env["PATH"]].join(delimiter);
  const proxies = { HTTPS_PROXY: world.proxyUrl, HTTP_PROXY: world.proxyUrl };
  const lower = { https_proxy: world.proxyUrl, http_proxy: world.proxyUrl, no_proxy: "" };
  return new Promise((resolve) => {
    execFile(
      file,
      [...args],
      {
        cwd,
        timeout: 120_000,
        maxBuffer: 64 * 1024 * 1024,
        env: { PATH: path, HOME: world.folder, ...proxies, ...lower, NO_PROXY: "", ...env },
      },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ status, stdout, stderr });
      },
    );
  });
}

export function curl(world: World, ...args: string[]): Promise<Ran> {
  const always = [
    "-sS",
    "--suppress-connect-headers",
    "--max-time",
    "60",
    "--cacert",
    world.caFile,
  ];
  return runAs(world, "curl", [...always, ...args]);
}

const CREDENTIALS = `Proxy-Authorization: Basic ${btoa("worker:pass")}\r\n`;

/** A connection to the proxy itself. */
export async function openSocket(world: World): Promise<Socket> {
  const { hostname, port } = new URL(world.proxy.url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

/** A tunnel; `head` is what the proxy answered. */
export async function openTunnel(
  world: World,
  authority: string,
  credentials = CREDENTIALS,
): Promise<{ socket: Socket; head: string }> {
  const socket = await openSocket(world);
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials}\r\n`);
  let head = "";
  while (!head.includes("\r\n\r\n")) {
    const [chunk] = await Promise.race([once(socket, "data"), once(socket, "close")]);
    if (!Buffer.isBuffer(chunk)) break;
    head += chunk.toString("latin1");
  }
  return { socket, head };
}

/** TLS through a tunnel. */
export async function openTls(
  world: World,
  authority: string,
  options: ConnectionOptions = {},
): Promise<TLSSocket> {
  const { socket } = await openTunnel(world, authority);
  const name = authority.replace(/:\d+$/, "");
  const secure = connectTls({
    ...{ socket, ca: world.ca, servername: name, ALPNProtocols: ["http/1.1"] },
    ...options,
  });
  secure.on("error", () => undefined);
  await Promise.race([
    once(secure, "secureConnect"),
    once(secure, "close").then(() => Promise.reject(new Error("TLS was refused"))),
  ]);
  return secure;
}

/** All that comes until the other end closes. */
export async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  if (!socket.closed) await once(socket, "close");
  return Buffer.concat(chunks).toString("latin1");
}

/** Writes these bytes on a tunnel's TLS, and reads until it is closed. */
export async function sendRaw(world: World, authority: string, bytes: string): Promise<string> {
  const secure = await openTls(world, authority);
  const answer = readAll(secure);
  secure.write(bytes, "latin1");
  return await answer;
}
