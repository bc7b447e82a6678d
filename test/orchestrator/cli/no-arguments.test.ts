/**
 * Goal: an argument starts nothing: `npm start -- --help` prints help, and a mistake is one line.
 *
 * Method: each program that npm's scripts serve with is started as its script says, with an
 * argument more; its data folder stays as it was.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { cleanEnvironment, openFolder, ROOT, runToEnd } from "../../support/installation.ts";

const text = await readFile(join(ROOT, "package.json"), "utf8");
const { scripts } = JSON.parse(text) as { scripts: Record<string, string> };

for (const [script, name] of [
  ["start", "npm start"],
  ["gateway", "npm run gateway"],
  ["egress", "npm run egress"],
] as const) {
  test(`${name} with an argument starts nothing`, async () => {
    const [program, ...args] = (scripts[script] ?? "").split(" ");
    assert.equal(program, "node");
    await using folder = await openFolder();
    const env = { ...cleanEnvironment(), AUTOCODE_HOME: join(folder.path, "home") };
    const start = (...more: string[]) =>
      runToEnd(process.execPath, [...args, ...more], { cwd: ROOT, env });
    const [help, wrong] = await Promise.all([start("--help"), start("--port", "80")]);

    assert.deepEqual([help.exit, help.err], [0, ""]);
    assert.match(help.out, new RegExp(`^Starts .*\n\nUsage: ${name}\n\n {2}[A-Z_]+ {2,}\\S`));
    for (const line of help.out.split("\n")) assert.ok(line.length <= 100, line);
    assert.deepEqual([wrong.exit, wrong.out], [2, ""]);
    assert.match(wrong.err, new RegExp(`^${name}: unexpected argument "--port": .*--help.*\n$`));
    assert.deepEqual(await readdir(folder.path), []);
  });
}
