/**
 * Freezes what a trial starts from, so that it can be run again whatever happens to its source:
 * a git bundle of the base commit (ref `refs/heads/base`) and a tar of the hidden tests.
 */
import { createHash } from "node:crypto";
import { createWriteStream, type Stats } from "node:fs";
import { lstat, mkdir, mkdtemp, readdir, readFile, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { pack } from "tar-stream";
import { Problem } from "../problem.ts";
import { git, withoutCommands } from "./git.ts";
import { layOutEnvironment } from "./task-folder.ts";

const TAR_BYTES_MAX = 256 * 1024 * 1024;
/** A fetch's other side takes no `-c` of ours over: as root, a user's repository is refused. */
const UPLOAD_PACK = "--upload-pack=git -c 'safe.directory=*' upload-pack";
/** A folder's first commit has a fixed author and date, so that its id is a hash of its content. */
const FIXED_IDENTITY = {
  GIT_AUTHOR_NAME: "autocode",
  GIT_AUTHOR_EMAIL: "autocode@localhost",
  GIT_AUTHOR_DATE: "2000-01-01T00:00:00Z",
  GIT_COMMITTER_NAME: "autocode",
  GIT_COMMITTER_EMAIL: "autocode@localhost",
  GIT_COMMITTER_DATE: "2000-01-01T00:00:00Z",
};

/** Bundles HEAD of a git repository of this machine, uncommitted changes left out. */
export async function bundleRepository(
  path: string,
  bundleFile: string,
): Promise<{ baseCommit: string; isDirty: boolean }> {
  let root: string;
  try {
    root = await git(["rev-parse", "--show-toplevel"], { cwd: await realpath(path) });
  } catch (cause) {
    const fix =
      "give a folder with a .git, or make one there: git init && git add -A && git commit";
    throw new Problem("invalid_request", `path: ${path} is no git repository; ${fix}`, { cause });
  }
  const inside = { cwd: root, env: await withoutCommands(root) };
  let baseCommit: string;
  try {
    baseCommit = await git(["rev-parse", "--verify", "HEAD^{commit}"], inside);
  } catch (cause) {
    throw new Problem("invalid_request", `path: ${path} has no commit yet; commit first`, {
      cause,
    });
  }
  const status = await git(["status", "--porcelain", "--ignore-submodules"], inside);
  await bundle(root, baseCommit, bundleFile);
  return { baseCommit, isDirty: status !== "" };
}

/** Makes a repository of one commit from a task's environment, and bundles it. */
export async function bundleEnvironment(
  environmentDir: string,
  bundleFile: string,
): Promise<{ baseCommit: string }> {
  const scratch = await mkdtemp(`${bundleFile}.making-`);
  try {
    await layOutEnvironment(environmentDir, scratch);
    await git(["init", "--quiet", "--initial-branch=base"], { cwd: scratch });
    await git(["add", "--all", "--force"], { cwd: scratch });
    const commit = ["commit", "--quiet", "--allow-empty", "--message", "The task's environment"];
    await git(commit, { cwd: scratch, env: FIXED_IDENTITY });
    const baseCommit = await git(["rev-parse", "HEAD"], { cwd: scratch });
    await bundle(scratch, baseCommit, bundleFile);
    return { baseCommit };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function bundle(repository: string, commit: string, bundleFile: string): Promise<void> {
  const bare = await mkdtemp(`${bundleFile}.bare-`);
  try {
    // A bundle needs a ref of its own name; the source repository is only read.
    await git(["init", "--quiet", "--bare"], { cwd: bare });
    const refspec = `${commit}:refs/heads/base`;
    const fetch = ["fetch", "--quiet", "--no-tags", "--update-shallow", UPLOAD_PACK];
    await git([...fetch, repository, refspec], { cwd: bare });
    await git(["bundle", "create", "--quiet", bundleFile, "refs/heads/base"], { cwd: bare });
  } finally {
    await rm(bare, { recursive: true, force: true });
  }
}

/** Packs the hidden tests in one order and with one date, so that equal tests have equal bytes. */
export async function packTests(testsDir: string, tarFile: string): Promise<{ sha256: string }> {
  const archive = pack();
  const file = createWriteStream(tarFile);
  const closed = new Promise<void>((resolve) => file.once("close", resolve));
  let total = 0;
  try {
    // Together: a file that cannot be written, or a link among the tests, ends both.
    await Promise.all([pipeline(archive, file), fill()]);
  } finally {
    await closed;
  }
  return {
    sha256: createHash("sha256")
      .update(await readFile(tarFile))
      .digest("hex"),
  };

  async function fill(): Promise<void> {
    try {
      await add("");
      archive.finalize();
    } catch (error) {
      archive.destroy(error as Error);
      throw error;
    }
  }

  async function add(inside: string): Promise<void> {
    for (const entry of (await readdir(join(testsDir, inside))).toSorted()) {
      const name = join(inside, entry);
      const found = await lstat(join(testsDir, name));
      if (found.isDirectory()) await add(name);
      else if (found.isFile()) await addFile(name, found);
      else {
        const detail = `${join(testsDir, name)} is neither a file nor a folder; remove it`;
        throw new Problem("invalid_request", detail);
      }
    }
  }

  async function addFile(name: string, { mode, size }: Stats): Promise<void> {
    // Counted before it is read: what is too large may be larger than memory.
    total += size;
    if (total > TAR_BYTES_MAX) {
      throw new Problem(
        "invalid_request",
        `${testsDir} holds more than 256 MiB of tests; make them smaller`,
      );
    }
    const content = await readFile(join(testsDir, name));
    const header = { name, mode: mode & 0o777, mtime: new Date(0), uid: 0, gid: 0 };
    archive.entry(header, content);
  }
}

/** A folder for a new snapshot, on the disk where it will stay. */
export async function openSnapshotFolder(tasksDir: string): Promise<string> {
  await mkdir(tasksDir, { recursive: true });
  return mkdtemp(join(tasksDir, ".making-"));
}
