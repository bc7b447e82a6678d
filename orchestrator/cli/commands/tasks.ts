/** Tasks: a skeleton of Harbor's folder, and importing one. */
import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Task, TaskList } from "../../contract/projects.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { chooseProject } from "../defaults.ts";
import { EXIT, Failure, usage } from "../failure.ts";

const PROJECT_OPTION = { type: "string", value: "<name>", help: "The project" } as const;

export const taskInit: Command = {
  name: "task init",
  summary: "Write the skeleton of a task folder, in Harbor's format",
  positionals: [{ name: "folder", isRequired: true }],
  async run({ positionals: [folder = ""], print, config }) {
    const target = resolve(config.cwd, folder);
    const name = basename(target);
    if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(name)) {
      throw usage(`"${name}" is not a task name: use a-z, 0-9, dot, dash and underscore`);
    }
    try {
      await mkdir(dirname(target), { recursive: true });
      await mkdir(target);
      for (const [path, text] of Object.entries(skeleton(name))) {
        await mkdir(dirname(join(target, path)), { recursive: true });
        const mode = path.endsWith(".sh") ? 0o755 : 0o644;
        await writeFile(join(target, path), text, { mode, flag: "wx" });
      }
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === "EEXIST") throw usage(`${target} exists already: it is not overwritten`);
      throw new Failure(EXIT.failed, `${target} cannot be written (${code})`, cause);
    }
    print.line(`${target} written. Next: put the repository's files into environment/,`);
    print.line("the hidden tests into tests/, say the task in instruction.md, then");
    print.line(`autocode task import ${folder}`);
    return EXIT.done;
  },
};

export const taskImport: Command = {
  name: "task import",
  summary: "Import a task folder into a project; the same content twice is one task",
  positionals: [{ name: "folder", isRequired: true }],
  options: { project: PROJECT_OPTION, json: JSON_OPTION },
  async run({ positionals: [folder = ""], options, print, config, connect }) {
    const client = await connect();
    const project = await chooseProject(client, options.text("project"));
    const body = { folder: resolve(config.cwd, folder) };
    const task = await client.post<Task>(`projects/${project.name}/tasks`, body);
    if (options.flag("json")) print.json(task);
    else print.line(`${task.name}  ${task.id}  project ${task.project}`);
    return EXIT.done;
  },
};

export const taskLs: Command = {
  name: "task ls",
  summary: "List a project's tasks",
  options: { project: PROJECT_OPTION, json: JSON_OPTION },
  async run({ options, print, connect }) {
    const client = await connect();
    const project = await chooseProject(client, options.text("project"));
    const { tasks } = await client.get<TaskList>(`projects/${project.name}/tasks`);
    if (options.flag("json")) {
      print.json(tasks);
      return EXIT.done;
    }
    print.table<Task>(
      [
        { title: "task", value: ({ name }) => name },
        { title: "tests", value: (task) => (task.has_hidden_tests ? "hidden" : "visible") },
        { title: "decided by", value: ({ test }) => test, shrinks: true },
        { title: "instruction", value: ({ instruction }) => instruction, shrinks: true },
      ],
      tasks,
    );
    return EXIT.done;
  },
};

function skeleton(name: string): Record<string, string> {
  return {
    "task.toml": `schema_version = "1.1"

[task]
name = "local/${name}"
description = "What the task is about, in one line"

[agent]
timeout_sec = 1800

[verifier]
timeout_sec = 600
`,
    "instruction.md": `Say here what the agent is to do, as you would to a colleague.

It sees the files of environment/ and this text; it never sees tests/ and solution/.
`,
    "environment/Dockerfile": `# The repository's files lie beside this one. On a host without containers, only WORKDIR
# and COPY are followed.
FROM node:24-slim
WORKDIR /app
COPY . .
`,
    "tests/test.sh": `#!/bin/sh
# Runs the hidden tests on the checkout, which is the current folder, and writes the reward.
tests="\${TESTS_DIR:-/tests}"
logs="\${LOGS_DIR:-/logs/verifier}"
mkdir -p "$logs"
if node --test "$tests/hidden.test.mjs"; then
  echo 1 >"$logs/reward.txt"
else
  echo 0 >"$logs/reward.txt"
fi
`,
    "tests/hidden.test.mjs": `import assert from "node:assert/strict";
import test from "node:test";

test("what the task asks for works", () => {
  assert.fail("write the test that decides");
});
`,
    "solution/solve.sh": `#!/bin/sh
# Run in the checkout, as Harbor's oracle agent does: it makes the hidden tests pass.
echo "write the solution" >&2
exit 1
`,
  };
}
