/** Seats: one holder each, freed by the death of a process, left alone on another machine. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { openSeats } from "../../../orchestrator/duties/seats.ts";
import { openTestFolder } from "../../support/embedded.ts";

const HOLDER = join(import.meta.dirname, "../../support/seat-holder.ts");
const SITTER = { id: "process_1", host: "here", pid: 1, key: "k", scheduler: "local" };

test("each seat is taken once, and the first free one is given", async () => {
  await using folder = await openTestFolder();
  const seats = await openSeats(join(folder.path, "seats"), "here");
  const taken = [await seats.take(), await seats.take(), await seats.take()];
  assert.deepEqual(
    taken.map(({ number }) => number),
    [0, 1, 2],
  );
  await taken[1]?.[Symbol.asyncDispose]();
  assert.equal((await seats.take()).number, 1);
});

test("who sat in the seat of a killed process is known, and the seat is taken once", async () => {
  await using folder = await openTestFolder();
  const seats = await openSeats(folder.path, "here");
  const killed = spawn(process.execPath, [HOLDER, folder.path, JSON.stringify(SITTER)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(killed.stdout, "data");
  assert.deepEqual(await seats.takeAbandoned(), []);
  await using own = await seats.take();
  assert.deepEqual([own.number, own.last], [1, null]);
  assert.deepEqual(await seats.sitters(), [SITTER]);
  killed.kill("SIGKILL");
  await once(killed, "exit");
  const [abandoned, ...more] = await seats.takeAbandoned();
  assert.deepEqual([abandoned?.number, abandoned?.last, more], [0, SITTER, []]);
  assert.deepEqual(await seats.takeAbandoned(), []);
  await abandoned?.[Symbol.asyncDispose]();
  assert.deepEqual(await seats.sitters(), []);
});

test("a seat that was left on another machine is nobody's here", async () => {
  await using folder = await openTestFolder();
  const there = await openSeats(folder.path, "there");
  const killed = spawn(process.execPath, [HOLDER, folder.path, JSON.stringify(SITTER)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(killed.stdout, "data");
  killed.kill("SIGKILL");
  await once(killed, "exit");
  assert.deepEqual(await there.takeAbandoned(), []);
  await using own = await there.take();
  assert.equal(own.number, 1);
});

test("what all do at their start, one does at a time", async () => {
  await using folder = await openTestFolder();
  let inside = 0;
  let most = 0;
  const run = async () => {
    const seats = await openSeats(folder.path, "here");
    await seats.alone(async () => {
      most = Math.max(most, ++inside);
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
    });
  };
  await Promise.all([run(), run(), run()]);
  assert.equal(most, 1);
});
