/**
 * Goal: a task folder in Harbor's format is read as its Dockerfile lays it out, and what is wrong
 * with one is said in one line that names the file and the fix.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { layOutEnvironment, readTaskFolder } from "../../../orchestrator/tasks/task-folder.ts";

const TASK = {
  "task.toml": "[agent]\ntimeout_sec = 90\n[verifier]\ntimeout_sec = 0.5\n",
  "instruction.md": "\nDo it.\n\n",
  "tests/test.sh": "true\n",
  "environment/a.txt": "a\n",
};

function folderOf(t: TestContext, files: Record<string, string | null>, name = "my-task"): string {
  const parent = mkdtempSync(join(tmpdir(), "autocode-folder-"));
  t.after(() => rmSync(parent, { recursive: true, force: true }));
  const folder = join(parent, name);
  mkdirSync(folder);
  for (const [file, content] of Object.entries(files)) {
    if (content === null) continue;
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), content);
  }
  return folder;
}

test("a folder is read with its limits, rounded up to whole seconds", async (t) => {
  const folder = folderOf(t, TASK, "My-Task");
  assert.deepEqual(await readTaskFolder(folder), {
    name: "my-task",
    instruction: "Do it.",
    agentWallMs: 90_000,
    verifyWallMs: 1_000,
    requirements: {},
    testsDir: join(folder, "tests"),
    environmentDir: join(folder, "environment"),
    warnings: [],
  });
  const plain = await readTaskFolder(folderOf(t, { ...TASK, "task.toml": "" }));
  assert.deepEqual([plain.agentWallMs, plain.verifyWallMs], [1_800_000, 600_000]);
});

const MISSING = "is missing: a task folder has task.toml, instruction.md, environment/";
const WRONG: readonly [string, Record<string, string | null>, string][] = [
  ["no task.toml", { "task.toml": null }, `task.toml ${MISSING}`],
  ["broken TOML", { "task.toml": "a = 1\nb = [" }, "task.toml:2: Invalid TOML document"],
  ["a limit of none", { "task.toml": "[agent]\ntimeout_sec = 0" }, "task.toml agent.timeout_sec"],
  ["a limit as text", { "task.toml": '[verifier]\ntimeout_sec = "9"' }, "verifier.timeout_sec"],
  ["no instruction", { "instruction.md": null }, `instruction.md ${MISSING}`],
  ["an empty instruction", { "instruction.md": " \n" }, "instruction.md is empty; say the task"],
  ["a binary instruction", { "instruction.md": "a\0b" }, "instruction.md must be text"],
  ["a huge instruction", { "instruction.md": "x".repeat(100_001) }, "at most 100000 characters"],
  ["no hidden tests", { "tests/test.sh": null }, "tests/test.sh is missing: the hidden tests"],
  ["no environment", { "environment/a.txt": null }, "environment is missing: it holds"],
];
for (const [what, change, message] of WRONG) {
  test(`${what}: one line that names the file`, async (t) => {
    const folder = folderOf(t, { ...TASK, ...change });
    await assert.rejects(readTaskFolder(folder), (error: Error & { code: string }) => {
      assert.equal(error.code, "invalid_request");
      assert.ok(error.message.includes(message), error.message);
      assert.ok(error.message.startsWith(folder) && !error.message.includes("\n"), error.message);
      return true;
    });
  });
}

test("a folder whose name is no task's name", async (t) => {
  const named = readTaskFolder(folderOf(t, TASK, "my task"));
  await assert.rejects(named, /my task is not a task name: use a-z/);
});

test("what a host cannot follow is told", async (t) => {
  const dockerfile = "FROM x\nRUN apt-get update \\\n  && true\nWORKDIR /app\nCOPY . .\n# note\n";
  const folder = folderOf(t, { ...TASK, "environment/Dockerfile": dockerfile });
  const { warnings } = await readTaskFolder(folder);
  assert.deepEqual(warnings, [
    "environment/Dockerfile: not followed on a host: RUN apt-get update && true",
  ]);
});

const ENVIRONMENT = {
  "a.txt": "a\n",
  "b.txt": "b\n",
  "two words.txt": "w\n",
  "src/main.js": "main\n",
  "src/deep/part.js": "part\n",
  "docker-compose.yml": "x\n",
};
const ALL = ["a.txt", "b.txt", "src/deep/part.js", "src/main.js", "two words.txt"];
const LAYOUTS: readonly [string, string, string[]][] = [
  ["no COPY: everything but what builds the image", "FROM x", ALL],
  ["the whole of it", "WORKDIR /app\nCOPY . .", ALL],
  ["the whole of it without a WORKDIR", "COPY . /app", ALL],
  ["a root of another name", "WORKDIR /workspace\nCOPY . .", ALL],
  ["a WORKDIR inside", "WORKDIR /app/lib\nCOPY src .", ["lib/deep/part.js", "lib/main.js"]],
  ["a relative WORKDIR", "WORKDIR /app\nWORKDIR lib\nCOPY a.txt .", ["lib/a.txt"]],
  ["a file under another name", "WORKDIR /app\nCOPY a.txt c.txt", ["c.txt"]],
  ["a file into the root", "WORKDIR /app\nCOPY a.txt /app", ["a.txt"]],
  ["a file into a folder", "COPY src/deep /app/s\nCOPY a.txt /app/s/", ["s/a.txt", "s/part.js"]],
  ["several into a folder", "WORKDIR /app\nCOPY a.txt b.txt in", ["in/a.txt", "in/b.txt"]],
  ["a pattern", "WORKDIR /app\nCOPY ?.txt ./", ["a.txt", "b.txt"]],
  ["the list form", 'WORKDIR /app\nCOPY ["two words.txt", "./"]', ["two words.txt"]],
  ["flags", "WORKDIR /app\nCOPY --chown=1:1 a.txt .", ["a.txt"]],
  ["another stage's files", "WORKDIR /app\nCOPY --from=build /a.txt .\nCOPY b.txt .", ["b.txt"]],
  ["a place outside of the root", "WORKDIR /app\nCOPY a.txt /etc/\nCOPY b.txt .", ["b.txt"]],
];
for (const [what, dockerfile, files] of LAYOUTS) {
  test(`COPY: ${what}`, async (t) => {
    const environment = folderOf(t, { ...ENVIRONMENT, Dockerfile: `${dockerfile}\n` });
    const target = folderOf(t, {});
    await layOutEnvironment(environment, target);
    const found = readdirSync(target, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(target.length + 1))
      .toSorted();
    assert.deepEqual(found, files);
  });
}

test("a copied file keeps its content", async (t) => {
  const environment = folderOf(t, { ...ENVIRONMENT, Dockerfile: "COPY a.txt /app/c.txt\n" });
  const target = folderOf(t, {});
  await layOutEnvironment(environment, target);
  assert.equal(readFileSync(join(target, "c.txt"), "utf8"), "a\n");
});

for (const from of ["gone.txt", "*.gone"]) {
  test(`COPY ${from} of what is not there names the Dockerfile`, async (t) => {
    const environment = folderOf(t, { ...ENVIRONMENT, Dockerfile: `COPY ${from} /app/\n` });
    await assert.rejects(layOutEnvironment(environment, folderOf(t, {})), {
      code: "invalid_request",
      message: `${join(environment, "Dockerfile")}: COPY ${from}: there is no such file in ${environment}; add it or drop the line`,
    });
  });
}
