/**
 * The trial's checkout: a clean clone of the base commit, in which nothing of the host's git
 * configuration is in force and no hook runs.
 */
import { appendFile, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { WorkspaceFault } from "./faults.ts";
import type { Git } from "./git.ts";

export interface Source {
  /** A git bundle with `refs/heads/base`. */
  readonly bundle: string;
  readonly baseCommit: string;
}

export interface CheckoutOptions {
  readonly signal?: AbortSignal;
  /** Lines for `.git/info/exclude`: what a CLI leaves behind. */
  readonly litter?: readonly string[];
}

/**
 * Clones the base commit into `dir`, which must not exist.
 *
 * @throws WorkspaceFault when the bundle does not hold the commit it should.
 */
export async function checkOut(
  git: Git,
  { bundle, baseCommit }: Source,
  dir: string,
  { signal, litter = [] }: CheckoutOptions = {},
): Promise<void> {
  const options = { cwd: dir, ...(signal && { signal }) };
  // Other slots' users can pass through to here: the checkout is none of theirs.
  await mkdir(dir, { mode: 0o700 });
  await git(["init", "--quiet", "--template=", "--initial-branch=main"], options);
  await fetchBase(git, { bundle, baseCommit }, ["-C", dir], signal);
  // These stay in the checkout, for the git that the agent and the tests run.
  const settings = {
    "core.hooksPath": "/dev/null",
    "user.name": "autocode",
    "user.email": "autocode@localhost",
    "commit.gpgSign": "false",
    "protocol.ext.allow": "never",
    "submodule.recurse": "false",
    "gc.auto": "0",
  };
  for (const [name, value] of Object.entries(settings)) {
    await git(["config", "--local", name, value], options);
  }
  await mkdir(join(dir, ".git/info"), { recursive: true });
  await appendFile(join(dir, ".git/info/exclude"), litter.map((line) => `${line}\n`).join(""));
  await git(["checkout", "--quiet", "--force", "-B", "main", baseCommit], options);
}

/** Fetches the base commit into the repository that `place` (global options of git) names. */
export async function fetchBase(
  git: Git,
  { bundle, baseCommit }: Source,
  place: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  const options = signal === undefined ? {} : { signal };
  const refspec = "+refs/heads/base:refs/autocode/base";
  const fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", bundle, refspec];
  await git([...place, ...fetch], options);
  const answer = await git([...place, "rev-parse", "--verify", "refs/autocode/base"], options);
  const found = answer.toString().trim();
  if (found !== baseCommit) {
    throw new WorkspaceFault(`the source holds commit ${found}, not the base ${baseCommit}`);
  }
}

/**
 * Applies a diff made by `collectChanges` to the checkout; an empty one changes nothing. Git
 * itself refuses paths that leave the checkout, lie in `.git` or go through a symbolic link.
 *
 * @throws WorkspaceFault when it does not apply; the checkout is then as it was.
 */
export async function applyPatch(
  git: Git,
  dir: string,
  patchFile: string,
  signal?: AbortSignal,
): Promise<void> {
  if ((await stat(patchFile)).size === 0) return;
  const args = ["apply", "--binary", "--whitespace=nowarn", patchFile];
  await git(args, { cwd: dir, ...(signal && { signal }) });
}
