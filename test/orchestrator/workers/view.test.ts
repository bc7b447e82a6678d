/**
 * Goal: people see any scheduler's hosts with what is known of them, and Prometheus the sums.
 *
 * Method: a fleet's registry over a real database; a scheduler that has other hosts.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { WorkerDetail, WorkerList } from "../../../orchestrator/contract/workers.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createNoHosts } from "../../../orchestrator/workers/no-hosts.ts";
import { createWorkers } from "../../../orchestrator/workers/view.ts";
import { openTestFleet } from "../../support/fleet.ts";
import { createTestScheduler } from "../../support/trial-scheduler.ts";

const MACHINE = {
  ...{ cpus: 4, memory_bytes: 2 ** 33, gpus: [], arch: "x64", vm_template: null, agents: [] },
};

test("a fleet's workers, by id and by name, and their sums", async () => {
  await using fleet = await openTestFleet();
  const { workers, registry } = fleet;
  assert.equal((await workers.list()).availability, null);
  const join_token = await fleet.joinToken("gpu", 2);
  for (const name of ["one", "two"]) {
    await registry.join({ join_token, name, slots: 2, capabilities: MACHINE });
  }
  const list = await workers.list();
  assert.ok(Value.Check(WorkerList, list), JSON.stringify(list));
  assert.deepEqual(
    list.workers.map(({ name, pool, status, availability }) => [name, pool, status, availability]),
    [
      ["one", "gpu", "ready", 1],
      ["two", "gpu", "ready", 1],
    ],
  );
  const [first] = list.workers;
  const drained = await workers.drain("one", true);
  assert.equal(drained.worker.status, "draining");
  assert.ok(Value.Check(WorkerDetail, drained));
  assert.deepEqual(await workers.get(first?.id ?? ""), drained);
  await assert.rejects(workers.get("three"), /There is no worker three; known: one, two/);
  const text = await workers.metrics();
  assert.match(text, /^autocode_workers\{pool="gpu",status="ready"\} 1$/m);
  assert.match(text, /^autocode_workers\{pool="gpu",status="draining"\} 1$/m);
  assert.match(text, /^autocode_workers_slots\{pool="gpu"\} 2$/m);
  assert.match(text, /^autocode_workers_availability_ratio 1$/m);
  assert.doesNotMatch(text, /one|two|worker_/);
});

test("another scheduler's hosts are shown as it tells them, and none joins by itself", async () => {
  await using fleet = await openTestFleet();
  const host = { id: "n1", name: "node-1", pool: "default", status: "down" as const };
  const scheduler = createTestScheduler(2);
  const hosts = async () => [{ ...host, slots: 3, used: 0, capabilities: null }];
  const other = { ...scheduler, name: "nomad", hosts };
  const given = { db: fleet.db, scheduler: other, registry: null, clock: systemClock };
  const workers = createWorkers(given);
  const { workers: shown, can_join } = await workers.list();
  assert.deepEqual(shown, [
    {
      ...{ ...host, slots: 3, used: 0, capabilities: null, joined_at: null, heartbeat_at: null },
      ...{ availability: null, outage_count: null },
    },
  ]);
  assert.equal(can_join, false);
  const wanted = { pool: "p", uses: 1, ttl_ms: 1_000 };
  await assert.rejects(workers.issueJoinToken(wanted), /AUTOCODE_SCHEDULER=fleet; nomad is in/);
  await assert.rejects(createNoHosts("nomad").plan(""), /AUTOCODE_SCHEDULER=fleet; nomad is in/);
});
