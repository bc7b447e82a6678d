/**
 * A network namespace of an allocation's own: one link to the host, whose other end the host guards
 * (`firewall.ts`), with relays to the proxy and the gateway on the host's end.
 *
 * Nothing of it needs to be removed by somebody else: the namespace lives as long as we and its
 * processes do, the link as long as the namespace, and the table is found by its link.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { type FileHandle, open, readFile, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { pause } from "../clock.ts";
import { messageOf } from "../faults.ts";
import { enter } from "./enter.ts";
import { type Firewall, FirewallGone, type Link, raiseFirewall } from "./firewall.ts";
import type { Isolation, IsolationRequest } from "./isolate.ts";
import { CLEAN_ENV, findPrograms, runProgram } from "./programs.ts";
import { openRelay, relayedUrl } from "./relay.ts";
import { realpathOrNull, seclude } from "./seclusion.ts";

const PACKAGES = {
  ip: "iproute2",
  nft: "nftables",
  setpriv: "util-linux",
  nsenter: "util-linux",
  unshare: "util-linux",
  mount: "mount",
  mkdir: "coreutils",
  ln: "coreutils",
  env: "coreutils",
  sh: "dash",
  bash: "bash",
} as const;
type Programs = Readonly<Record<keyof typeof PACKAGES, string>>;

/** Private networks of 2^14 links each; the first that the host has no address in is ours. */
const POOLS = ["10.213", "172.29", "192.168"];
const LINKS = 2 ** 14;
const TRIES = 64;
/** Unique local addresses (RFC 4193), the last 16 bits by the link's number. */
const POOL_V6 = "fd61:7574:6f63:6f64::";
const INNER_MAC = "02:00:00:00:00:02";
const COUNT_EVERY_MS = 1_000;

/** @throws Error saying what this host does not let us do. */
export async function openNamespace(request: IsolationRequest): Promise<Isolation> {
  if (process.getuid?.() !== 0) throw new Error("no namespace: only root may make one");
  const programs = findPrograms(PACKAGES);
  await using undo = new AsyncDisposableStack();
  const made = await makeNetwork(programs);
  undo.defer(() => made.close());
  const link = await makeLink(programs, made.pid, request.allocationId);
  // Ours keeps it; who held it until now may go.
  made.let();
  const { proxyUrl, gatewayUrl } = request;
  const place = { host: link.hostAddress };
  const proxy = undo.use(await openRelay(place, proxyUrl));
  const gateway = gatewayUrl === null ? null : undo.use(await openRelay(place, gatewayUrl));
  const ports = [proxy.port, ...(gateway === null ? [] : [gateway.port])];
  const firewall = await raiseFirewall(programs.nft, link, ports);
  undo.defer(() => firewall.remove());
  // Before the table: whoever may still be in there has no link without it.
  undo.defer(async () => {
    await runProgram(programs.ip, ["link", "delete", link.name]).catch(() => {});
  });
  const stopLink = () => runProgram(programs.ip, ["link", "set", link.name, "down"]);
  undo.use(followDrops(link, firewall, { ...request, stopLink }));

  const resolver = await writeResolver(request.rooms.side, link);
  const network = `/proc/${process.pid}/fd/${made.fd}`;
  const entrance = { programs, network, resolver };
  const wrap: Isolation["wrap"] = (command) =>
    enter(entrance, seclude(request, command.env["PATH"] ?? ""), request.rooms, command);
  await tryIt(programs, wrap, request, { address: link.hostAddress, port: proxy.port });
  const all = undo.move();
  return {
    kind: "namespace",
    detail: "a network namespace: the proxy and the gateway alone; the rest is dropped and counted",
    proxyUrl: relayedUrl(proxyUrl, link.hostAddress, proxy.port),
    gatewayUrl:
      gatewayUrl === null || gateway === null
        ? null
        : relayedUrl(gatewayUrl, link.hostAddress, gateway.port),
    wrap,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

interface Network {
  /** A process in it, until `let`. */
  readonly pid: number;
  readonly fd: number;
  let(): void;
  close(): Promise<void>;
}

async function makeNetwork({ unshare, sh }: Programs): Promise<Network> {
  // It ends with its input, and so with us.
  const holder = spawn(unshare, ["--net", sh, "-c", "echo; read -r _"], {
    env: CLEAN_ENV,
    stdio: ["pipe", "pipe", "pipe"],
  });
  let complaint = "";
  holder.stderr.on("data", (bytes: Buffer) => {
    complaint += bytes;
  });
  holder.stdin.on("error", () => holder.stdin.destroy());
  const gone = new Promise<void>((resolve) => holder.once("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    holder.once("error", reject);
    holder.stdout.once("data", resolve);
    holder.once("close", () => reject(new Error(`no namespace: ${complaint.trim()}`)));
  });
  const pid = holder.pid ?? 0;
  let file: FileHandle;
  try {
    file = await open(`/proc/${pid}/ns/net`);
  } catch (error) {
    holder.stdin.end();
    throw error;
  }
  return {
    pid,
    fd: file.fd,
    let: () => holder.stdin.end(),
    close: async () => {
      holder.stdin.end();
      await gone;
      await file.close();
    },
  };
}

/** Both ends with addresses, and each with the other's hardware address: nothing need be asked. */
async function makeLink(
  { ip, nsenter }: Programs,
  pid: number,
  allocationId: string,
): Promise<Link> {
  const tag = createHash("sha256").update(allocationId).digest();
  const mac = ["02", ...(tag.toString("hex", 0, 5).match(/../g) ?? [])].join(":");
  const pool = freePool();
  const hasV6 = await isV6On();
  const first = tag.readUInt16BE(8) % LINKS;
  let refusal: unknown = null;
  for (let tried = 0; tried < TRIES; tried++) {
    const index = (first + tried) % LINKS;
    const link = linkOf(pool, index, mac);
    const { name, hostAddress, innerAddress } = link;
    try {
      // The kernel gives a name once: whoever has it has the addresses.
      await batch([
        `link add ${name} address ${mac} type veth peer name eth0 address ${INNER_MAC} netns ${pid}`,
      ]);
    } catch (error) {
      refusal = error;
      if (/exists/i.test(messageOf(error))) continue;
      break;
    }
    const [hostV6, innerV6] = [
      `${POOL_V6}${hex(index * 4 + 1)}`,
      `${POOL_V6}${hex(index * 4 + 2)}`,
    ];
    await batch([
      `addr add ${hostAddress}/30 dev ${name}`,
      ...(hasV6 ? [`addr add ${hostV6}/126 dev ${name} nodad`] : []),
      `link set ${name} up`,
      `neigh replace ${innerAddress} lladdr ${INNER_MAC} dev ${name} nud permanent`,
      ...(hasV6 ? [`neigh replace ${innerV6} lladdr ${INNER_MAC} dev ${name} nud permanent`] : []),
    ]);
    await batch(
      [
        "link set lo up",
        `addr add ${innerAddress}/30 dev eth0`,
        ...(hasV6 ? [`addr add ${innerV6}/126 dev eth0 nodad`] : []),
        "link set eth0 up",
        `neigh replace ${hostAddress} lladdr ${mac} dev eth0 nud permanent`,
        // So that what is tried comes to where it is counted.
        `route add default via ${hostAddress}`,
        ...(hasV6
          ? [
              `neigh replace ${hostV6} lladdr ${mac} dev eth0 nud permanent`,
              `route add default via ${hostV6}`,
            ]
          : []),
      ],
      pid,
    );
    return link;
  }
  throw new Error(`no namespace: ${messageOf(refusal)}`);

  async function batch(lines: readonly string[], inside: number | null = null): Promise<void> {
    const input = `${lines.join("\n")}\n`;
    const enter = inside === null ? [] : [nsenter, `--net=/proc/${inside}/ns/net`];
    const [file = ip, ...args] = [...enter, ip, "-batch", "-"];
    await runProgram(file, args, { input });
  }
}

function linkOf(pool: string, index: number, mac: string): Link {
  const address = (last: number) => `${pool}.${index >> 6}.${((index & 63) << 2) + last}`;
  return {
    name: `autocode${index}`,
    mac,
    hostAddress: address(1),
    innerAddress: address(2),
  };
}

function hex(number: number): string {
  return number.toString(16);
}

function freePool(): string {
  const taken = Object.entries(networkInterfaces())
    .filter(([name]) => !/^autocode\d+$/.test(name))
    .flatMap(([, ends = []]) => ends.map(({ address }) => address));
  const pool = POOLS.find((prefix) => !taken.some((address) => address.startsWith(`${prefix}.`)));
  if (pool === undefined) throw new Error(`no namespace: the host is in ${POOLS.join(", ")}`);
  return pool;
}

async function isV6On(): Promise<boolean> {
  const setting = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
  return (await readFile(setting, "utf8").catch(() => "1")).trim() === "0";
}

/** Names are asked for at the host's end, where each question is refused and counted. */
async function writeResolver(folder: string, { hostAddress }: Link) {
  const file = join(folder, "resolv.conf");
  await writeFile(file, `nameserver ${hostAddress}\noptions attempts:1 timeout:1\n`, {
    mode: 0o644,
  });
  return { file, at: realpathOrNull("/etc/resolv.conf") };
}

/**
 * Asks for the counters when packets have come, and once at the end. Where the firewall is gone,
 * nothing of what comes is held: the link goes down first, then it is told.
 */
function followDrops(
  link: Link,
  firewall: Firewall,
  {
    onDropped,
    onLost,
    stopLink,
  }: Pick<IsolationRequest, "onDropped" | "onLost"> & { stopLink(): Promise<unknown> },
): AsyncDisposable {
  const over = new AbortController();
  let isLost = false;
  let seen: string | null = null;
  const following = follow();
  return {
    [Symbol.asyncDispose]: async () => {
      over.abort();
      await following;
      await tell(true);
    },
  };

  async function follow(): Promise<void> {
    while (!over.signal.aborted && !isLost) {
      await pause(COUNT_EVERY_MS, over.signal);
      if (over.signal.aborted) return;
      const path = `/sys/class/net/${link.name}/statistics/rx_packets`;
      const received = await readFile(path, "utf8").catch(() => null);
      if (received !== null && received === seen) continue;
      seen = received;
      await tell();
    }
  }

  async function tell(isLast = false): Promise<void> {
    if (isLost) return;
    try {
      for (const dropped of await firewall.count(isLast)) onDropped(dropped);
    } catch (error) {
      // A look that fails costs a count, and no trial; the firewall's absence does.
      if (error instanceof FirewallGone) await lose(error.message);
    }
  }

  async function lose(why: string): Promise<void> {
    isLost = true;
    const stopped = await stopLink().then(() => "its link is down", messageOf);
    onLost(`${why}; ${stopped}`);
  }
}

/** As its user, in all of it: a mount that is refused, or a host's firewall, shows here. */
async function tryIt(
  { bash }: Programs,
  wrap: Isolation["wrap"],
  { rooms, runAs }: IsolationRequest,
  { address, port }: { address: string; port: number },
): Promise<void> {
  const probe = `exec 3<>/dev/tcp/${address}/${port}`;
  const wrapped = wrap({ file: bash, args: ["-c", probe], env: CLEAN_ENV, cwd: rooms.tmp, runAs });
  try {
    await runProgram(wrapped.file, wrapped.args, { env: wrapped.env, cwd: wrapped.cwd });
  } catch (error) {
    throw new Error(
      `no namespace: ${messageOf(error)}; where the host has a firewall, let it accept what ` +
        'comes in by iifname "autocode*" (our own table has dropped the rest before)',
    );
  }
}
