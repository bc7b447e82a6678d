/**
 * Goal: what an allocation holds is closed to the users of other slots, its processes have no
 * group of ours, and the rights it takes away from its files do not outlive it (S15).
 *
 * Method: real git, tar and processes. Where it takes another user, only root can run the test.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createGit } from "../../worker-agent/git.ts";
import { runProcess } from "../../worker-agent/process.ts";
import { removeTree } from "../../worker-agent/rooms.ts";
import { unpack } from "../../worker-agent/unpack.ts";
import { checkOut } from "../../worker-agent/workspace.ts";
import { allocationId, makeRepository, openFolder } from "../support/worker-world.ts";

const PATH = process.env["PATH"] ?? "";
const needsRoot = { skip: process.getuid?.() !== 0 && "only root can become another user" };

test("a checkout and hidden tests are closed to other users", async () => {
  using folder = openFolder();
  const source = makeRepository(folder.path, { "a.txt": "one\n" });
  const home = join(folder.path, "home");
  mkdirSync(home);
  const checkout = join(folder.path, "checkout");
  await checkOut(createGit(PATH, home), source, checkout);
  assert.equal(statSync(checkout).mode & 0o077, 0);

  const tests = join(folder.path, "tests");
  execFileSync("tar", ["-cf", `${tests}.tar`, "-C", checkout, "a.txt"]);
  await unpack(`${tests}.tar`, tests);
  assert.ok(existsSync(join(tests, "a.txt")));
  assert.equal(statSync(tests).mode & 0o077, 0);
});

for (const terminal of [false, true]) {
  const where = terminal ? "in a terminal" : "without one";
  test(`a process of another user, ${where}, has no group of ours`, needsRoot, async (t) => {
    const before = process.getgroups?.() ?? [];
    t.after(() => process.setgroups?.(before));
    process.setgroups?.([0, 4]);
    let said = "";
    const end = await runProcess(
      { now: () => Date.now() },
      {
        file: "/bin/sh",
        args: ["-c", "id -G"],
        env: { PATH },
        cwd: "/",
        terminal,
        runAs: { uid: 3_000_021, gid: 3_000_022 },
        marker: allocationId(),
        wallMs: 20_000,
        idleMs: null,
        graceMs: 100,
        onOutput: (bytes) => {
          said += String(bytes);
        },
      },
      new AbortController().signal,
    );
    assert.equal(end.cause, "exited");
    assert.equal(said.trim(), "3000022");
  });
}

test("a folder without rights is removed all the same", needsRoot, async () => {
  using folder = openFolder();
  const room = join(folder.path, "room");
  mkdirSync(join(room, "closed/inner"), { recursive: true });
  writeFileSync(join(room, "closed/inner/file"), "");
  execFileSync("chown", ["-R", "3000021", folder.path]);
  execFileSync("chmod", ["000", join(room, "closed/inner"), join(room, "closed")]);
  execFileSync("chmod", ["755", folder.path]);
  const remover = `import { removeTree } from ${JSON.stringify(
    join(import.meta.dirname, "../../worker-agent/rooms.ts"),
  )};
await removeTree(${JSON.stringify(room)});`;
  execFileSync(process.execPath, ["--input-type=module", "--eval", remover], { uid: 3_000_021 });
  assert.equal(existsSync(room), false);
  await removeTree(room);
});
