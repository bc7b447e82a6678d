/** Goal: a usual command starts fast: it loads no library that only some commands use. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(import.meta.dirname, "../../..");
/** Prints the packages that were loaded, in place of what the command prints. */
const HOOK = `import { registerHooks } from "node:module";
const packages = new Set();
registerHooks({
  load(url, context, next) {
    const name = /node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(url)?.[1];
    if (name !== undefined) packages.add(name);
    return next(url, context);
  },
});
process.on("exit", () => console.error(JSON.stringify([...packages])));`;

for (const command of ["trial ls", "traffic search", "budget set", "ledger verify"]) {
  test(`autocode ${command} --help loads no schema, no YAML and no template engine`, () => {
    const hook = `data:text/javascript,${encodeURIComponent(HOOK)}`;
    const args = [
      "--import",
      hook,
      join(ROOT, "bin/autocode.mjs"),
      ...command.split(" "),
      "--help",
    ];
    const { stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const loaded = JSON.parse(stderr.trim().split("\n").at(-1) ?? "") as string[];
    assert.deepEqual(loaded, ["eventsource-parser"]);
  });
}
