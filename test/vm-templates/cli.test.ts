/** Goal: the `vm` commands say what they made and what is wrong, and end with the right status. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { cleanEnvironment, ROOT, runToEnd } from "../support/installation.ts";

async function openBench(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), "autocode-vm-cli-"));
  t.after(() => rm(folder, { recursive: true }));
  const home = join(folder, "home");
  await mkdir(join(home, "shared/configs"), { recursive: true });
  const vm = (args: readonly string[], more: Record<string, string> = {}) =>
    runToEnd(process.execPath, [join(ROOT, "bin/autocode.mjs"), "vm", ...args], {
      cwd: folder,
      env: { ...cleanEnvironment(), AUTOCODE_HOME: home, NO_COLOR: "1", ...more },
    });
  return { folder, home, vm };
}

test("vm ls: the templates, what they extend, and the standard figures", async (t) => {
  const { vm } = await openBench(t);
  const { exit, out } = await vm(["ls", "--json"]);
  assert.equal(exit, 0);
  const rows = JSON.parse(out) as { name: string; extends: string | null; cpus: number }[];
  assert.deepEqual(
    rows.map(({ name, extends: parent }) => [name, parent]),
    [
      ["base", null],
      ["gpu-worker", "worker"],
      ["ubuntu", "base"],
      ["worker", "ubuntu"],
    ],
  );
  const { summary: _, ...worker } = rows.at(-1) as (typeof rows)[0] & { summary: string };
  const figures = { cpus: 64, memory_mib: 8192, disk_gib: 128 };
  assert.deepEqual(worker, { name: "worker", extends: "ubuntu", ...figures });
});

test("vm render: arguments over the environment over the project's file over the installation's", async (t) => {
  const { folder, home, vm } = await openBench(t);
  await writeFile(
    join(home, "shared/configs/vm.yaml"),
    "cpus: 1\nmemory_mib: 1001\ndisk_gib: 11\n",
  );
  await writeFile(join(folder, "vm.yaml"), "cpus: 2\nmemory_mib: 2002\nname: of-the-project\n");
  const more = { AUTOCODE_VM_CPUS: "3", AUTOCODE_VM_NAME: "of-the-environment" };
  const { exit, out, err } = await vm(["render", "base", "--out", "made", "--set", "cpus=4"], more);
  assert.equal(exit, 0, err);
  const names = await readdir(join(folder, "made"));
  assert.deepEqual(
    out.trim().split("\n"),
    names.sort().map((name) => join("made", name)),
  );
  const script = await readFile(join(folder, "made/run.sh"), "utf8");
  assert.match(script, /-name of-the-environment /);
  assert.match(script, /-smp 4 -m 2002 /);
  assert.equal((await stat(join(folder, "made/user-data"))).mode & 0o777, 0o600);
});

test("what is wrong is one line with its place, and a usage status", async (t) => {
  const { folder, vm } = await openBench(t);
  await writeFile(join(folder, "bad.yaml"), "# mine\ncpus: 1\nmemory: 8\n");
  const cases: readonly [string[], RegExp][] = [
    [["render", "office"], /^autocode: there is no VM template "office"; there are base, /],
    [["render", "worker"], /^autocode: worker\/user-data\.njk:\d+: join_token is undefined: /],
    [
      ["render", "base", "--file", "bad.yaml"],
      /bad\.yaml:3: memory: unknown variable; known: memory_/,
    ],
    [["render", "base", "--file", "none.yaml"], /none\.yaml: cannot be read \(ENOENT\)$/],
    [
      ["render", "base", "--set", "cpus=1000000"],
      /--set: cpus: must be a whole number from 1 to 1024/,
    ],
    [["render", "base", "--templates", "none"], /none: cannot be read \(ENOENT\)$/],
    [["build", "base"], /--out is missing$/],
    [["build", "base", "--out", "x"], /name one of --base <image> and --debootstrap <release>$/],
  ];
  for (const [args, message] of cases) {
    const { exit, out, err } = await vm(args);
    assert.deepEqual([exit, out], [2, ""], err);
    assert.match(err.trim(), message);
    assert.equal(err.trim().split("\n").length, 1, err);
  }
});

test("vm validate: a fault in a file fails, with the program's own words", async (t) => {
  const { folder, vm } = await openBench(t);
  await mkdir(join(folder, "own/mine"), { recursive: true });
  await writeFile(join(folder, "own/mine/template.yaml"), "extends: base\n");
  const script = "#!/bin/sh\nif true; then\n";
  await writeFile(join(folder, "own/mine/extra.sh.njk"), script);
  const { exit, err } = await vm(["validate", "mine", "--templates", "own"]);
  assert.equal(exit, 1);
  assert.match(err, /extra\.sh: sh -n: .*(end of file|syntax)/i);
  const { exit: fine, out } = await vm(["validate", "base"]);
  assert.equal(fine, 0);
  assert.match(out, /run\.sh +sh -n +passed/);
});
