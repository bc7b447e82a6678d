/** Goal: what was kept of a trial is listed as the tree it is, forked from, and brought here. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import { treeRows } from "../../../orchestrator/cli/checkpoint-rows.ts";
import type { Trial } from "../../../orchestrator/contract/trials.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { openApiServices } from "../../support/api-services.ts";
import { runToEnd } from "../../support/installation.ts";
import { fixtureTree } from "../../support/ui-fixture-checkpoints.ts";

const BIN = resolve(import.meta.dirname, "../../../bin/autocode.mjs");

async function openWorld() {
  const fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0.0.0", pollMs: 100 });
  const url = await api.listen({ host: "127.0.0.1", port: 0 });
  const folder = await mkdtemp(join(tmpdir(), "autocode-cli-"));
  const configs = join(folder, ".autocode/shared/configs");
  await mkdir(configs, { recursive: true });
  const token = await fixture.access.issueCliToken();
  const endpoint = { mode: 0o600, flag: "wx" };
  await writeFile(join(configs, "endpoint.json"), JSON.stringify({ url, token }), endpoint);
  const cell = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };
  const { id } = await fixture.services.trials.create(cell);
  const env = { PATH: process.env["PATH"] ?? "", AUTOCODE_HOME: join(folder, ".autocode") };
  return {
    ...{ fixture, folder, id },
    autocode: (...args: string[]) =>
      runToEnd(process.execPath, [BIN, ...args], { cwd: folder, env }),
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await fixture[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

test("forks stand below the checkpoint that they began with", async () => {
  await using world = await openWorld();
  const trial = await world.fixture.services.trials.get(world.id as TrialId);
  const { trials, checkpoints } = fixtureTree(trial);
  const rows = treeRows({ trials, checkpoints });
  const [one, two, three, four, five, six] = checkpoints.map(({ id }) => id);
  assert.deepEqual(
    rows.map(({ depth, checkpoint, trial: each }) => [depth, checkpoint?.id ?? each.id]),
    [
      [0, trials[0]?.id],
      [0, one],
      [0, two],
      [1, trials[1]?.id],
      [1, five],
      [1, six],
      [0, three],
      [0, four],
    ],
  );
  // A fork whose beginning is not shown stands by itself.
  const orphan = treeRows({ trials, checkpoints: checkpoints.slice(2) });
  assert.deepEqual(orphan.filter(({ checkpoint }) => checkpoint === null).length, 2);
});

test("checkpoints are listed, and a trial is forked from one", async () => {
  await using world = await openWorld();
  const { id, autocode } = world;
  const shown = await autocode("trial", "checkpoints", id);
  assert.equal(shown.exit, 0, shown.err);
  assert.match(
    shown.out,
    /^checkpoint +cause +phase +files +bytes +new +at\ntrial_\w+ +aider +queued/,
  );
  assert.match(shown.out, /^├ checkpoint_\w+ +end +execute +2 +1\.23k +1\.00k +2026-11-21T/m);
  const tree = JSON.parse((await autocode("trial", "checkpoints", id, "--json")).out);
  assert.equal(tree.checkpoints.length, 1);

  const [checkpoint] = tree.checkpoints;
  const from = ["--checkpoint", checkpoint.id, "--agent", "qwen-code", "--limit", "0.25"];
  const forked = await autocode("trial", "fork", id, ...from, "--detach", "--json");
  assert.equal(forked.exit, 0, forked.err);
  const made = JSON.parse(forked.out) as Trial;
  assert.deepEqual([made.agent, made.pair, made.task], ["qwen-code", "scripted", "fix-add"]);
  const wrong = await autocode("trial", "fork", id, "--limit", "none");
  assert.deepEqual([wrong.exit, wrong.out], [2, ""]);
  assert.match(wrong.err, /--limit: "none" is not an amount/);
});

test("what a trial, or all of a project, left behind is brought here once", async () => {
  await using world = await openWorld();
  const { id, autocode, folder } = world;
  const listed = await autocode("trial", "artefacts", id);
  assert.match(listed.out, /^artefact +bytes +updated\n/);
  assert.match(listed.out, /^changes\.patch +\d/m);
  const done = await autocode("trial", "download", id, "--name", "changes.patch", "--to", "got");
  assert.equal(done.exit, 0, done.err);
  assert.equal(await readFile(join(folder, "got/changes.patch"), "utf8"), "--- a\n+++ b\n");
  assert.deepEqual(await readdir(join(folder, "got")), ["changes.patch"]);
  const again = await autocode("trial", "download", id, "--to", "got");
  assert.equal(again.exit, 1);
  assert.match(again.err, /changes\.patch is there already: --force writes over it/);

  const all = await autocode("project", "download", "demo", "--name", "changes.patch", "--json");
  assert.equal(all.exit, 0, all.err);
  assert.deepEqual(
    JSON.parse(all.out).map(({ trial, name }: { trial: string; name: string }) => [trial, name]),
    [[id, "changes.patch"]],
  );
  assert.deepEqual(await readdir(join(folder, "demo", id)), ["changes.patch"]);
  const unknown = await autocode("project", "download", "none");
  assert.equal(unknown.exit, 1);
  const bad = await autocode("trial", "download", "../x");
  assert.notEqual(bad.exit, 0);
});
