/**
 * Goal: each example task is broken as it stands, is solved by its own solution, and its script
 * leads to the verdict that the example experiment promises.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { parseScript } from "../../models/scripted/script.ts";

const EXAMPLES = join(import.meta.dirname, "../../examples");
const VERDICTS: Record<string, string> = { "parse-duration": "0" };

/** Ours would tell a nested `node --test` that it is a part of this run. */
const { NODE_TEST_CONTEXT: _, ...inherited } = process.env;
const env = { ...inherited, PATH: `${dirname(process.execPath)}:${process.env["PATH"]}` };

for (const task of readdirSync(join(EXAMPLES, "tasks"))) {
  const folder = join(EXAMPLES, "tasks", task);

  function openCheckout() {
    const root = mkdtempSync(join(tmpdir(), `${task}-`));
    const repo = join(root, "repo");
    cpSync(join(folder, "environment"), repo, { recursive: true });
    return { repo, reward, visible, [Symbol.dispose]: () => rmSync(root, { recursive: true }) };

    /** What the hidden tests say, run as the verifier runs them. */
    function reward(): string {
      const logs = join(root, "logs");
      const tests = join(folder, "tests");
      const options = {
        cwd: repo,
        env: { ...env, TESTS_DIR: tests, LOGS_DIR: logs },
        stdio: "ignore",
      } as const;
      execFileSync("sh", [join(tests, "test.sh")], options);
      return readFileSync(join(logs, "reward.txt"), "utf8").trim();
    }

    function visible(): number | null {
      return spawnSync(process.execPath, ["--test"], { cwd: repo, env, stdio: "ignore" }).status;
    }
  }

  test(`${task}: is broken, and its solution solves it`, () => {
    using checkout = openCheckout();
    assert.deepEqual([checkout.visible(), checkout.reward()], [1, "0"]);
    const solve = join(folder, "solution/solve.sh");
    execFileSync("sh", [solve], { cwd: checkout.repo, env });
    assert.deepEqual([checkout.visible(), checkout.reward()], [0, "1"]);
  });

  test(`${task}: its script plays to its verdict, and the visible tests pass either way`, () => {
    using checkout = openCheckout();
    const file = `${task}.yaml`;
    const source = readFileSync(join(EXAMPLES, "scripts", file), "utf8");
    const script = parseScript(task, file, source);
    const instruction = readFileSync(join(folder, "instruction.md"), "utf8");
    assert.equal(script.matches?.(instruction), true);
    for (const edit of script.edits) {
      const path = join(checkout.repo, edit.path);
      assert.ok("old" in edit, "every agent can edit; not every agent can write");
      const parts = readFileSync(path, "utf8").split(edit.old);
      assert.equal(parts.length, 2, `${edit.path}: the old text stands there once`);
      writeFileSync(path, parts.join(edit.new));
    }
    assert.deepEqual([checkout.visible(), checkout.reward()], [0, VERDICTS[task] ?? "1"]);
  });
}
