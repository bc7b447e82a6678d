/**
 * What the agent changed: the difference between the base commit and the files it left, whether it
 * committed them or not.
 *
 * Invariant: nothing of the checkout's own git folder is read. The agent may have rewritten its
 * configuration, hooks, filters or index; the files are compared by a repository made for this one
 * purpose after the agent has ended, and as trees, so that no filter, text conversion, external
 * diff or nested repository is ever run.
 */
import { lstat, mkdir, rm } from "node:fs/promises";
import { join, posix } from "node:path";
import { WorkspaceFault } from "./faults.ts";
import { type Git, splitNul } from "./git.ts";
import { isTestFile } from "./test-files.ts";
import { fetchBase, type Source } from "./workspace.ts";

export interface Changes {
  /** A binary-safe diff that `applyPatch` takes; empty when nothing changed. */
  readonly patch: Buffer;
  readonly filesChanged: number;
  readonly linesAdded: number;
  readonly linesRemoved: number;
  /** Test files that were added, changed or removed. */
  readonly touchedTestFiles: readonly string[];
  /** What was left out, one sentence each. */
  readonly notes: readonly string[];
}

export interface CollectOptions {
  readonly source: Source;
  readonly workspace: string;
  /** A folder of our own for the comparing repository; made anew. */
  readonly scratchDir: string;
  /** Ignored besides what the checkout's own .gitignore files say. */
  readonly litter: readonly string[];
  readonly fileBytesMax: number;
  readonly patchBytesMax: number;
}

const NOTES_MAX = 20;

/** @throws WorkspaceFault when the checkout is gone or the diff is larger than allowed. */
export async function collectChanges(git: Git, options: CollectOptions): Promise<Changes> {
  const { patchBytesMax } = options;
  const { place, baseTree } = await openComparison(git, options);
  const notes: string[] = [];
  const { tracked, others } = await changedPaths(git, place, options, notes);
  await stage([...new Set([...tracked, ...others])]);
  await dropLeavingLinks();
  const tree = (await git(["write-tree"], place)).toString().trim();

  const diff = ["diff-tree", "-r", "--no-renames", "--no-ext-diff", "--no-textconv"];
  const patch = await git([...diff, "-p", "--binary", "--full-index", baseTree, tree], place);
  if (patch.byteLength > patchBytesMax) {
    throw new WorkspaceFault(
      `the diff has ${patch.byteLength} bytes, more than the ${patchBytesMax} allowed`,
    );
  }
  const stat = await git([...diff, "--numstat", "-z", baseTree, tree], place);
  return { patch, ...summary(splitNul(stat)), notes: notes.slice(0, NOTES_MAX) };

  async function stage(paths: readonly string[]): Promise<void> {
    // Without a path, `add --all` would take everything, what is ignored included.
    if (paths.length === 0) return;
    const add = ["--literal-pathspecs", "add", "--all", "--force", "--ignore-errors"];
    await git([...add, "--pathspec-from-file=-", "--pathspec-file-nul"], {
      ...place,
      input: paths.map((path) => `${path}\0`).join(""),
      statuses: [0, 1],
    });
  }

  /** Symbolic links that the agent made or changed must stay inside the work tree. */
  async function dropLeavingLinks(): Promise<void> {
    const before = splitNul(await git(["ls-tree", "-r", "-z", baseTree], place));
    // The same three fields as an index entry's, with the object's type between them.
    const known = new Set(before.map((line) => line.replace(/^(\d+) \w+ /, "$1 ")));
    const links = (await stagedEntries(git, place)).filter(
      ({ mode, object, path }) => mode === "120000" && !known.has(`${mode} ${object}\t${path}`),
    );
    const leaving: StagedEntry[] = [];
    for (const link of links) {
      const target = (await git(["cat-file", "blob", link.object], place)).toString();
      if (staysInside(link.path, target)) continue;
      leaving.push(link);
      notes.push(`left out ${link.path}: a symbolic link that leaves the work tree`);
    }
    await dropFromIndex(git, place, leaving);
  }
}

/** A repository of our own with the base commit in its index, and the checkout as its work tree. */
export interface Comparison {
  readonly place: { readonly cwd: string; readonly env: Record<string, string> };
  readonly baseTree: string;
}

/** @throws WorkspaceFault when the checkout is gone. */
export async function openComparison(
  git: Git,
  { source, workspace, scratchDir }: Pick<CollectOptions, "source" | "workspace" | "scratchDir">,
): Promise<Comparison> {
  const root = await lstat(workspace).catch(() => null);
  if (root === null || !root.isDirectory()) {
    throw new WorkspaceFault("the workspace is no folder any more");
  }
  await rm(scratchDir, { recursive: true, force: true });
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const gitDir = join(scratchDir, "git");
  await git(["init", "--quiet", "--bare", "--template=", gitDir]);
  await fetchBase(git, source, [`--git-dir=${gitDir}`]);
  const place = { cwd: workspace, env: { GIT_DIR: gitDir, GIT_WORK_TREE: workspace } };
  await git(["read-tree", source.baseCommit], place);
  // A submodule's folder is a repository of its own, whose configuration git would obey.
  const submodules = (await stagedEntries(git, place)).filter(({ mode }) => mode === "160000");
  await dropFromIndex(git, place, submodules);
  const baseTree = (await git(["write-tree"], place)).toString().trim();
  return { place, baseTree };
}

async function stagedEntries(git: Git, place: Comparison["place"]): Promise<StagedEntry[]> {
  return splitNul(await git(["ls-files", "--stage", "-z"], place)).map(stagedEntry);
}

async function dropFromIndex(
  git: Git,
  place: Comparison["place"],
  entries: readonly StagedEntry[],
): Promise<void> {
  if (entries.length === 0) return;
  const input = entries.map(({ path }) => `${path}\0`).join("");
  await git(["update-index", "--force-remove", "-z", "--stdin"], { ...place, input });
}

interface StagedEntry {
  readonly mode: string;
  readonly object: string;
  readonly path: string;
}

/** A line of `ls-files --stage`: mode, object and stage, a tab, the path. */
function stagedEntry(line: string): StagedEntry {
  const tab = line.indexOf("\t");
  const [mode = "", object = ""] = line.slice(0, tab).split(" ");
  return { mode, object, path: line.slice(tab + 1) };
}

/** Whether a symbolic link at `path` with this text points into the work tree. */
export function staysInside(path: string, target: string): boolean {
  if (target === "" || target.startsWith("/")) return false;
  const resolved = posix.normalize(posix.join(posix.dirname(path), target));
  const [first] = resolved.split("/");
  return first !== ".." && first?.toLowerCase() !== ".git";
}

/** The paths that differ from the base: those it has, and new ones; none ignored or too large. */
export async function changedPaths(
  git: Git,
  place: Comparison["place"],
  {
    workspace,
    litter,
    fileBytesMax,
  }: Pick<CollectOptions, "workspace" | "litter" | "fileBytesMax">,
  notes: string[],
  signal?: AbortSignal,
): Promise<{ tracked: string[]; others: string[] }> {
  const options = { ...place, ...(signal && { signal }) };
  const ignored = litter.map((pattern) => `--exclude=${pattern}`);
  const tracked = await git(["ls-files", "--modified", "--deleted", "-z"], options);
  const others = await git(
    ["ls-files", "--others", "--exclude-standard", ...ignored, "-z"],
    options,
  );
  return { tracked: await fitting(splitNul(tracked)), others: await fitting(splitNul(others)) };

  async function fitting(all: readonly string[]): Promise<string[]> {
    const paths: string[] = [];
    for (const path of new Set(all)) {
      if (path.endsWith("/")) {
        notes.push(`left out ${path}: a repository of its own`);
        continue;
      }
      const found = await lstat(join(workspace, path)).catch(() => null);
      if (found?.isFile() === true && found.size > fileBytesMax) {
        notes.push(`left out ${path}: ${found.size} bytes, more than the ${fileBytesMax} allowed`);
        continue;
      }
      paths.push(path);
    }
    return paths;
  }
}

/** What `--numstat -z` says; `-` stands for the lines of a binary file. */
function summary(lines: readonly string[]) {
  let linesAdded = 0;
  let linesRemoved = 0;
  const touchedTestFiles: string[] = [];
  for (const line of lines) {
    const [added = "0", removed = "0", ...rest] = line.split("\t");
    const path = rest.join("\t");
    linesAdded += Number.parseInt(added, 10) || 0;
    linesRemoved += Number.parseInt(removed, 10) || 0;
    if (isTestFile(path)) touchedTestFiles.push(path);
  }
  return { filesChanged: lines.length, linesAdded, linesRemoved, touchedTestFiles };
}
