/** The Python that an installer makes a virtual environment with. */
import { readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { run } from "./run.ts";

/**
 * The newest of 3.`oldest` to 3.`newest`: on the PATH by its own name, or a version manager's.
 *
 * @throws Error when there is none with its venv module.
 */
export async function findPython(oldest: number, newest: number): Promise<string> {
  const managed = join(homedir(), ".pyenv/versions");
  const versions = await readdir(managed).catch(() => []);
  for (let minor = newest; minor >= oldest; minor--) {
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
    `it needs Python 3.${oldest} to 3.${newest} with its venv module: install one ` +
      "(Debian, Ubuntu: apt-get install python3-venv), then try again",
  );
}
