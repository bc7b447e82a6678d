/**
 * Goal: Nomad is a scheduler like any other: the suite of the port passes on the strict stub and,
 * where one is told of, on a real Nomad.
 *
 * Method: the stub runs real workers by the local scheduler. A real one: AUTOCODE_TEST_NOMAD is the
 * address of `nomad agent -dev`; NOMAD_TOKEN and NOMAD_NAMESPACE as Nomad's own command line.
 */
import assert from "node:assert/strict";
import { env } from "node:process";
import { test } from "node:test";
import { monotonicMs } from "../../../orchestrator/runtime/clock.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { openNomadScheduler } from "../../../orchestrator/scheduler/nomad.ts";
import { openSchedulerFolder } from "../../support/local-scheduler.ts";
import { nomadClient, nomadOptions, openNomadWorld } from "../../support/nomad.ts";
import { placement, testScheduler } from "./conformance.ts";

testScheduler("nomad on the stub", async () => {
  const world = await openNomadWorld();
  return {
    scheduler: world.scheduler,
    starts: (id) => world.folder.starts(id).length,
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
});

const address = env["AUTOCODE_TEST_NOMAD"] ?? "";
if (address === "") {
  test("nomad, a real one", { skip: "AUTOCODE_TEST_NOMAD is not set" }, () => {});
} else {
  testScheduler(`nomad at ${address}`, () => openReal(address), { isStrictOrder: false });
}

/** A job of its own each time, purged in the end. */
async function openReal(realAddress: string) {
  const folder = await openSchedulerFolder();
  const token = env["NOMAD_TOKEN"] ?? null;
  const namespace = env["NOMAD_NAMESPACE"] ?? "default";
  const job = `autocode-test-${process.pid}-${Math.trunc(monotonicMs())}`;
  const options = nomadOptions(folder.path, { job, shareMs: 200 });
  const scheduler = openNomadScheduler(
    nomadClient(realAddress, { token, namespace }),
    options,
    createLog("silent"),
  );
  return {
    scheduler,
    starts: (id: Parameters<typeof folder.starts>[0]) => folder.starts(id).length,
    [Symbol.asyncDispose]: async () => {
      await scheduler[Symbol.asyncDispose]();
      const client = nomadClient(realAddress, { token, namespace });
      for (const { ID } of await client.jobs({ prefix: job })) await client.deregister(ID);
      await client.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

test("a dispatch holds ids and an enrolment token, and nothing else", async () => {
  await using world = await openNomadWorld();
  const { scheduler, nomad } = world;
  const one = placement("complete", { priority: 30 });
  await scheduler.place(one);
  const [child] = nomad.children(one.allocationId);
  assert.ok(child !== undefined);
  assert.match(child.ID, new RegExp(`^autocode-trial/dispatch-${one.allocationId}-`));
  assert.equal(child.payload, one.enrolmentToken);
  assert.equal(child.Priority, 65);
  const { autocode_variant: _, ...meta } = child.spec["Meta"];
  assert.deepEqual(meta, {
    trial_id: one.trialId,
    allocation_id: one.allocationId,
    api_url: "http://127.0.0.1:1",
  });
});
