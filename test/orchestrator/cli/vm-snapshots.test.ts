/**
 * Goal: a person keeps a VM, lists, restores and removes by commands, and `vm follow` does it with
 * each checkpoint; each command ends with the right status and says what to do.
 *
 * Method: a real qemu by the run.sh that our template makes, emulated, its disk blank; the API over
 * canned services, as for all tests of the command line.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import test, { type TestContext } from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import type { Trial } from "../../../orchestrator/contract/trials.ts";
import type { WorkerDetail } from "../../../orchestrator/contract/workers.ts";
import type { TrialId } from "../../../orchestrator/runtime/ids.ts";
import { readCatalog } from "../../../vm-templates/catalog.ts";
import { openQmp } from "../../../vm-templates/qmp.ts";
import { renderTemplate } from "../../../vm-templates/render.ts";
import { WORKER } from "../../support/api-answers.ts";
import { openApiServices } from "../../support/api-services.ts";
import { eventually } from "../../support/eventually.ts";
import { runToEnd } from "../../support/installation.ts";
import { openBlank, whyNoQemu } from "../../support/qemu.ts";
import { fixtureTree } from "../../support/ui-fixture-checkpoints.ts";

const BIN = resolve(import.meta.dirname, "../../../bin/autocode.mjs");
const skip = await whyNoQemu();

test("a VM is kept, listed, put back and started again by commands", { skip }, async (t) => {
  await using blank = await openBlank();
  const { folder } = blank;
  const autocode = commandsIn(folder, {});
  await layRunScript(folder);
  const none = await autocode("vm", "snapshot", ".", "--name", "one");
  assert.equal(none.exit, 1);
  assert.match(none.err, /the VM does not run: no qemu at qmp\.sock; start it: sh run\.sh/);
  const unnamed = await autocode("vm", "snapshot", ".");
  assert.equal(unnamed.exit, 2);
  assert.match(unnamed.err, /name one of --trial <trial> and --name <name>/);

  await startByScript(t, folder);
  const socket = await stat(join(folder, "qmp.sock"));
  assert.equal(socket.mode & 0o777, 0o600, "who speaks there has the VM");
  const taken = await autocode("vm", "snapshot", ".", "--name", "one", "--json");
  assert.equal(taken.exit, 0, taken.err);
  const { name, paused_ms: pausedMs } = JSON.parse(taken.out) as Record<string, unknown>;
  assert.equal(name, "one");
  assert.ok(Number(pausedMs) >= 0, taken.out);
  assert.match(
    (await autocode("vm", "snapshot", "ls", ".")).out,
    /^snapshot +trial +taken +MiB\none +- +20\d\d-\S+Z +\d+\n$/,
  );
  assert.equal((await autocode("vm", "restore", ".", "one")).out, "the VM goes on from one\n");
  const unknown = await autocode("vm", "restore", ".", "two");
  assert.equal(unknown.exit, 1);
  assert.match(unknown.err, /the VM has no snapshot two; it has one$/m);

  await quit(folder);
  const restoring = autocode("vm", "restore", ".", "one", "--accel", "tcg");
  await eventually(() => answers(folder), Boolean, 30_000);
  await quit(folder);
  const restored = await restoring;
  assert.equal(restored.exit, 0, restored.err);
  const removed = await autocode("vm", "snapshot", "rm", ".", "one");
  assert.equal(removed.out, "one is removed\n", removed.err);
  assert.equal((await autocode("vm", "snapshot", "ls", ".", "--json")).out.trim(), "[]");
});

test("with each checkpoint of a trial in it, and until that is forgotten", { skip }, async () => {
  await using fixture = await openApiServices();
  const cell = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };
  const { id } = await fixture.services.trials.create(cell);
  const trial: Trial = await fixture.services.trials.get(id as TrialId);
  const { trials, checkpoints } = fixtureTree(trial);
  const own = checkpoints.filter(({ trial_id: owner }) => owner === id);
  const [first, second] = own;
  assert.ok(first !== undefined && second !== undefined);
  let kept = [first];
  const services = {
    ...fixture.services,
    checkpoints: {
      ...fixture.services.checkpoints,
      tree: async () => ({ trials, checkpoints: kept }),
    },
    workers: { ...fixture.services.workers, get: async () => detailOf(id) },
  };
  const api = createApi(services as typeof fixture.services, { version: "0.0.0", pollMs: 100 });
  const url = await api.listen({ host: "127.0.0.1", port: 0 });
  await using blank = await openBlank();
  await blank.start();
  const autocode = commandsIn(blank.folder, {
    AUTOCODE_URL: url,
    AUTOCODE_TOKEN: await fixture.access.issueCliToken(),
  });
  const follow = () => autocode("vm", "follow", ".", "--worker", "vm1", "--once");
  try {
    const took = await follow();
    assert.equal(took.exit, 0, took.err);
    const said = `took ${first.id}.${id}; the VM stood still for `;
    assert.ok(took.out.startsWith(said), took.out);
    assert.equal((await follow()).out, "", "nothing is new");
    kept = [second];
    assert.match((await follow()).out, new RegExp(`^removed ${first.id}.*\ntook ${second.id}`));
    const listed = await autocode("vm", "snapshot", "ls", ".", "--json");
    const [only, ...others] = JSON.parse(listed.out) as Record<string, unknown>[];
    assert.deepEqual([only?.["checkpoint_id"], only?.["trial_id"], others], [second.id, id, []]);
    const again = await autocode("vm", "snapshot", ".", "--trial", id);
    assert.equal(again.exit, 1);
    assert.match(again.err, /there is a snapshot checkpoint_\w+\.trial_\w+ already; remove it, or/);
    assert.equal((await autocode("vm", "restore", ".", second.id)).exit, 0);
  } finally {
    await api.close();
  }
});

function commandsIn(folder: string, more: Record<string, string>) {
  const env = { PATH: process.env["PATH"] ?? "", AUTOCODE_HOME: join(folder, "home"), ...more };
  return (...args: string[]) => runToEnd(process.execPath, [BIN, ...args], { cwd: folder, env });
}

/** What `vm build` leaves beside the disk: how to run it, and a seed that has nothing to tell. */
async function layRunScript(folder: string): Promise<void> {
  const layer = { cpus: 1, memory_mib: 512 };
  const files = renderTemplate(await readCatalog([]), "base", [layer]);
  const script = files.find(({ name }) => name === "run.sh");
  await writeFile(join(folder, "run.sh"), script?.text ?? "", { mode: 0o755 });
  await mkdir(join(folder, "home"));
  execFileSync("qemu-img", ["create", "-q", "-f", "raw", join(folder, "seed.iso"), "1M"]);
}

async function startByScript(t: TestContext, folder: string): Promise<void> {
  const script = ["run.sh", "-machine", "accel=tcg"];
  const child = spawn("sh", script, { cwd: folder, stdio: "ignore" });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "close");
  });
  await eventually(() => answers(folder), Boolean, 30_000);
}

async function answers(folder: string): Promise<boolean> {
  const qmp = await openQmp(join(folder, "qmp.sock")).catch(() => null);
  await qmp?.[Symbol.asyncDispose]();
  return qmp !== null;
}

/** As a person ends it; resolves when nobody answers there any more. */
async function quit(folder: string): Promise<void> {
  const qmp = await openQmp(join(folder, "qmp.sock"));
  const ended = assert.rejects(qmp.event(() => false));
  await Promise.allSettled([qmp.execute("quit", {}, {} as never)]);
  await ended;
}

function detailOf(trialId: string): WorkerDetail {
  const assignedAt = "2026-11-21T12:00:00.000Z";
  const what = { allocation_id: "allocation_a", trial_id: trialId, state: "running" };
  return {
    worker: WORKER,
    window_ms: 1,
    outages: [],
    allocations: [{ ...what, assigned_at: assignedAt, ended_at: null }],
  };
}
