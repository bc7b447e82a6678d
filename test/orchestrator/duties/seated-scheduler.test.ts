/**
 * Goal: of orchestrators that share a folder none takes another's allocation for lost, and what a
 * killed one left is watched to its end by one that lives.
 *
 * Method: real workers; the killed orchestrator is a process of its own.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openSeatedScheduler } from "../../../orchestrator/duties/seated-scheduler.ts";
import { openSeats } from "../../../orchestrator/duties/seats.ts";
import type { AllocationId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { readAllocationLog } from "../../../worker-agent/allocation-log.ts";
import { eventually } from "../../support/eventually.ts";
import { isAlive, openInFolder, openSchedulerFolder } from "../../support/local-scheduler.ts";
import { placement } from "../scheduler/conformance.ts";

const HOLDER = join(import.meta.dirname, "../../support/seated-holder.ts");

test("another's allocation runs, is stopped by a note, and is unknown when it has ended", async () => {
  await using folder = await openSchedulerFolder();
  await using one = await open(folder.path);
  await using two = await open(folder.path);
  const placed = placement("wait");
  await one.scheduler.place(placed);
  assert.equal(await two.scheduler.status(placed.allocationId), "running");
  assert.equal(await two.scheduler.status(placement("wait").allocationId), null);
  await folder.note(placed.allocationId, "starts");
  await two.scheduler.stop(placed.allocationId);
  await eventually(
    () => one.scheduler.status(placed.allocationId),
    (status) => status === "failed",
  );
  await eventually(
    () => two.scheduler.status(placed.allocationId),
    (status) => status === null,
  );
});

test("a killed orchestrator's worker is taken over, and its seat given up at the end", async () => {
  await using folder = await openSchedulerFolder();
  const orphan = placement("wait");
  const killed = spawn(process.execPath, [HOLDER, folder.path, JSON.stringify(orphan)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(killed.stdout, "data");
  await using other = await open(folder.path);
  const told: AllocationId[] = [];
  using _ = other.scheduler.onEnd((id) => void told.push(id));
  const pid = Number(await folder.note(orphan.allocationId, "starts"));
  killed.kill("SIGKILL");
  await once(killed, "exit");
  assert.equal(await other.scheduler.status(orphan.allocationId), "running");
  await eventually(
    () => other.adopted(),
    (count) => count === 1,
  );
  assert.equal(await other.scheduler.status(orphan.allocationId), "running");
  assert.ok(isAlive(pid));
  process.kill(pid, "SIGKILL");
  await eventually(
    () => told,
    (ids) => ids.includes(orphan.allocationId),
  );
  await eventually(
    () => readdir(join(folder.path, "placed", "0")),
    (notes) => notes.length === 0,
  );
  // Its seat is free for the next start.
  await eventually(
    async () => {
      const seat = await other.seats.take();
      await seat[Symbol.asyncDispose]();
      return seat.number;
    },
    (number) => number === 0,
  );
});

async function open(path: string) {
  const seats = await openSeats(join(path, "seats"), "here");
  const seat = await seats.take();
  await seat.sit({
    id: `process_${seat.number}`,
    host: "here",
    pid: process.pid,
    key: "k",
    scheduler: "local",
  });
  let adopted = -1;
  const openAt = (number: number) => {
    adopted += 1;
    return openInFolder(path, { allocationsDir: join(path, `allocations-${number}`) });
  };
  const scheduler = await openSeatedScheduler(
    { seats, seat, openAt, log: createLog("silent") },
    {
      placedDir: join(path, "placed"),
      lookMs: 50,
      readLog: (number, id, options) =>
        readAllocationLog(join(path, `allocations-${number}`), id, options),
    },
  );
  return {
    seats,
    scheduler,
    adopted: () => adopted,
    [Symbol.asyncDispose]: async () => {
      await scheduler[Symbol.asyncDispose]();
      await seat[Symbol.asyncDispose]();
    },
  };
}
