/** Goal: no other user of the machine can reach hidden tests, artefacts, the log or the token. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createLayout } from "../../../orchestrator/projects/layout.ts";
import { closeFolders } from "../../../orchestrator/projects/private-folders.ts";
import { makePassage } from "../../../worker-agent/rooms.ts";

test("what agents pass through stays open, whatever the umask, and is made below it", async (t) => {
  const umask = process.umask(0o077);
  t.after(() => process.umask(umask));
  const folder = mkdtempSync(join(tmpdir(), "autocode-home-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const home = join(folder, "home");
  const layout = createLayout(home);
  await makePassage(layout.shared);
  mkdirSync(layout.secrets, { recursive: true, mode: 0o700 });
  await closeFolders(layout);
  await makePassage(layout.shared);
  for (const each of [home, layout.shared, layout.allocations]) {
    assert.equal(statSync(each).mode & 0o777, 0o711, each);
  }
});

test("the folders are made closed, and closed when they are found open", async (t) => {
  const home = mkdtempSync(join(tmpdir(), "autocode-home-"));
  t.after(() => rmSync(home, { recursive: true }));
  const layout = createLayout(home);
  mkdirSync(layout.logs, { recursive: true });
  chmodSync(layout.logs, 0o777);
  await closeFolders(layout);
  const modes = ["projects", "shared/configs", "shared/logs", "shared/allocations"].map(
    (name) => statSync(join(home, name)).mode & 0o777,
  );
  assert.deepEqual(modes, [0o700, 0o700, 0o700, 0o711]);
  const { tests } = layout.task("project_x", "task_x");
  assert.ok(tests.startsWith(join(home, "projects/")));
  assert.ok(layout.artefact("project_x", "t", "a", "n").startsWith(join(home, "projects/")));
  assert.equal(layout.endpoint, join(layout.configs, "endpoint.json"));
});
