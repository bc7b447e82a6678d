/**
 * Goal: importing the same content again finds the same task, other content makes a newer one of
 * that name, and an import that fails leaves no file and no row.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { appendFile, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { TaskId } from "../../../orchestrator/runtime/ids.ts";
import { openTrialLife } from "../../support/trial-life.ts";
import { writeTaskFolder } from "../../support/trial-world.ts";

test("tasks", async (t) => {
  await using life = await openTrialLife({});
  const { tasks, layout } = life;
  const project = (await life.projects.find("p")).id;
  const folder = await writeTaskFolder();
  t.after(() => rm(folder, { recursive: true, force: true }));
  const task = join(folder, "task");
  const repo = join(folder, "My Repo");
  const git = (...args: string[]) =>
    execFileSync("git", ["-c", "user.name=a", "-c", "user.email=a@localhost", ...args], {
      cwd: repo,
    });
  const inline = { path: repo, instruction: "Mend it.", test_command: "npm test" };
  const made = async () => ({
    files: (await readdir(layout.project(project).tasks)).toSorted(),
    rows: (await tasks.list(project)).map(({ id }) => id),
  });

  await t.test("the same folder is the same task, also when imported twice at once", async () => {
    const [known] = await tasks.list(project);
    const [one, two] = await Promise.all([
      tasks.importFolder(project, task),
      tasks.importFolder(project, task),
    ]);
    assert.ok(known !== undefined);
    assert.deepEqual([one.row.id, two.row.id], [known.id, known.id]);
    const { source, tests } = layout.task(project, known.id);
    assert.ok(existsSync(source) && existsSync(tests));
    assert.deepEqual((await made()).files, [known.id]);
  });

  await t.test("new content imported twice at once is one new task", async () => {
    await appendFile(join(task, "tests/test.sh"), "true\n");
    const both = await Promise.all([1, 2, 3].map(() => tasks.importFolder(project, task)));
    const ids = new Set(both.map(({ row }) => row.id));
    assert.equal(ids.size, 1);
    const { files, rows } = await made();
    assert.equal(files.length, 2, "the older one's files stay for its trials");
    assert.deepEqual(rows, [...ids], "the newest of the name is the task");
    assert.ok(files.includes([...ids][0] ?? ""));
  });

  await t.test("another limit or instruction is another task", async () => {
    const before = (await tasks.find(project, "task"))?.id;
    await writeFile(join(task, "task.toml"), "[agent]\ntimeout_sec = 61\n");
    const { row } = await tasks.importFolder(project, task);
    assert.notEqual(row.id, before);
    assert.equal((await tasks.get(row.id)).agent_wall_ms, "61000");
    await assert.rejects(tasks.get("task_00000000000000000000000000" as TaskId), {
      code: "not_found",
    });
  });

  await t.test("a repository is a task named after it; changes left out are told", async () => {
    await mkdir(repo);
    await writeFile(join(repo, "a.txt"), "a\n");
    git("init", "--quiet");
    git("add", ".");
    git("commit", "--quiet", "--message", "first");
    const clean = await tasks.importInline(project, inline);
    assert.match(clean.row.name, /^my-repo-[0-9a-f]{8}$/);
    assert.deepEqual(clean.row.test, { kind: "command", command: "npm test" });
    assert.deepEqual([clean.row.has_hidden_tests, clean.warnings], [false, []]);
    await appendFile(join(repo, "a.txt"), "b\n");
    const dirty = await tasks.importInline(project, inline);
    assert.deepEqual(dirty, {
      row: clean.row,
      warnings: ["uncommitted changes are left out: the trial starts from HEAD"],
    });
    const other = await tasks.importInline(project, { ...inline, test_command: "make" });
    assert.notEqual(other.row.name, clean.row.name);
  });

  await t.test("an import that fails leaves nothing behind", async () => {
    const before = await made();
    const refused = { code: "invalid_request" };
    for (const field of ["path", "instruction", "test_command"] as const) {
      const wrong = { ...inline, [field]: "a\0b" };
      const message = `${field}: holds a NUL character; take it out`;
      await assert.rejects(tasks.importInline(project, wrong), { ...refused, message });
    }
    await assert.rejects(tasks.importInline(project, { ...inline, path: folder }), refused);
    await writeFile(join(task, "environment/Dockerfile"), "COPY gone /app/\n");
    await assert.rejects(tasks.importFolder(project, task), refused);
    await rm(join(task, "environment/Dockerfile"));
    await symlink("/etc/passwd", join(task, "tests/link"));
    await assert.rejects(tasks.importFolder(project, task), refused);
    assert.deepEqual(await made(), before);
  });
});
