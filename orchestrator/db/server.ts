/**
 * Our own PostgreSQL server: a process of its own session under a data folder, so that Ctrl-C and
 * the death of the orchestrator do not reach it before we say so.
 *
 * absent → initialised (once: the data folder appears by a rename) → starting → ready → stopped.
 * A server that dies while it should run is started again on its port. A server that a killed
 * orchestrator left behind is stopped by the next start: nobody else may run one here, since
 * the folder's lock is held first.
 *
 *     <dir>/data        PostgreSQL's own        <dir>/password     of the role autocode, 0600
 *     <dir>/lib         links to libraries      <dir>/server.log   what the server says
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  chmod,
  chown,
  type FileHandle,
  mkdir,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { Problem } from "../problem.ts";
import type { Log } from "../runtime/log.ts";
import { systemRandom } from "../runtime/random.ts";
import {
  type Binaries,
  findServerUser,
  firstClosedFolder,
  prepareBinaries,
  type ServerUser,
} from "./binaries.ts";
import { lockFolder } from "./folder-lock.ts";

const execFileAsync = promisify(execFile);

const ROLE = "autocode";
const POLL_MS = 20;
const START_MS = 60_000;
const STOP_FAST_MS = 30_000;
const STOP_IMMEDIATE_MS = 10_000;
const RESTART_DELAY_MS = 300;
const RESTARTS_MAX = 20;
const LOG_BYTES_MAX = 10_000_000;

export interface ServerOptions {
  dir: string;
  log: Log;
  /** PostgreSQL settings on top of ours; for tests. */
  settings?: Readonly<Record<string, string>>;
}

export interface Server extends AsyncDisposable {
  readonly url: string;
  /** The postmaster's process id: it changes when the server has to be started again. */
  pid(): number;
}

/**
 * Starts the server of `dir`, initialising it the first time.
 *
 * @throws Problem `conflict` (another autocode has the folder), `invalid_request` (it cannot be
 * written or reached), `unavailable` (the server does not start; its last words are in `detail`).
 */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { dir, log } = options;
  const lock = await lockFolder(dir);
  try {
    const user = await findServerUser();
    const closed = await firstClosedFolder(dir, user);
    if (closed !== null) {
      throw new Problem(
        "invalid_request",
        `PostgreSQL runs as user postgres (root may not run it), who may not enter ${closed}: ` +
          "set AUTOCODE_HOME to a folder it can reach, such as /var/lib/autocode",
      );
    }
    const binaries = await prepareBinaries(dir, user);
    const password = await readPassword(dir);
    const data = join(dir, "data");
    await initialise(dir, data, { binaries, user, password });
    await stopLeftOver(data, log);
    return await supervise({ ...options, data, binaries, user, password, lock });
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

interface Installation {
  binaries: Binaries;
  user: ServerUser;
  password: string;
}

async function readPassword(dir: string): Promise<string> {
  const path = join(dir, "password");
  const made = Buffer.from(systemRandom.bytes(24)).toString("base64url");
  try {
    await writeFile(path, made, { mode: 0o600, flag: "wx" });
    return made;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return (await readFile(path, "utf8")).trim();
  }
}

async function initialise(
  dir: string,
  data: string,
  { binaries, user, password }: Installation,
): Promise<void> {
  if (await exists(join(data, "PG_VERSION"))) return;
  // A crash in here leaves data.new, never half a data folder.
  const unfinished = join(dir, "data.new");
  const passwordFile = join(dir, "password.new");
  await rm(unfinished, { recursive: true, force: true });
  await rm(passwordFile, { force: true });
  await mkdir(unfinished, { mode: 0o700 });
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user !== null) {
    for (const path of [unfinished, passwordFile]) await chown(path, user.uid, user.gid);
  }
  const args = [
    `--pgdata=${unfinished}`,
    `--username=${ROLE}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    // The same order and case rules on every machine, whatever locales it has.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
  ];
  try {
    await execFileAsync(binaries.initdb, args, { env: binaries.env, cwd: "/", ...user });
  } catch (cause) {
    const { stderr = "" } = cause as { stderr?: string };
    const words = stderr.trim().split("\n").at(-1) || (cause as Error).message;
    throw new Problem("unavailable", `PostgreSQL could not be initialised: ${words}`, { cause });
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(unfinished, data);
}

/** Stops the server that a killed orchestrator left in `data`, if one runs. */
async function stopLeftOver(data: string, log: Log): Promise<void> {
  const pidFile = join(data, "postmaster.pid");
  const text = await readFile(pidFile, "utf8").catch(() => null);
  const pid = Number.parseInt(text ?? "", 10);
  if (text === null || !(pid > 0) || !isAlive(pid)) return;
  if (await isServerOf(pid, data)) {
    log.warn({ pid }, "stopping the database server of an orchestrator that was killed");
    await stopProcess(pid);
    return;
  }
  // The id now belongs to somebody else (a container restarted, say), which PostgreSQL would take
  // for a running server. The rest of the file it needs, to find shared memory still in use.
  await writeFile(pidFile, text.replace(/^\d+/, "4194303"));
}

async function isServerOf(pid: number, data: string): Promise<boolean> {
  const folder = await realpath(data);
  if (process.platform === "linux") {
    return (await readlink(`/proc/${pid}/cwd`).catch(() => "")) === folder;
  }
  const { stdout } = await execFileAsync("ps", ["-o", "args=", "-p", String(pid)]).catch(() => ({
    stdout: "",
  }));
  return stdout.includes("postgres") && (stdout.includes(data) || stdout.includes(folder));
}

async function supervise(
  context: ServerOptions & Installation & { data: string; lock: Disposable },
): Promise<Server> {
  const { dir, data, log, binaries, user, password, settings = {}, lock } = context;
  const port = await freePort();
  const url = `postgresql://${ROLE}:${password}@127.0.0.1:${port}`;
  let isStopping = false;
  let child = await launch();
  await waitUntilReady(child);
  await createDatabase(`${url}/postgres`);
  const watching = watch();
  // For a process.exit nobody awaited; a kill -9 is the next start's to clean up.
  const stopAtExit = () => child.kill("SIGINT");
  process.on("exit", stopAtExit);
  return { url: `${url}/${ROLE}`, pid: () => child.pid ?? 0, [Symbol.asyncDispose]: stop };

  async function launch(): Promise<ChildProcess> {
    const output = await openServerLog(dir);
    const all: Record<string, string> = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      timezone: "UTC",
      log_checkpoints: "off",
      max_wal_size: "512MB",
      ...settings,
    };
    const flags = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    try {
      const launched = spawn(binaries.postgres, ["-D", data, "-p", String(port), ...flags], {
        env: binaries.env,
        cwd: "/",
        detached: true,
        stdio: ["ignore", output.fd, output.fd],
        ...user,
      });
      launched.on("error", (error) => log.error({ err: error }, "database server did not start"));
      launched.unref();
      return launched;
    } finally {
      await output.close();
    }
  }

  async function waitUntilReady(launched: ChildProcess): Promise<void> {
    for (let waitedMs = 0; waitedMs < START_MS; waitedMs += POLL_MS) {
      if (hasEnded(launched)) break;
      if (await answers(`${url}/postgres`)) return;
      await sleep(POLL_MS);
    }
    if (!hasEnded(launched) && launched.pid !== undefined) await stopProcess(launched.pid);
    throw new Problem(
      "unavailable",
      `PostgreSQL did not start: ${await lastWords(dir)} (${join(dir, "server.log")})`,
    );
  }

  /** Starts the server again whenever it ends unasked. */
  async function watch(): Promise<void> {
    let restarts = 0;
    while (!isStopping) {
      await ended(child);
      if (isStopping) return;
      const { exitCode, signalCode } = child;
      log.error({ exit_code: exitCode, signal: signalCode }, "database server ended, restarting");
      for (;;) {
        // What its processes still hold is free a moment after it died.
        await sleep(RESTART_DELAY_MS);
        if (isStopping) return;
        child = await launch();
        const failure = await waitUntilReady(child).catch((error: unknown) => error);
        if (failure === undefined) break;
        if (isStopping) return;
        log.error({ err: failure }, "database server could not be restarted");
        if (++restarts >= RESTARTS_MAX) return;
      }
    }
  }

  async function stop(): Promise<void> {
    if (isStopping) return;
    isStopping = true;
    process.off("exit", stopAtExit);
    // From here on its end is waited for, so it must keep the event loop alive.
    child.ref();
    if (!hasEnded(child) && child.pid !== undefined) await stopProcess(child.pid);
    await watching;
    // `watch` may have been starting another one.
    child.ref();
    if (!hasEnded(child) && child.pid !== undefined) await stopProcess(child.pid);
    lock[Symbol.dispose]();
  }
}

async function openServerLog(dir: string): Promise<FileHandle> {
  const path = join(dir, "server.log");
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_BYTES_MAX) await rename(path, `${path}.1`);
  const opened = await open(path, "a", 0o600);
  await chmod(path, 0o600);
  return opened;
}

/** The server's last complaint. */
async function lastWords(dir: string): Promise<string> {
  const text = await readFile(join(dir, "server.log"), "utf8").catch(() => "");
  const lines = text.trim().split("\n").slice(-30);
  const fatal = lines.findLast((line) => /FATAL|PANIC|error while loading/.test(line));
  return (fatal ?? lines.at(-1) ?? "it said nothing").replace(/^.*?(?:FATAL|PANIC): +/, "");
}

/** Whether a server lets a client in at `url` now. */
export async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  try {
    await client.connect();
  } catch {
    // Not awaited: pg may wait for the end of a connection that has already ended.
    void client.end().catch(() => {});
    return false;
  }
  await client.end();
  return true;
}

async function createDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const found = await client.query("select from pg_database where datname = $1", [ROLE]);
    if (found.rowCount === 0) await client.query(`create database ${ROLE}`);
  } finally {
    await client.end();
  }
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}

/** Ends a server: its clients are cut off, its data flushed; at once when it does not comply. */
async function stopProcess(pid: number): Promise<void> {
  for (const [signal, limitMs] of [
    ["SIGINT", STOP_FAST_MS],
    ["SIGQUIT", STOP_IMMEDIATE_MS],
  ] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    for (let waitedMs = 0; waitedMs < limitMs; waitedMs += POLL_MS) {
      if (!isAlive(pid)) return;
      await sleep(POLL_MS);
    }
  }
  throw new Problem("unavailable", `The database server (process ${pid}) does not stop`);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function hasEnded({ exitCode, signalCode, pid }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null || pid === undefined;
}

async function ended(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return;
  await new Promise((resolve) => child.once("exit", resolve));
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
