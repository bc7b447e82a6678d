/**
 * A PostgreSQL server as distributions package it, of another version than our own, in a temporary
 * folder: what `DATABASE_URL` names in an installation that has a database server.
 */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, open, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { findServerUser } from "../../orchestrator/db/binaries.ts";
import { answers } from "../../orchestrator/db/server.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free-port.ts";

const run = promisify(execFile);
/** Where Debian's packages are. */
const DEBIAN = "/usr/lib/postgresql";
const START_MS = 60_000;

export interface ServerPostgres extends AsyncDisposable {
  url: string;
  version: string;
}

/** Why there is none here, false when there is: for `test`'s `skip`. */
export async function whyNoServerPostgres(): Promise<string | false> {
  if ((await findVersion()) !== null) return false;
  const reason = "no PostgreSQL server package (Debian: postgresql)";
  if (process.env["AUTOCODE_REQUIRE_ENGINES"] === "all") assert.fail(`required, but ${reason}`);
  return reason;
}

export async function startServerPostgres(): Promise<ServerPostgres> {
  const version = await findVersion();
  assert.ok(version !== null, "there is no PostgreSQL server package");
  const bin = join(DEBIAN, version, "bin");
  const user = await findServerUser();
  const dir = await mkdtemp(join(tmpdir(), "autocode-server-"));
  await chmod(dir, 0o755);
  const data = join(dir, "data");
  await mkdir(data, { mode: 0o700 });
  if (user !== null) await chown(data, user.uid, user.gid);
  const as = { cwd: "/", env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" }, ...user };
  await run(
    join(bin, "initdb"),
    ["-D", data, "-U", "autocode", "--auth=trust", "--encoding=UTF8", "--locale=C"],
    as,
  );
  const port = await freePort();
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
  const flags = [...settings, "timezone=UTC"].flatMap((one) => ["-c", one]);
  const output = await open(join(dir, "server.log"), "a");
  const child = spawn(join(bin, "postgres"), ["-D", data, "-p", String(port), ...flags], {
    ...as,
    stdio: ["ignore", output.fd, output.fd],
  });
  await output.close();
  const url = `postgresql://autocode@127.0.0.1:${port}/postgres`;
  const isUp = () => (child.exitCode === null ? answers(url) : assert.fail("the server ended"));
  await eventually(isUp, Boolean, START_MS);
  return {
    url,
    version,
    [Symbol.asyncDispose]: async () => {
      const exited = once(child, "exit");
      child.kill("SIGINT");
      await exited;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** The newest there is. */
async function findVersion(): Promise<string | null> {
  const versions = (await readdir(DEBIAN).catch((): string[] => [])).toSorted(
    (a, b) => Number(b) - Number(a),
  );
  for (const version of versions) {
    const programs = await readdir(join(DEBIAN, version, "bin")).catch((): string[] => []);
    if (programs.includes("postgres") && programs.includes("initdb")) return version;
  }
  return null;
}
