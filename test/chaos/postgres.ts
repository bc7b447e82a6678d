/**
 * A PostgreSQL server to be cruel to: with its disk flushes on, killed and started again on its
 * port when a test says so, and under whatever settings, environment and disk the test gives it.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findServerUser, prepareBinaries } from "../../orchestrator/db/binaries.ts";
import { migrate } from "../../orchestrator/db/migrate.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { answers, startServer } from "../../orchestrator/db/server.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { freePort } from "../support/free-port.ts";

const START_MS = 30_000;
const STOP_MS = 10_000;
const POLL_MS = 20;

export interface StartOptions {
  settings?: Readonly<Record<string, string>>;
  env?: Readonly<Record<string, string>>;
}

export interface ChaosServer extends AsyncDisposable {
  readonly url: string;
  readonly dataDir: string;
  /** The user that the server runs as; null when that is ours. */
  readonly user: { uid: number; gid: number } | null;
  isRunning(): boolean;
  /** Resolves when it answers. @throws when it does not within half a minute. */
  start(options?: StartOptions): Promise<void>;
  /** SIGKILL: nothing is flushed, nobody is told. */
  kill(): Promise<void>;
  /** Its clients are cut off, its data flushed. */
  stop(): Promise<void>;
}

/** A server with a migrated database, initialised in `dir` and running. */
export async function openChaosServer(
  dir: string,
  options: StartOptions = {},
): Promise<ChaosServer> {
  const home = join(dir, "postgres");
  const log = createLog("silent");
  const first = await startServer({ dir: home, log });
  const { password } = new URL(first.url);
  {
    await using database = await openPostgresDatabase({ url: first.url, log });
    await migrate(database);
  }
  await first[Symbol.asyncDispose]();

  const user = await findServerUser();
  const binaries = await prepareBinaries(home, user);
  const dataDir = join(home, "data");
  const port = await freePort();
  const url = `postgresql://autocode:${password}@127.0.0.1:${port}/autocode`;
  let child: ChildProcess | null = null;
  await start(options);
  return { url, dataDir, user, isRunning, start, kill, stop, [Symbol.asyncDispose]: stop };

  function isRunning(): boolean {
    return child !== null && child.exitCode === null && child.signalCode === null;
  }

  async function start({ settings = {}, env = {} }: StartOptions = {}): Promise<void> {
    assert.ok(!isRunning(), "the server runs already");
    const all = {
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      timezone: "UTC",
      max_connections: "120",
      ...settings,
    };
    const flags = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const giveUpAt = performance.now() + START_MS;
    while (performance.now() < giveUpAt) {
      const output = await open(join(home, "chaos.log"), "a", 0o644);
      child = spawn(binaries.postgres, ["-D", dataDir, "-p", String(port), ...flags], {
        env: { ...binaries.env, ...env },
        cwd: "/",
        stdio: ["ignore", output.fd, output.fd],
        ...user,
      });
      await output.close();
      while (isRunning() && performance.now() < giveUpAt) {
        if (await answers(url)) return;
        await sleep(POLL_MS);
      }
      // What a killed server's children still hold keeps the next one from starting.
      await sleep(100);
    }
    await kill();
    throw new Error(`PostgreSQL did not start within ${START_MS} ms: ${join(home, "chaos.log")}`);
  }

  async function kill(): Promise<void> {
    await end("SIGKILL");
  }

  async function stop(): Promise<void> {
    await end("SIGINT");
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child === null || !isRunning()) return;
    const dying = child;
    const exited = once(dying, "exit");
    dying.kill(signal);
    // One whose disk fails does not get as far as ending by itself.
    const timer = setTimeout(() => dying.kill("SIGKILL"), STOP_MS);
    await exited;
    clearTimeout(timer);
  }
}
