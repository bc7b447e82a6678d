/**
 * Goal: what a trial starts from is frozen to the byte: equal folders give equal commits and equal
 * archives, and what cannot be frozen is refused in one line, with no handle left open.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  bundleEnvironment,
  bundleRepository,
  packTests,
} from "../../../orchestrator/tasks/snapshot.ts";

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "autocode-snapshot-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function git(cwd: string, ...args: string[]): string {
  const identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"];
  return execFileSync("git", [...identity, ...args], { cwd, encoding: "utf8", stdio: "pipe" });
}

/** The same content, written at another time and in another order. */
function writeContent(folder: string, order: 1 | -1, atSeconds: number): string {
  mkdirSync(join(folder, "sub"), { recursive: true });
  const names = ["b.txt", "a.txt", "sub/run.sh", ".gitignore"];
  for (const name of order === 1 ? names : names.toReversed()) {
    writeFileSync(join(folder, name), name === ".gitignore" ? "a.txt\n" : `${name}\n`);
    chmodSync(join(folder, name), name.endsWith(".sh") ? 0o755 : 0o644);
    utimesSync(join(folder, name), atSeconds, atSeconds);
  }
  return folder;
}

test("equal environments give one commit, which a clone of the bundle checks out", async (t) => {
  const out = folderOf(t);
  const commits: string[] = [];
  for (const [order, atSeconds] of [[1, 1e9] as const, [-1, 1.5e9] as const]) {
    const environment = writeContent(folderOf(t), order, atSeconds);
    const { baseCommit } = await bundleEnvironment(environment, join(out, `${order}.bundle`));
    commits.push(baseCommit);
  }
  assert.equal(commits[0], commits[1]);
  assert.deepEqual(readdirSync(out).toSorted(), ["-1.bundle", "1.bundle"], "no scratch is left");

  git(out, "clone", "--quiet", "--branch", "base", "1.bundle", "clone");
  const clone = join(out, "clone");
  assert.equal(git(clone, "rev-parse", "HEAD").trim(), commits[0]);
  const files = git(clone, "ls-files", "--format=%(objectmode) %(path)").trim().split("\n");
  const plain = [".gitignore", "a.txt", "b.txt"].map((name) => `100644 ${name}`);
  assert.deepEqual(files, [...plain, "100755 sub/run.sh"], "ignored files are the task's too");

  const environment = writeContent(folderOf(t), 1, 1e9);
  writeFileSync(join(environment, "a.txt"), "other\n");
  const other = await bundleEnvironment(environment, join(out, "other.bundle"));
  assert.notEqual(other.baseCommit, commits[0]);
});

test("an empty environment is a commit too", async (t) => {
  const { baseCommit } = await bundleEnvironment(folderOf(t), join(folderOf(t), "out.bundle"));
  assert.match(baseCommit, /^[0-9a-f]{40}$/);
});

test("an environment that cannot be laid out leaves nothing", async (t) => {
  const [environment, out] = [folderOf(t), folderOf(t)];
  writeFileSync(join(environment, "Dockerfile"), "COPY gone /app/\n");
  await assert.rejects(bundleEnvironment(environment, join(out, "out.bundle")), /COPY gone/);
  assert.deepEqual(readdirSync(out), []);
});

test("equal tests give equal archives; another mode or content gives another", async (t) => {
  const out = folderOf(t);
  const packed = async (folder: string) => {
    const { sha256 } = await packTests(folder, join(out, "tests.tar"));
    return { sha256, bytes: readFileSync(join(out, "tests.tar")) };
  };
  const tests = writeContent(folderOf(t), 1, 1e9);
  const first = await packed(tests);
  assert.deepEqual(await packed(writeContent(folderOf(t), -1, 1.5e9)), first);
  const names = execFileSync("tar", ["-tf", join(out, "tests.tar")], { encoding: "utf8" });
  assert.deepEqual(names.trim().split("\n"), [".gitignore", "a.txt", "b.txt", "sub/run.sh"]);

  chmodSync(join(tests, "sub/run.sh"), 0o644);
  assert.notEqual((await packed(tests)).sha256, first.sha256);
  chmodSync(join(tests, "sub/run.sh"), 0o755);
  appendFileSync(join(tests, "a.txt"), "more\n");
  assert.notEqual((await packed(tests)).sha256, first.sha256);
});

test("a link among the tests is refused by its name, and the archive is closed", async (t) => {
  const [tests, out] = [writeContent(folderOf(t), 1, 1e9), folderOf(t)];
  symlinkSync("/etc/passwd", join(tests, "sub/link"));
  await assert.rejects(packTests(tests, join(out, "tests.tar")), {
    code: "invalid_request",
    message: `${join(tests, "sub/link")} is neither a file nor a folder; remove it`,
  });
  const handles = existsSync("/proc/self/fd") ? readdirSync("/proc/self/fd") : [];
  const targets = handles.map((handle) => {
    try {
      return readlinkSync(`/proc/self/fd/${handle}`);
    } catch {
      return "";
    }
  });
  assert.deepEqual(
    targets.filter((target) => target.startsWith(out)),
    [],
  );
});

test("tests that are too large are refused before they are read", async (t) => {
  const [tests, out] = [folderOf(t), folderOf(t)];
  writeFileSync(join(tests, "huge"), "");
  // A hole: it takes no room on the disk, but would in memory.
  truncateSync(join(tests, "huge"), 3 * 1024 ** 3);
  await assert.rejects(packTests(tests, join(out, "tests.tar")), {
    code: "invalid_request",
    message: /holds more than 256 MiB of tests; make them smaller$/,
  });
});

test("an archive that cannot be written fails the import alone", async (t) => {
  const tests = writeContent(folderOf(t), 1, 1e9);
  const nowhere = join(folderOf(t), "gone", "tests.tar");
  await assert.rejects(packTests(tests, nowhere), { code: "ENOENT" });
});

test("a repository is bundled at HEAD, from any folder in it; changes are told", async (t) => {
  const [repo, out] = [writeContent(folderOf(t), 1, 1e9), folderOf(t)];
  git(repo, "init", "--quiet");
  git(repo, "add", "--all");
  git(repo, "commit", "--quiet", "--message", "first");
  const head = git(repo, "rev-parse", "HEAD").trim();
  const clean = await bundleRepository(join(repo, "sub"), join(out, "clean.bundle"));
  assert.deepEqual(clean, { baseCommit: head, isDirty: false });

  appendFileSync(join(repo, "b.txt"), "changed\n");
  const dirty = await bundleRepository(repo, join(out, "dirty.bundle"));
  assert.deepEqual(dirty, { baseCommit: head, isDirty: true });
  git(out, "clone", "--quiet", "--branch", "base", "dirty.bundle", "clone");
  assert.equal(readFileSync(join(out, "clone/b.txt"), "utf8"), "b.txt\n");
  assert.deepEqual(readdirSync(out).toSorted(), ["clean.bundle", "clone", "dirty.bundle"]);
  assert.equal(git(repo, "for-each-ref", "--format=%(refname)", "refs/heads/base"), "");
});

test("no repository, or none with a commit: one line with the fix, and nothing left", async (t) => {
  const [plain, empty, out] = [folderOf(t), folderOf(t), folderOf(t)];
  git(empty, "init", "--quiet");
  const cases = [
    [plain, /^path: \S+ is no git repository; .*: git init && git add -A && git commit$/],
    [join(plain, "gone"), /^path: \S+gone is no git repository; /],
    [empty, /^path: \S+ has no commit yet; commit first$/],
  ] as const;
  for (const [path, message] of cases) {
    const bundled = bundleRepository(path, join(out, "out.bundle"));
    await assert.rejects(bundled, { code: "invalid_request", message });
  }
  assert.deepEqual(readdirSync(out), []);
});
