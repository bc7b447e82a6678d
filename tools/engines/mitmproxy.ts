/**
 * mitmproxy (MIT) into `.engines/mitmproxy/`, a virtual environment with every package pinned by
 * version and hash. Idempotent: what is there, made from the same list, is left alone.
 *
 * The list is made with `uv pip compile --universal --generate-hashes`.
 */
import { mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { findPython } from "./python.ts";
import { run } from "./run.ts";

const LIST = join(import.meta.dirname, "mitmproxy/requirements-12.txt");
const NEWEST_MINOR = 13;
const OLDEST_MINOR = 12;

/** mitmdump, once it is there. @throws Error when no Python is fit for it, or pip fails. */
export async function installMitmproxy(dir: string, tell: (line: string) => void): Promise<string> {
  const python = await findPython(OLDEST_MINOR, NEWEST_MINOR);
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
