/**
 * mitmproxy as the egress proxy: runs `mitmdump` with our addon as a child, and answers the addon's
 * questions over a unix socket (`bridge.ts`).
 *
 * Invariants: no secret is in its arguments, its environment or on a disk; while it does not run,
 * or its bridge does not answer, nothing passes. It ends with us: the socket's end ends it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { getCACertificates } from "node:tls";
import { Problem } from "../../orchestrator/problem.ts";
import { type BridgeDependencies, serveBridge } from "./bridge.ts";
import type { EgressProxy, EgressSession } from "./guard.ts";

const START_MS = 60_000;
const GRACE_MS = 3_000;
const BACKOFF_MS = 250;
const BACKOFF_MAX_MS = 15_000;
/** A child that lived this long had started well: the next pause is the first one again. */
const SETTLED_MS = 30_000;
/** A thinking model may say nothing for minutes. */
const IDLE_TIMEOUT_MS = 600_000;
const WORDS_MAX = 2_000;
/** Of a unix socket's path, on every system that has them. */
const SOCKET_PATH_MAX = 100;
const ADDON = join(import.meta.dirname, "addon.py");
const INSTALLED = join(import.meta.dirname, "../../.engines/mitmproxy/mitmdump");
const PATH = "/usr/local/bin:/usr/bin:/bin";

export interface MitmproxyOptions {
  /** mitmproxy's program; null: as `npm run engines mitmproxy` installs it, else by its name. */
  mitmdump: string | null;
  host: string;
  /** 0: any free port; it stays the same over restarts. */
  port: number;
  /** Made when it is not there, and closed to everybody else; holds no secret. */
  dir: string;
  /** `transparent`: also for connections that the network leads to us, unknown to the worker. */
  mode: "regular" | "transparent";
  transparentPort?: number;
  /** Whose connection it is in transparent mode, by the client's address. */
  sessionByAddress?: (address: string) => Promise<EgressSession | null>;
  /** PEM of authorities that servers may be signed by, beside the system's. */
  extraCa?: string | null;
  /** Without a byte either way; whole seconds to mitmproxy. */
  idleTimeoutMs?: number;
}

export interface Mitmproxy extends EgressProxy {
  /** Where the network leads connections to; null in regular mode. */
  readonly transparentPort: number | null;
  /** Of the child that runs now; null while none does. */
  pid(): number | null;
}

interface Ports {
  regular: number;
  transparent: number;
}

/**
 * Resolves once it listens.
 *
 * @throws Problem `unavailable` with mitmdump's own words when it is not there or does not start.
 */
export async function openMitmproxy(
  deps: BridgeDependencies,
  options: MitmproxyOptions,
): Promise<Mitmproxy> {
  const { log } = deps;
  const { dir, host, mode } = options;
  const socketPath = join(dir, "bridge.sock");
  const files = { trusted: join(dir, "upstream.pem"), configuration: join(dir, "mitmproxy") };
  const ports: Ports = { regular: options.port, transparent: options.transparentPort ?? 0 };
  let child: ChildProcess | null = null;
  let fault: string | null = "mitmproxy has not started";
  let isStarted = false;
  let isClosing = false;
  let backoffMs = BACKOFF_MS;
  let restart: NodeJS.Timeout | undefined;
  let onListening: (() => void) | null = null;
  const sockets = new Set<Socket>();
  // mitmproxy takes two free ports for the same one.
  if (mode === "transparent" && ports.transparent === 0) ports.transparent = await freePort(host);
  await prepare();
  const server = await listen();
  try {
    await start();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    engine: "mitmproxy",
    url: `http://${host.includes(":") ? `[${host}]` : host}:${ports.regular}`,
    transparentPort: mode === "transparent" ? ports.transparent : null,
    pid: () => child?.pid ?? null,
    fault: () => Promise.resolve(fault),
    [Symbol.asyncDispose]: close,
  };

  async function prepare(): Promise<void> {
    if (Buffer.byteLength(socketPath) > SOCKET_PATH_MAX) {
      throw new Problem(
        "invalid_request",
        `The folder ${dir} has too long a path for a unix socket in it: use a shorter one`,
      );
    }
    for (const folder of [dir, files.configuration]) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await chmod(folder, 0o700);
    }
    await rm(socketPath, { force: true });
    const trusted = [...getCACertificates("default"), options.extraCa ?? ""];
    await writeFile(files.trusted, `${trusted.join("\n")}\n`, { mode: 0o600 });
  }

  function listen(): Promise<Server> {
    const made = createServer((socket) => {
      sockets.add(socket);
      socket.once("close", () => {
        sockets.delete(socket);
        fault ??= "mitmproxy has left its bridge, and is ending";
      });
      const { sessionByAddress = null } = options;
      serveBridge(socket, deps, { sessionByAddress, onReady });
    });
    return new Promise((resolve, reject) => {
      made.once("error", reject);
      made.listen(socketPath, () => resolve(made));
    });
  }

  function onReady(listening: readonly (readonly [string, string, number])[]): void {
    for (const [name, , port] of listening) {
      if (name === "regular" || name === "transparent") ports[name] = port;
    }
    fault = null;
    onListening?.();
  }

  /** Starts a child and waits until it listens. */
  async function start(): Promise<void> {
    const startedMs = deps.clock.now();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      child?.kill("SIGKILL");
      reject(unavailable(`it did not listen within ${START_MS / 1_000} s`));
    }, START_MS);
    onListening = resolve;
    const started = spawnMitmdump(reject);
    child = started.child;
    started.child.once("exit", (code, signal) => {
      child = null;
      const words = started.words().trim();
      fault = `mitmproxy ended with ${signal ?? code}${words === "" ? "" : `: ${words}`}`;
      reject(unavailable(`it ended with ${signal ?? code}: ${words}`));
      if (isClosing) return;
      if (deps.clock.now() - startedMs > SETTLED_MS) backoffMs = BACKOFF_MS;
      if (isStarted) again();
    });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      onListening = null;
    }
    isStarted = true;
  }

  function again(): void {
    log.error({ fault, restart_in_ms: backoffMs }, "egress proxy ended, is started again");
    restart = setTimeout(() => {
      // How it failed is in `fault`; its end has asked for the next start already.
      start().catch((error: unknown) => {
        fault = error instanceof Error ? error.message : String(error);
      });
    }, backoffMs);
    backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
  }

  function spawnMitmdump(onError: (error: Error) => void) {
    let said = "";
    const started = spawn(programOf(options.mitmdump), argumentsOf(), {
      cwd: dir,
      env: { PATH, HOME: dir, LANG: "C.UTF-8", PYTHONDONTWRITEBYTECODE: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [started.stdout, started.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        said = (said + bytes).slice(-WORDS_MAX);
      });
    }
    started.once("error", (error) => onError(unavailable(error.message)));
    return { child: started, words: () => said };
  }

  function argumentsOf(): string[] {
    const settings = [
      `confdir=${files.configuration}`,
      `autocode_bridge=${socketPath}`,
      `ssl_verify_upstream_trusted_ca=${files.trusted}`,
      `tcp_timeout=${Math.ceil((options.idleTimeoutMs ?? IDLE_TIMEOUT_MS) / 1_000)}`,
      "connection_strategy=lazy",
      // Neither asks a server before the guard did.
      "upstream_cert=false",
      // Workers may have any address; who they are the guard knows.
      "block_global=false",
      "onboarding=false",
      "http3=false",
      "rawtcp=false",
      "termlog_verbosity=error",
    ];
    const modes = [`regular@${listenAt(ports.regular)}`];
    if (mode === "transparent") modes.push(`transparent@${listenAt(ports.transparent)}`);
    return [
      ...["-q", "-s", ADDON],
      ...modes.flatMap((one) => ["--mode", one]),
      ...settings.flatMap((setting) => ["--set", setting]),
    ];
  }

  function listenAt(port: number): string {
    return `${host}:${port}`;
  }

  async function close(): Promise<void> {
    isClosing = true;
    clearTimeout(restart);
    fault = "mitmproxy was closed";
    const ending = child;
    if (ending !== null && ending.exitCode === null && ending.signalCode === null) {
      const ended = new Promise((resolve) => ending.once("exit", resolve));
      ending.kill("SIGTERM");
      const timer = setTimeout(() => ending.kill("SIGKILL"), GRACE_MS);
      await ended;
      clearTimeout(timer);
    }
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    await rm(socketPath, { force: true });
  }
}

function freePort(host: string): Promise<number> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function programOf(given: string | null): string {
  return given ?? (existsSync(INSTALLED) ? INSTALLED : "mitmdump");
}

function unavailable(words: string): Problem {
  return new Problem(
    "unavailable",
    `mitmproxy does not start: ${words.trim()}. Install it with "npm run engines mitmproxy", or name ` +
      "its mitmdump in AUTOCODE_MITMDUMP",
  );
}
