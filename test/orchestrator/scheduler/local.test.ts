/**
 * Goal: no more workers than slots, each ended with all it started, none lost or doubled when the
 * orchestrator is killed.
 *
 * Method: real processes that do what their enrolment token says; the kill is a real SIGKILL of a
 * process that holds a scheduler.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { AllocationId } from "../../../orchestrator/runtime/ids.ts";
import type { Placement, Scheduler } from "../../../orchestrator/scheduler/scheduler.ts";
import { eventually } from "../../support/eventually.ts";
import {
  isAlive,
  openSchedulerFolder,
  type SchedulerFolder,
} from "../../support/local-scheduler.ts";
import { placement, settled, testScheduler } from "./conformance.ts";

const HOLDER = join(import.meta.dirname, "../../support/local-holder.ts");

testScheduler("local", async () => {
  const folder = await openSchedulerFolder();
  const scheduler = await folder.open();
  return {
    scheduler,
    starts: (id) => folder.starts(id).length,
    [Symbol.asyncDispose]: async () => {
      await scheduler[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
});

test("at most `slots` run, the rest wait in line", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open({ slots: 2 });
  const placed = Array.from({ length: 4 }, () => placement("wait"));
  for (const each of placed) await scheduler.place(each);
  await running(scheduler, placed[0], placed[1]);
  assert.deepEqual(await statuses(scheduler, placed), ["running", "running", "pending", "pending"]);
  assert.equal(await scheduler.capacity(), 0);

  // One that waits is stopped where it is; one that ends makes room for the next.
  const [first, , third, fourth] = placed.map(({ allocationId }) => allocationId);
  assert.ok(first !== undefined && third !== undefined && fourth !== undefined);
  await scheduler.stop(third);
  await scheduler.stop(first);
  await running(scheduler, placed[3]);
  assert.deepEqual(await statuses(scheduler, placed), ["failed", "running", "failed", "running"]);
  assert.deepEqual(folder.starts(third), []);
});

test("a service's umask closes no folder that agents' users pass through", async (t) => {
  await using folder = await openSchedulerFolder();
  const umask = process.umask(0o077);
  t.after(() => process.umask(umask));
  await using scheduler = await folder.open();
  const placed = placement("wait");
  await scheduler.place(placed);
  await running(scheduler, placed);
  const allocations = join(folder.path, "allocations");
  for (const dir of [allocations, join(allocations, placed.allocationId)]) {
    assert.equal((await stat(dir)).mode & 0o777, 0o711, dir);
  }
  await scheduler.stop(placed.allocationId);
});

test("a worker that ignores SIGTERM is killed after its grace", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open({ graceMs: 50 });
  const deaf = placement("deaf");
  await scheduler.place(deaf);
  const pid = Number(await folder.note(deaf.allocationId, "starts"));
  await scheduler.stop(deaf.allocationId);
  assert.equal(await scheduler.status(deaf.allocationId), "failed");
  assert.equal(isAlive(pid), false);
});

test("a stop that comes while the worker starts is not lost", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open();
  const early = placement("wait");
  await scheduler.place(early);
  assert.equal(await scheduler.status(early.allocationId), "pending");
  await scheduler.stop(early.allocationId);
  assert.equal(await scheduler.status(early.allocationId), "failed");
});

test("closing leaves nothing running, what was just placed included", async () => {
  await using folder = await openSchedulerFolder();
  const scheduler = await folder.open({ slots: 2 });
  const placed = Array.from({ length: 3 }, () => placement("wait"));
  await scheduler.place(placed[0] as Placement);
  await running(scheduler, placed[0]);
  for (const each of placed.slice(1)) await scheduler.place(each);
  await scheduler[Symbol.asyncDispose]();
  const pids = placed.flatMap(({ allocationId }) => folder.starts(allocationId));
  assert.deepEqual(pids.filter(isAlive), []);
  assert.deepEqual(await allocationsIn(folder), []);
  await assert.rejects(scheduler.place(placement("complete")), /closing/);
});

test("a command that does not exist is a failure, and leaves no folder", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open({ command: [join(folder.path, "no-such-program")] });
  const { allocationId, ...rest } = placement("complete");
  await scheduler.place({ allocationId, ...rest });
  assert.equal(await settled(scheduler, allocationId), "failed");
  assert.deepEqual(await allocationsIn(folder), []);
  assert.equal(await scheduler.capacity(), 2);
});

test("one that ends at once is complete, whatever else goes on", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open({ command: ["true"], slots: 3 });
  const placed = Array.from({ length: 20 }, () => placement("complete"));
  for (const each of placed) await scheduler.place(each);
  const ends = placed.map(({ allocationId }) => settled(scheduler, allocationId));
  assert.deepEqual(new Set(await Promise.all(ends)), new Set(["complete"]));
  assert.equal(await scheduler.capacity(), 3);
});

test("what a worker left running elsewhere is ended with it", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open();
  const leaver = placement("leave");
  await scheduler.place(leaver);
  assert.equal(await settled(scheduler, leaver.allocationId), "complete");
  const left = Number(await folder.note(leaver.allocationId, "left"));
  assert.ok(left > 0);
  assert.equal(isAlive(left), false);
});

test("the enrolment token is told to the worker alone", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open({ env: { PATH: "/usr/bin:/bin", LANG: "C" } });
  const secret = placement("wait");
  await scheduler.place(secret);
  const pid = Number(await folder.note(secret.allocationId, "starts"));
  await running(scheduler, secret);
  assert.ok(!(await readFile(`/proc/${pid}/cmdline`, "utf8")).includes(secret.enrolmentToken));
  const allocationDir = join(folder.path, "allocations", secret.allocationId);
  for (const name of await readdir(allocationDir)) {
    const text = await readFile(join(allocationDir, name), "utf8");
    assert.ok(!text.includes(secret.enrolmentToken), name);
  }
  const { names } = JSON.parse(await folder.note(secret.allocationId, "env"));
  assert.deepEqual(names.toSorted(), [
    "AUTOCODE_AGENTS_DIR",
    "AUTOCODE_ALLOCATION_DIR",
    "AUTOCODE_API_URL",
    "AUTOCODE_ENROLMENT_TOKEN",
    "LANG",
    "NODE_COMPILE_CACHE",
    "PATH",
  ]);
});

test("each slot has a user of its own, free again at the end", async () => {
  await using folder = await openSchedulerFolder();
  await using scheduler = await folder.open({ slots: 2, firstUid: 61_000 });
  const [one, two, three] = [placement("wait"), placement("wait"), placement("wait")] as const;
  for (const each of [one, two]) await scheduler.place(each);
  const users = await Promise.all([one, two].map((each) => userOf(folder, each)));
  assert.deepEqual(users.toSorted(), ["61000:61000", "61001:61001"]);
  await scheduler.place(three);
  await scheduler.stop(one.allocationId);
  assert.equal(await userOf(folder, three), users[0]);
});

test("a killed orchestrator's worker goes on, and the next one adopts it", async () => {
  await using folder = await openSchedulerFolder();
  const orphan = placement("wait");
  const pid = await killHolderOf(folder, orphan);
  assert.ok(isAlive(pid));

  await using scheduler = await folder.open({ slots: 1 });
  const told: AllocationId[] = [];
  using _ = scheduler.onEnd((id) => void told.push(id));
  assert.equal(await scheduler.status(orphan.allocationId), "running");
  assert.equal(await scheduler.capacity(), 0);
  await scheduler.place(orphan);
  process.kill(pid, "SIGKILL");
  // Its exit code is not to be had: nobody knows how it ended.
  assert.equal(await settled(scheduler, orphan.allocationId), "lost");
  assert.deepEqual(told, [orphan.allocationId]);
  assert.equal(folder.starts(orphan.allocationId).length, 1);
  assert.equal(await scheduler.capacity(), 1);
});

test("an adopted worker is stopped, and ended on closing, like any other", async () => {
  await using folder = await openSchedulerFolder();
  const [stopped, closed] = [placement("wait"), placement("deaf")];
  const pids = [await killHolderOf(folder, stopped), await killHolderOf(folder, closed)];
  const scheduler = await folder.open({ graceMs: 50 });
  await scheduler.stop(stopped.allocationId);
  assert.equal(await scheduler.status(stopped.allocationId), "lost");
  await scheduler[Symbol.asyncDispose]();
  assert.deepEqual(pids.filter(isAlive), []);
});

test("a worker whose number was not written down in time is found by its environment", async () => {
  await using folder = await openSchedulerFolder();
  const orphan = placement("wait");
  const pid = await killHolderOf(folder, orphan);
  await rm(join(folder.path, "allocations", orphan.allocationId, "process.json"));
  await using scheduler = await folder.open();
  assert.equal(await scheduler.status(orphan.allocationId), "running");
  await scheduler.stop(orphan.allocationId);
  assert.equal(isAlive(pid), false);
});

test("another process with the worker's number is not adopted, nor harmed", async () => {
  await using folder = await openSchedulerFolder();
  const orphan = placement("wait");
  const pid = await killHolderOf(folder, orphan);
  process.kill(pid, "SIGKILL");
  await eventually(
    () => isAlive(pid),
    (alive) => !alive,
  );
  const written = join(folder.path, "allocations", orphan.allocationId, "process.json");
  const stranger = { ...JSON.parse(await readFile(written, "utf8")), pid: process.pid };
  await writeFile(written, JSON.stringify(stranger));

  await using scheduler = await folder.open();
  assert.equal(await settled(scheduler, orphan.allocationId), "lost");
  await scheduler.stop(orphan.allocationId);
  assert.deepEqual(await allocationsIn(folder), []);
});

test("the slot of a worker that lives is not given away by one that is gone", async () => {
  await using folder = await openSchedulerFolder();
  const [gone, alive, next] = [placement("wait"), placement("wait"), placement("wait")];
  const gonePid = await killHolderOf(folder, gone);
  process.kill(gonePid, "SIGKILL");
  await eventually(
    () => isAlive(gonePid),
    (still) => !still,
  );
  // A holder with firstUid null writes slot 0 for both.
  const alivePid = await killHolderOf(folder, alive, { keep: gone.allocationId });
  assert.ok(isAlive(alivePid));
  await using scheduler = await folder.open({ slots: 3, firstUid: 61_000 });
  await settled(scheduler, gone.allocationId);
  await scheduler.place(next);
  assert.equal(await userOf(folder, next), "61001:61001");
});

/** A worker placed by an orchestrator that was killed; its process id. */
async function killHolderOf(
  folder: SchedulerFolder,
  orphan: Placement,
  { keep }: { keep?: AllocationId } = {},
): Promise<number> {
  const allocations = join(folder.path, "allocations");
  const written = keep === undefined ? null : join(allocations, keep, "process.json");
  const kept = written === null ? "" : await readFile(written, "utf8");
  const holder = spawn(process.execPath, [HOLDER, folder.path, JSON.stringify(orphan)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(holder.stdout, "data");
  const pid = Number(await folder.note(orphan.allocationId, "starts"));
  holder.kill("SIGKILL");
  await once(holder, "exit");
  if (written !== null) {
    await mkdir(join(written, ".."), { recursive: true });
    await writeFile(written, kept);
  }
  return pid;
}

async function userOf(folder: SchedulerFolder, placed: Placement): Promise<string> {
  return JSON.parse(await folder.note(placed.allocationId, "env")).run_as;
}

async function running(scheduler: Scheduler, ...placed: (Placement | undefined)[]): Promise<void> {
  for (const each of placed) {
    assert.ok(each !== undefined);
    await eventually(
      () => scheduler.status(each.allocationId),
      (status) => status === "running",
    );
  }
}

async function allocationsIn({ path }: SchedulerFolder): Promise<string[]> {
  const names = await readdir(join(path, "allocations"));
  return names.filter((name) => name.startsWith("allocation_"));
}

async function statuses(scheduler: Scheduler, placed: readonly Placement[]) {
  return Promise.all(placed.map(({ allocationId }) => scheduler.status(allocationId)));
}
