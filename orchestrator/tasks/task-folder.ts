/**
 * Reads a task in Harbor's folder format for execution on a host: `task.toml`, `instruction.md`,
 * `environment/` (the repository's files), `tests/` (hidden), `solution/` (never read).
 *
 * A container image is not built: of `environment/Dockerfile` only WORKDIR and COPY are followed.
 *
 * Invariant: the folder may be a stranger's. No symbolic link in it makes us read a file outside
 * of it or write one outside of the target, and no `.git` of its own is taken over.
 */
import { cp, glob, lstat, mkdir, readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, normalize, relative, resolve } from "node:path";
import { parse, TomlError } from "smol-toml";
import type { Requirements } from "../contract/workers.ts";
import { Problem } from "../problem.ts";
import { readEnvironment } from "./requirements.ts";

export interface TaskFolder {
  name: string;
  instruction: string;
  agentWallMs: number;
  verifyWallMs: number;
  requirements: Requirements;
  /** The folder of hidden tests, holding `test.sh`. */
  testsDir: string;
  environmentDir: string;
  /** What of the environment a host cannot follow, for people. */
  warnings: string[];
}

const TEXT_BYTES_MAX = 1_048_576;
/** As the wire has it for a task that needs no folder. */
const INSTRUCTION_CHARACTERS_MAX = 100_000;
/** Not for the checkout: what builds the container, and a repository with settings of its own. */
const LEFT_OUT = /^(Dockerfile|docker-compose\.ya?ml|\.dockerignore|\.git)$/i;
const AGENT_WALL_SEC_DEFAULT = 1800;
const VERIFY_WALL_SEC_DEFAULT = 600;

/** @throws Problem `invalid_request`, one line that names the file and the fix. */
export async function readTaskFolder(folder: string): Promise<TaskFolder> {
  for (const name of ["task.toml", "instruction.md", "tests", "environment"]) {
    await refuseLeaving(folder, join(folder, name));
  }
  const toml = await readToml(join(folder, "task.toml"));
  const instruction = (await readText(join(folder, "instruction.md"))).trim();
  if (instruction === "") throw invalid(join(folder, "instruction.md"), "is empty; say the task");
  if (instruction.includes("\0") || instruction.length > INSTRUCTION_CHARACTERS_MAX) {
    const most = `at most ${INSTRUCTION_CHARACTERS_MAX} characters`;
    throw invalid(join(folder, "instruction.md"), `must be text of ${most}, without NUL`);
  }
  const testsDir = join(folder, "tests");
  if (!(await isFile(join(testsDir, "test.sh")))) {
    throw invalid(join(testsDir, "test.sh"), "is missing: the hidden tests decide the verdict");
  }
  const environmentDir = join(folder, "environment");
  await refuseLeaving(folder, join(environmentDir, "Dockerfile"));
  if (!(await isFolder(environmentDir))) {
    throw invalid(environmentDir, "is missing: it holds the repository's files");
  }
  const name = basename(resolve(folder)).toLowerCase();
  if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) {
    throw invalid(folder, "is not a task name: use a-z, 0-9, dot, dash and underscore");
  }
  return {
    name,
    instruction,
    agentWallMs: seconds(toml, "agent", AGENT_WALL_SEC_DEFAULT, folder) * 1000,
    verifyWallMs: seconds(toml, "verifier", VERIFY_WALL_SEC_DEFAULT, folder) * 1000,
    requirements: environmentOf(toml, folder),
    testsDir,
    environmentDir,
    warnings: await dockerfileWarnings(environmentDir),
  };
}

/**
 * Lays the environment's files out in `target`, as its Dockerfile's COPY lines would.
 *
 * @throws Problem `invalid_request` when a COPY leads through a link out of either folder.
 */
export async function layOutEnvironment(environmentDir: string, target: string): Promise<void> {
  const dockerfile = await readDockerfile(environmentDir);
  const copies = dockerfile.filter(({ instruction }) => instruction === "COPY");
  if (copies.length === 0) {
    for (const entry of await readdir(environmentDir)) {
      await copyInside(environmentDir, join(environmentDir, entry), target, join(target, entry));
    }
    return;
  }
  const root = rootOf(dockerfile);
  let workdir = root;
  for (const { instruction, words } of dockerfile) {
    if (instruction === "WORKDIR") workdir = resolve(workdir, words[0] ?? root);
    if (instruction !== "COPY") continue;
    // Another stage's or image's files: there is none of them on a host.
    if (words.some((word) => word.startsWith("--from="))) continue;
    const patterns = words.filter((word) => !word.startsWith("--"));
    const to = patterns.pop() ?? ".";
    const inside = relative(root, resolve(workdir, to));
    if (inside.startsWith("..")) continue;
    const paths = (await Promise.all(patterns.map((one) => expand(environmentDir, one)))).flat();
    const isMade = await isFolder(join(target, inside));
    const asFolder = to.endsWith("/") || to === "." || paths.length > 1 || isMade;
    for (const from of paths) {
      const source = join(environmentDir, normalize(join("/", from)));
      const isDir = await isFolder(source);
      const at = isDir || !asFolder ? join(target, inside) : join(target, inside, basename(from));
      await copyInside(environmentDir, source, target, at);
    }
  }
}

/** The folder of the image that the repository is: /app, or what the first WORKDIR says. */
function rootOf(dockerfile: readonly { instruction: string; words: string[] }[]): string {
  const first = dockerfile.find(({ instruction }) => instruction === "WORKDIR")?.words[0];
  const workdir = resolve("/", first ?? "app");
  return workdir.startsWith("/app/") ? "/app" : workdir;
}

/** What a COPY's source names: a pattern's matches, in order. @throws Problem for none. */
async function expand(environmentDir: string, from: string): Promise<string[]> {
  const plain = normalize(join("/", from));
  const found: string[] = [];
  if (/[*?[]/.test(from)) {
    for await (const path of glob(plain.slice(1), { cwd: environmentDir })) found.push(path);
  } else if (await isThere(join(environmentDir, plain))) found.push(from);
  if (found.length > 0) return found.toSorted();
  const detail = `COPY ${from}: there is no such file in ${environmentDir}; add it or drop the line`;
  throw invalid(`${join(environmentDir, "Dockerfile")}:`, detail);
}

/** Copies links as links; neither the way to `source` nor the way to `at` may follow one out. */
async function copyInside(
  environmentDir: string,
  source: string,
  target: string,
  at: string,
): Promise<void> {
  if (LEFT_OUT.test(basename(source))) return;
  const isWhole = relative(environmentDir, source) === "";
  await refuseLeaving(environmentDir, isWhole ? source : dirname(source));
  // A COPY of a link to a folder copies what the folder holds.
  if (await isFolder(source)) await refuseLeaving(environmentDir, source);
  await refuseLeaving(target, at);
  await mkdir(dirname(at), { recursive: true });
  const filter = (path: string) => path === source || !LEFT_OUT.test(basename(path));
  await cp(source, at, { recursive: true, verbatimSymlinks: true, filter });
}

/** @throws Problem unless `path`, or its nearest existing folder, really lies in `folder`. */
async function refuseLeaving(folder: string, path: string): Promise<void> {
  const root = await realpath(folder).catch(() => null);
  // Not there: whoever reads it says so.
  if (root === null) return;
  for (let at = path; at !== dirname(at); at = dirname(at)) {
    const real = await realpath(at).catch(() => null);
    if (real === null) continue;
    if (real === root || real.startsWith(`${root}/`)) return;
    throw invalid(path, "leads out of its folder by a symbolic link; put the file itself there");
  }
}

async function dockerfileWarnings(environmentDir: string): Promise<string[]> {
  const ignored = (await readDockerfile(environmentDir))
    .filter(({ instruction }) => !["FROM", "WORKDIR", "COPY"].includes(instruction))
    .map(({ instruction, words }) => `${instruction} ${words.join(" ")}`.slice(0, 80));
  if (ignored.length === 0) return [];
  return [`environment/Dockerfile: not followed on a host: ${ignored.join("; ")}`];
}

async function readDockerfile(
  environmentDir: string,
): Promise<{ instruction: string; words: string[] }[]> {
  let text: string;
  try {
    text = await readPlain(join(environmentDir, "Dockerfile"));
  } catch {
    return [];
  }
  return text
    .replaceAll(/\\\r?\n/g, " ")
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [instruction = "", ...words] = line.split(/\s+/);
      return { instruction: instruction.toUpperCase(), words: fromJson(words) ?? words };
    });
}

/** `COPY ["a b", "c"]`: how paths with spaces are written; null for another form. */
function fromJson(words: readonly string[]): string[] | null {
  const flags = words.filter((word) => word.startsWith("--"));
  try {
    const listed: unknown = JSON.parse(words.slice(flags.length).join(" "));
    const isForm = Array.isArray(listed) && listed.every((word) => typeof word === "string");
    return isForm ? [...flags, ...listed] : null;
  } catch {
    return null;
  }
}

async function readToml(file: string): Promise<Record<string, unknown>> {
  const text = await readText(file);
  try {
    return parse(text);
  } catch (cause) {
    const [message = "not TOML"] = (cause as Error).message.split("\n");
    const at = cause instanceof TomlError ? `${file}:${cause.line}` : file;
    throw new Problem("invalid_request", `${at}: ${message}`, { cause });
  }
}

function seconds(
  toml: Record<string, unknown>,
  section: string,
  fallback: number,
  folder: string,
): number {
  const table = toml[section] as Record<string, unknown> | undefined;
  const value = table?.["timeout_sec"] ?? fallback;
  if (typeof value !== "number" || !(value > 0) || value > 604_800) {
    throw invalid(join(folder, "task.toml"), `${section}.timeout_sec must be 1 to 604800 seconds`);
  }
  return Math.ceil(value);
}

function environmentOf(toml: Record<string, unknown>, folder: string): Requirements {
  const table = (toml["environment"] ?? {}) as Record<string, unknown>;
  const read = readEnvironment(table);
  if ("fault" in read) throw invalid(join(folder, "task.toml"), read.fault);
  return read.requirements;
}

async function readText(file: string): Promise<string> {
  try {
    return await readPlain(file);
  } catch (cause) {
    if (cause instanceof Problem) throw cause;
    const detail = `${file} is missing: a task folder has task.toml, instruction.md, `;
    const rest = "environment/ and tests/test.sh";
    throw new Problem("invalid_request", detail + rest, { cause });
  }
}

/** A pipe or a device would be read for ever. */
async function readPlain(file: string): Promise<string> {
  const found = await stat(file);
  if (!found.isFile() || found.size > TEXT_BYTES_MAX) {
    throw invalid(file, `must be a plain file of at most ${TEXT_BYTES_MAX} bytes`);
  }
  return readFile(file, "utf8");
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

/** A link counts, wherever it leads: it is copied as a link. */
async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function invalid(path: string, what: string): Problem {
  return new Problem("invalid_request", `${path} ${what}`);
}
