/**
 * Goal: importing a stranger's repository or task folder runs no command of theirs, reads no file
 * outside of it, and writes none outside of the snapshot (S13).
 *
 * Method: real git over repositories whose configuration would leave a mark, and task folders
 * whose links lead to a canary.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { bundleEnvironment, bundleRepository } from "../../../orchestrator/tasks/snapshot.ts";
import { layOutEnvironment, readTaskFolder } from "../../../orchestrator/tasks/task-folder.ts";

function folderOf(t: TestContext, files: Record<string, string> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "autocode-hostile-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

function git(cwd: string, ...args: string[]): string {
  const identity = ["-c", "user.name=a", "-c", "user.email=a@localhost"];
  return execFileSync("git", [...identity, ...args], { cwd, encoding: "utf8" }).trim();
}

function repository(t: TestContext): { repo: string; mark: string; bundle: string } {
  const files = { "repo/.gitattributes": "*.txt filter=a=b\n", "repo/a.txt": "one\n" };
  const folder = folderOf(t, files);
  const repo = join(folder, "repo");
  git(repo, "init", "--quiet");
  git(repo, "add", ".");
  git(repo, "commit", "--quiet", "--message", "first");
  return { repo, mark: join(folder, "mark"), bundle: join(folder, "out.bundle") };
}

const TASK = {
  "task/task.toml": 'version = "1.0"\n',
  "task/instruction.md": "Do it.\n",
  "task/tests/test.sh": "true\n",
  "task/environment/a.txt": "one\n",
  "outside/canary": "canary\n",
};

test("a repository's filters, hooks and monitors do not run", async (t) => {
  const { repo, mark, bundle } = repository(t);
  for (const name of ["clean", "process"]) {
    git(repo, "config", `filter.a=b.${name}`, `touch ${mark}-${name}; cat`);
  }
  git(repo, "config", "filter.a=b.required", "true");
  git(repo, "config", "core.fsmonitor", `touch ${mark}-monitor; false`);
  writeFileSync(join(repo, "included"), `[filter "a=b"]\n\tclean = touch ${mark}-included; cat\n`);
  git(repo, "config", "include.path", "../included");
  const hook = join(repo, ".git/hooks/post-index-change");
  writeFileSync(hook, `#!/bin/sh\ntouch ${mark}-hook\n`, { mode: 0o755 });
  writeFileSync(join(repo, "a.txt"), "two\n");

  const { baseCommit, isDirty } = await bundleRepository(repo, bundle);
  assert.equal(baseCommit, git(repo, "rev-parse", "HEAD"));
  assert.ok(isDirty, "the changed file is still seen");
  assert.deepEqual(marks(mark), []);
});

test("a partial clone's command for fetching what it lacks does not run", async (t) => {
  const { repo, mark, bundle } = repository(t);
  const commit = git(repo, "rev-parse", "HEAD");
  const settings = {
    "core.repositoryFormatVersion": "1",
    "extensions.partialClone": "origin",
    "remote.origin.promisor": "true",
    "remote.origin.url": join(repo, "nowhere"),
    "remote.origin.uploadpack": `touch ${mark}-lazy;`,
  };
  for (const [name, value] of Object.entries(settings)) git(repo, "config", name, value);
  rmSync(join(repo, ".git/objects", commit.slice(0, 2), commit.slice(2)));
  await assert.rejects(bundleRepository(repo, bundle), { code: "invalid_request" });
  assert.deepEqual(marks(mark), []);
});

const needsRoot = { skip: process.getuid?.() !== 0 && "only root can own what another user does" };
test("root imports the repository of another user", needsRoot, async (t) => {
  const { repo, bundle } = repository(t);
  execFileSync("chown", ["-R", "60999:60999", repo]);
  const { isDirty } = await bundleRepository(repo, bundle);
  assert.ok(existsSync(bundle) && !isDirty);
});

test("a task's environment brings no repository of its own, and keeps its links", async (t) => {
  const folder = folderOf(t, TASK);
  const environment = join(folder, "task/environment");
  git(environment, "init", "--quiet");
  git(environment, "config", "filter.x.clean", `touch ${folder}/mark-environment; cat`);
  writeFileSync(join(environment, ".gitattributes"), "* filter=x\n");
  symlinkSync("a.txt", join(environment, "link"));
  await bundleEnvironment(environment, join(folder, "out.bundle"));
  assert.deepEqual(marks(join(folder, "mark")), []);

  const target = folderOf(t);
  await layOutEnvironment(environment, target);
  assert.deepEqual(readdirSync(target).toSorted(), [".gitattributes", "a.txt", "link"]);
  assert.equal(readlinkSync(join(target, "link")), "a.txt", "not made absolute");
});

for (const name of ["task.toml", "instruction.md", "tests", "environment"]) {
  test(`a task's ${name} may not be a link out of its folder`, async (t) => {
    const folder = folderOf(t, TASK);
    const path = join(folder, "task", name);
    rmSync(path, { recursive: true });
    symlinkSync(join(folder, "outside", name.includes(".") ? "canary" : ""), path);
    await assert.rejects(readTaskFolder(join(folder, "task")), {
      code: "invalid_request",
      message: /leads out of its folder/,
    });
  });
}

test("a task's environment may not be a link to a folder around it", async (t) => {
  const folder = folderOf(t, TASK);
  const path = join(folder, "task/environment");
  rmSync(path, { recursive: true });
  symlinkSync("..", path);
  await assert.rejects(readTaskFolder(join(folder, "task")), /leads out of its folder/);
});

test("a Dockerfile that is a link is not read, so that no warning shows its target", async (t) => {
  const folder = folderOf(t, TASK);
  symlinkSync(join(folder, "outside/canary"), join(folder, "task/environment/Dockerfile"));
  await assert.rejects(readTaskFolder(join(folder, "task")), /leads out of its folder/);
});

test("a COPY through a link reads nothing outside of the environment", async (t) => {
  const folder = folderOf(t, TASK);
  const environment = join(folder, "task/environment");
  symlinkSync(join(folder, "outside"), join(environment, "l"));
  for (const from of ["l/canary", "l", "l/"]) {
    writeFileSync(join(environment, "Dockerfile"), `FROM x\nCOPY ${from} /app/stolen\n`);
    const target = folderOf(t);
    await assert.rejects(layOutEnvironment(environment, target), /leads out of its folder/);
    assert.ok(!existsSync(join(target, "stolen")), from);
  }
});

test("a COPY through a link that was copied before writes nothing outside", async (t) => {
  const folder = folderOf(t, { ...TASK, "task/environment/evil": "evil\n" });
  const environment = join(folder, "task/environment");
  mkdirSync(join(environment, "d"));
  symlinkSync(join(folder, "outside"), join(environment, "d/l"));
  const lines = ["FROM x", "COPY d /app/d", "COPY evil /app/d/l/canary"];
  writeFileSync(join(environment, "Dockerfile"), `${lines.join("\n")}\n`);
  await assert.rejects(layOutEnvironment(environment, folderOf(t)), /leads out of its folder/);
  assert.equal(readFileSync(join(folder, "outside/canary"), "utf8"), "canary\n");
});

test("an instruction that is a pipe is refused, not waited for", async (t) => {
  const folder = folderOf(t, TASK);
  const path = join(folder, "task/instruction.md");
  rmSync(path);
  execFileSync("mkfifo", [path]);
  await assert.rejects(readTaskFolder(join(folder, "task")), /must be a plain file/);
});

/** The files that a command of the stranger's has left beside `mark`. */
function marks(mark: string): string[] {
  return readdirSync(dirname(mark)).filter((name) => name.startsWith("mark"));
}
