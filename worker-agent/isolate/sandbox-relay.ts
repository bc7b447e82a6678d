/**
 * Runs a program inside a sandbox, with relays from ports of its loopback to Unix sockets.
 *
 * `node sandbox-relay.mts <port> <socket> … -- <program> <argument> …`, as a copy of this file
 * alone: it imports nothing of ours. It ends with the program, and with its status.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { constants } from "node:os";

/** Listens at the loopback's `port`, and carries each connection to the socket. */
export async function listenFor(port: number, path: string) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const onward = connect({ path, allowHalfOpen: true });
    for (const side of [socket, onward]) side.on("error", () => side.destroy());
    onward.on("close", () => socket.destroy());
    socket.on("close", () => onward.destroy());
    socket.pipe(onward).pipe(socket);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function main(args: readonly string[]): Promise<number> {
  const end = args.indexOf("--");
  const relays = args.slice(0, end);
  const [file = "", ...rest] = args.slice(end + 1);
  for (let at = 0; at + 1 < relays.length; at += 2) {
    await listenFor(Number(relays[at]), relays[at + 1] ?? "");
  }
  // The program has the signal as well, and decides.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  const child = spawn(file, rest, { stdio: "inherit" });
  return new Promise((resolve) => {
    child.once("error", (error) => {
      process.stderr.write(`${file}: ${error.message}\n`);
      resolve(127);
    });
    child.once("exit", (code, signal) => {
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));
