/**
 * mitmproxy (MIT) into `.engines/mitmproxy/`, a virtual environment with every package pinned by
 * version and hash. Idempotent: what is there, made from the same list, is left alone.
 *
 * The list is made with `uv pip compile --universal --generate-hashes`.
 */
import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { run } from "./run.ts";

const LIST = join(import.meta.dirname, "mitmproxy/requirements-12.txt");
const NEWEST_MINOR = 13;
const OLDEST_MINOR = 12;

/** mitmdump, once it is there. @throws Error when no Python is fit for it, or pip fails. */
export async function installMitmproxy(dir: string, tell: (line: string) => void): Promise<string> {
  const python = await findPython();
  const wanted = await readFile(LIST, "utf8");
  const mitmdump = join(dir, "mitmdump");
  const stamp = join(dir, "installed.txt");
  if ((await readFile(stamp, "utf8").catch(() => null)) === wanted) {
    tell("mitmproxy: is there");
    return mitmdump;
  }
  tell(`mitmproxy: installing ${/^mitmproxy==\S+/m.exec(wanted)?.[0]} with ${python}`);
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  await run(python, ["-m", "venv", join(dir, "python")]);
  await run(join(dir, "python/bin/pip"), [
    ...["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"],
    ...["--only-binary", ":all:", "-r", LIST],
  ]);
  await symlink("python/bin/mitmdump", mitmdump);
  await run(mitmdump, ["--version"]);
  await writeFile(stamp, wanted);
  tell("mitmproxy: installed");
  return mitmdump;
}

/** The newest that mitmproxy runs on: on the PATH by its own name, or a version manager's. */
async function findPython(): Promise<string> {
  const managed = join(homedir(), ".pyenv/versions");
  const versions = await readdir(managed).catch(() => []);
  for (let minor = NEWEST_MINOR; minor >= OLDEST_MINOR; minor--) {
    const own = versions.filter((version) => version.startsWith(`3.${minor}.`)).toSorted();
    const files = [
      `python3.${minor}`,
      ...own.map((version) => join(managed, version, "bin/python3")),
    ];
    for (const file of [...files, "python3"]) {
      const script = `import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, ${minor}))`;
      const isFit = await run(file, ["-c", script]).then(
        () => true,
        () => false,
      );
      if (isFit) return file;
    }
  }
  throw new Error(
    "it needs Python 3.12 or 3.13 with its venv module: install one " +
      "(Debian, Ubuntu: apt-get install python3-venv), then try again",
  );
}
