/**
 * A network of loopback alone, made by bubblewrap (bwrap(1)) with no rights of the host: the proxy
 * and the gateway are behind Unix sockets; a relay inside (`sandbox-relay.ts`) listens for them.
 *
 * Every program that is started has a sandbox of its own. The host's files are read-only but for
 * the allocation's rooms. What is tried beside the relays fails at once, and is seen by nobody.
 */
import { chmodSync } from "node:fs";
import { chmod, copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf } from "../faults.ts";
import type { Command, Isolation, IsolationRequest } from "./isolate.ts";
import { CLEAN_ENV, findPrograms, runProgram } from "./programs.ts";
import { openRelay, relayedUrl } from "./relay.ts";
import { isWithin, realpathOrNull, type Seclusion, seclude } from "./seclusion.ts";

const PACKAGES = { bwrap: "bubblewrap", env: "coreutils", bash: "bash" } as const;
type Programs = Readonly<Record<keyof typeof PACKAGES, string>>;

const LOOPBACK = "127.0.0.1";
/** Of a network in which nobody else listens; below those that a client's end is given. */
const PORTS = { proxy: 18_080, gateway: 18_081 };

/** @throws Error saying what this host does not let us do. */
export async function openSandbox(request: IsolationRequest): Promise<Isolation> {
  const programs = findPrograms(PACKAGES);
  const { rooms, proxyUrl, gatewayUrl, runAs } = request;
  await using undo = new AsyncDisposableStack();
  // Short: a socket's path has 107 bytes at most. The trial's user alone connects.
  const dir = await mkdtemp(join(tmpdir(), "autocode-"));
  undo.defer(() => rm(dir, { recursive: true, force: true }));
  await chmod(dir, runAs === null ? 0o700 : 0o711);
  const served = [
    { name: "proxy", port: PORTS.proxy, url: proxyUrl },
    ...(gatewayUrl === null ? [] : [{ name: "gateway", port: PORTS.gateway, url: gatewayUrl }]),
  ];
  const relays: { port: number; path: string }[] = [];
  for (const { name, port, url } of served) {
    const path = join(dir, name);
    undo.use(await openRelay({ path }, url));
    if (runAs !== null) chmodSync(path, 0o666);
    relays.push({ port, path });
  }
  const relayFile = join(rooms.side, "sandbox-relay.mts");
  await copyFile(join(import.meta.dirname, "sandbox-relay.ts"), relayFile);
  const noNames = join(rooms.side, "resolv.conf");
  await writeFile(noNames, "");
  const wrap: Isolation["wrap"] = (command) => {
    const seclusion = seclude(request, command.env["PATH"] ?? "");
    return enterSandbox(
      programs,
      { seclusion, tmp: rooms.tmp, dir, relays, relayFile, noNames },
      command,
    );
  };
  await tryIt(programs, wrap, request);
  const all = undo.move();
  return {
    kind: "sandbox",
    detail:
      "a sandbox of bubblewrap: loopback alone, with relays to the proxy and the gateway; what is " +
      "tried beside them fails, and is not counted",
    proxyUrl: relayedUrl(proxyUrl, LOOPBACK, PORTS.proxy),
    gatewayUrl: gatewayUrl === null ? null : relayedUrl(gatewayUrl, LOOPBACK, PORTS.gateway),
    wrap,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

interface Inside {
  readonly seclusion: Seclusion;
  readonly tmp: string;
  readonly dir: string;
  readonly relays: readonly { port: number; path: string }[];
  readonly relayFile: string;
  /** An empty list of name servers. */
  readonly noNames: string;
}

function enterSandbox({ bwrap, env }: Programs, inside: Inside, command: Command): Command {
  const relays = inside.relays.flatMap(({ port, path }) => [String(port), path]);
  return {
    file: env,
    args: [
      // Told to end, bubblewrap waits for the program, which is told by the same signal.
      "--ignore-signal=TERM",
      ...[bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"],
      ...["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"],
      ...mounts(inside),
      ...["--chdir", command.cwd, "--"],
      ...[process.execPath, inside.relayFile, ...relays, "--"],
      ...[command.file, ...command.args],
    ],
    env: command.env,
    cwd: "/",
    runAs: command.runAs,
  };
}

function mounts({ seclusion, tmp, dir, noNames }: Inside): string[] {
  const { hidden, asTmp, kept } = seclusion;
  const names = realpathOrNull("/etc/resolv.conf");
  const isSeen = names !== null && !hidden.some((folder) => isWithin(folder, names));
  return [
    ...hidden.flatMap((folder) =>
      asTmp.includes(folder) ? ["--bind", tmp, folder] : ["--tmpfs", folder],
    ),
    ...kept.flatMap(({ path, source, isWritable }) => [
      ...[isWritable ? "--bind" : "--ro-bind", source, path],
    ]),
    ...["--ro-bind", dir, dir],
    ...(isSeen ? ["--ro-bind", noNames, names] : []),
  ];
}

/** As its user, in all of it. */
async function tryIt(
  { bash }: Programs,
  wrap: Isolation["wrap"],
  { rooms, runAs }: IsolationRequest,
): Promise<void> {
  const probe = `exec 3<>/dev/tcp/${LOOPBACK}/${PORTS.proxy}`;
  const wrapped = wrap({ file: bash, args: ["-c", probe], env: CLEAN_ENV, cwd: rooms.tmp, runAs });
  try {
    const options = { env: wrapped.env, cwd: wrapped.cwd, ...(runAs ?? {}) };
    await runProgram(wrapped.file, wrapped.args, options);
  } catch (error) {
    throw new Error(`no sandbox: ${messageOf(error)}`);
  }
}
