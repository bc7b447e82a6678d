/**
 * Goal: a mistake costs one line that names what is wrong and how to mend it, a fitting exit
 * status, and nothing half-made.
 *
 * Method: the real program and command line with each mistake.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import test from "node:test";
import type { ProjectList } from "../../orchestrator/contract/projects.ts";
import {
  cleanEnvironment,
  makeProject,
  openFolder,
  ROOT,
  runToEnd,
  startInstallation,
} from "../support/installation.ts";

const MAIN = join(ROOT, "orchestrator/main.ts");
const PROJECT = "project: bad\ncurrency: CAD\nbudget: { total: 1, per_trial: 0.5 }\n";

test("a start that cannot work says why, and leaves nothing running", async (t) => {
  await using folder = await openFolder();
  const home = join(folder.path, "home");
  const start = (more: Record<string, string>) =>
    runToEnd(process.execPath, [MAIN], {
      env: { ...cleanEnvironment(), AUTOCODE_HOME: home, AUTOCODE_EXAMPLE: "off", ...more },
    });

  await t.test("AUTOCODE_PORT is no number", async () => {
    const { exit, out, err } = await start({ AUTOCODE_PORT: "abc" });
    assert.deepEqual([exit, out], [2, ""]);
    assert.match(err, /^AUTOCODE_PORT: "abc" must be a whole number from 0 to 65535\n$/);
    assert.deepEqual(await readdir(folder.path), []);
  });

  await t.test("the data folder cannot be written", async () => {
    const file = join(folder.path, "file");
    await writeFile(file, "");
    const { exit, err } = await start({ AUTOCODE_PORT: "0", AUTOCODE_HOME: file });
    assert.equal(exit, 5);
    assert.match(err, /^AUTOCODE_HOME: .*file.*\n$/);
  });

  await t.test("the port is taken", async () => {
    const other = createServer();
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as { port: number };
    const { exit, err } = await start({ AUTOCODE_PORT: String(port) });
    other.close();
    assert.equal(exit, 5);
    assert.match(err, new RegExp(`^AUTOCODE_PORT: port ${port} is in use; .*\\n$`));
  });
});

test("a command that cannot work says why, and makes nothing", async (t) => {
  await using installation = await startInstallation({ agents: false });
  await makeProject(installation, "example");
  const plain = join(installation.folder, "plain");
  await mkdir(plain);
  const file = async (name: string, text: string) => {
    await writeFile(join(installation.folder, name), text);
    return ["project", "apply", "-p", name];
  };
  const trial = (...more: string[]) => ["trial", "run", "--project", "example", ...more];
  const task = ["--task", "fix-median"];
  const taskFolder = join(installation.folder, "task");
  await mkdir(join(taskFolder, "environment"), { recursive: true });
  await writeFile(join(taskFolder, "task.toml"), 'version = "1.0"\n');
  await writeFile(join(taskFolder, "instruction.md"), "Mend it.\n");

  const cases: [string, string[], number, RegExp][] = [
    ["unknown key", await file("key.yaml", `${PROJECT}colour: red\n`), 2, /key\.yaml:4.*colour/],
    [
      "unknown currency",
      await file("money.yaml", PROJECT.replace("CAD", "cad")),
      2,
      /money\.yaml:2.*currency/,
    ],
    [
      "negative budget",
      await file("debt.yaml", PROJECT.replace("total: 1", "total: -1")),
      2,
      /debt\.yaml:3.*budget\.total/,
    ],
    [
      "unknown agent in a file",
      await file("a.yaml", `${PROJECT}agents: [no]\n`),
      2,
      /agents.*"?no/,
    ],
    ["no tests", ["task", "import", taskFolder, "--project", "example"], 2, /tests/],
    [
      "no repository",
      trial("-p", plain, "--instruction", "x", "--test", "true", "-a", "aider"),
      2,
      /path: .*plain is no git repository; .*git init/,
    ],
    ["unknown agent", trial(...task, "-a", "nobody"), 2, /agent.*"nobody".*qwen-code/],
    ["unknown pair", trial(...task, "-m", "nothing"), 2, /pair.*"nothing".*scripted/],
    ["unknown task", trial("--task", "nothing"), 2, /task.*"nothing".*fix-median/],
    ["negative amount", trial(...task, "--budget=-1"), 2, /--budget.*-1/],
    ["negative top-up", ["budget", "topup", "example", "--", "-1"], 2, /amount.*-1/],
    ["unknown trial", ["trial", "show", "trial_01m7z3vmz5ffqvz26dv7c0ywzd"], 1, /no trial/],
    ["unknown command", ["trial", "fly"], 2, /trial needs one of: run, /],
  ];
  for (const [name, args, exit, expected] of cases) {
    await t.test(name, async () => {
      const ended = await installation.cli(...args);
      assert.equal(ended.exit, exit, ended.err);
      assert.equal(ended.out, "");
      assert.match(ended.err, /^autocode: [^\n]+\n$/);
      assert.match(ended.err, expected);
    });
  }

  await t.test("a wrong token is refused", async () => {
    const bin = join(ROOT, "bin/autocode.mjs");
    const env = { ...installation.environment, AUTOCODE_TOKEN: "wrong" };
    const ended = await runToEnd(process.execPath, [bin, "trial", "ls"], { env });
    assert.equal(ended.exit, 4, ended.err);
    assert.match(ended.err, /^autocode: [^\n]+\n$/);
  });

  await t.test("nothing was made", async () => {
    const { projects } = await installation.get<ProjectList>("projects");
    assert.deepEqual(
      projects.map(({ name }) => name),
      ["example"],
    );
    assert.deepEqual((await installation.get<{ trials: unknown[] }>("trials")).trials, []);
  });
});
