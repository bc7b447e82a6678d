/** Goal: what an earlier orchestrator left is cleaned up without a signal to anybody else. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openLocalScheduler } from "../../../orchestrator/scheduler/local.ts";
import { thisMachine } from "../../../orchestrator/scheduler/machine.ts";

test("a worker that was found ended gets no signal while its folder is cleaned up", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "autocode-scheduler-"));
  // A signal to process 0 would reach this run and the shell that started it: none is sent.
  const signalled = t.mock.method(process, "kill", () => true).mock;
  const cleaning = Promise.withResolvers<number>();
  const id = createIds(systemClock, systemRandom).next("allocation");
  try {
    await mkdir(join(dir, id));
    const scheduler = await openLocalScheduler(
      {
        command: [process.execPath],
        apiUrl: () => "http://127.0.0.1:1",
        allocationsDir: dir,
        agentsDir: dir,
        slots: 1,
        machine: thisMachine(),
        env: {},
        firstUid: null,
        graceMs: 10,
        adoptedPollMs: 10,
        sweep: () => cleaning.promise,
      },
      createLog("silent"),
    );
    const stopped = scheduler.stop(id);
    cleaning.resolve(0);
    await stopped;
    assert.equal(await scheduler.status(id), "lost");
    assert.deepEqual(
      signalled.calls.map((call) => call.arguments),
      [],
    );
    await scheduler[Symbol.asyncDispose]();
  } finally {
    await rm(dir, { recursive: true });
  }
});
