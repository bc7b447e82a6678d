/**
 * A network that is not ours: a namespace with a public address of its own, which this machine
 * reaches, and a collector in it that keeps whatever arrives there, by TCP or UDP, on any port that
 * it was told. Needs root, and iproute2.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { eventually } from "./eventually.ts";
import { runToEnd } from "./installation.ts";

export interface Outside extends AsyncDisposable {
  /** Where the collector listens; routed to nobody else, and no private address. */
  readonly address: string;
  /** This machine's own, in that network. */
  readonly gate: string;
  readonly ports: { http: number; udp: number };
  /** What arrived so far, a line each: protocol, port, and the first bytes. */
  arrived(): readonly string[];
  /** An address of the collector's that answers 302 to itself. */
  readonly url: string;
}

const COLLECTOR = `
import { createServer } from "node:net";
import { createSocket } from "node:dgram";
const say = (text) => process.stdout.write(JSON.stringify(text) + "\\n");
const [http, udp] = [8099, 8053];
createServer((socket) => {
  say("tcp " + http + " connected");
  socket.on("data", (bytes) => {
    say("tcp " + http + " " + bytes.toString("latin1").slice(0, 2000));
    socket.end("HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok");
  });
  socket.on("error", () => {});
}).listen(http, "::", () => say("listening"));
const packets = createSocket("udp6");
packets.on("message", (bytes) => say("udp " + udp + " " + bytes.toString("latin1").slice(0, 2000)));
packets.bind(udp, "::", () => say("listening"));
`;

/** Why there cannot be one here; null when there can. */
export async function whyNoOutside(): Promise<string | null> {
  if (process.getuid?.() !== 0) return "namespaces of the test's own need root";
  const { exit } = await runToEnd("ip", ["-V"]).catch(() => ({ exit: 1 }));
  return exit === 0 ? null : "iproute2 is not installed";
}

/** @param number from 0 to 250: tests that run at once take different ones. */
export async function openOutside(number: number): Promise<Outside> {
  const name = `autocode-out-${number}`;
  const address = `11.77.${number}.2`;
  const gate = `11.77.${number}.1`;
  await ip("netns", "add", name);
  await using opening = new AsyncDisposableStack();
  opening.defer(async () => void (await runToEnd("ip", ["netns", "del", name])));
  const link = `aco${number}`;
  await ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name);
  await ip("address", "add", `${gate}/24`, "dev", link);
  await ip("link", "set", link, "up");
  await ip("-n", name, "address", "add", `${address}/24`, "dev", "eth0");
  await ip("-n", name, "link", "set", "eth0", "up");
  await ip("-n", name, "link", "set", "lo", "up");
  const child = spawn(
    "ip",
    ["netns", "exec", name, process.execPath, "--input-type=module", "-e", COLLECTOR],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  opening.defer(async () => {
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  });
  const lines: string[] = [];
  createInterface(child.stdout).on("line", (line) => lines.push(JSON.parse(line) as string));
  await eventually(
    () => lines.filter((line) => line === "listening").length,
    (count) => count === 2,
  );
  const opened = opening.move();
  return {
    address,
    gate,
    url: `http://${address}:8099`,
    ports: { http: 8099, udp: 8053 },
    arrived: () => lines.filter((line) => line !== "listening"),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function ip(...args: string[]): Promise<void> {
  const { exit, err } = await runToEnd("ip", args);
  if (exit !== 0) throw new Error(`ip ${args.join(" ")}: ${err}`);
}
