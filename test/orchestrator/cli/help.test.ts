/** Goal: the help is the one we reviewed, and every command that the API needs is in it. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import test from "node:test";
import { promisify } from "node:util";

const ROOT = resolve(import.meta.dirname, "../../..");
const BIN = resolve(ROOT, "bin/autocode.mjs");
const run = promisify(execFile);

test("the help of each command", async (t) => {
  const { stdout: overview } = await run(process.execPath, [BIN, "--help"]);
  const names = [...overview.matchAll(/^ {2}([a-z]+(?: [a-z-]+){0,2}) {2,}\S/gm)].map(
    ([, name = ""]) => name,
  );
  assert.ok(names.length >= 30, names.join(", "));
  const pages: string[] = [overview.replace(/autocode \d+\.\d+\.\d+/, "autocode VERSION")];
  for (const name of names) {
    const { stdout } = await run(process.execPath, [BIN, ...name.split(" "), "--help"]);
    assert.match(stdout, new RegExp(`^Usage: autocode ${name}`, "m"));
    for (const line of stdout.split("\n")) assert.ok(line.length <= 100, line);
    pages.push(stdout);
  }
  t.assert.fileSnapshot(pages.join("\n---\n\n"), resolve(ROOT, "test/golden/cli-help.txt"), {
    serializers: [String],
  });
});

test("the version, and completions that a shell can read", async () => {
  const { stdout: version } = await run(process.execPath, [BIN, "--version"]);
  assert.match(version, /^\d+\.\d+\.\d+\n$/);
  for (const shell of ["bash", "zsh", "fish"]) {
    const { stdout } = await run(process.execPath, [BIN, "completion", shell]);
    assert.match(stdout, /trial/);
    assert.match(stdout, /topup/);
  }
  const { stdout } = await run(process.execPath, [BIN, "completion", "bash"]);
  await run("bash", ["-n", "-c", stdout]);
});
