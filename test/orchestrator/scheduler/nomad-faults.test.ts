/**
 * Goal: whatever Nomad, its network or its operator does, nothing runs twice to an effect, nothing
 * is half-placed, and what is wrong is said in Nomad's words (R9 of the faults to survive).
 *
 * Method: the strict stub, whose workers are real processes, with its faults switched on.
 */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import type { AllocationId } from "../../../orchestrator/runtime/ids.ts";
import type { AllocationStatus, Scheduler } from "../../../orchestrator/scheduler/scheduler.ts";
import { eventually } from "../../support/eventually.ts";
import type { SchedulerFolder } from "../../support/local-scheduler.ts";
import { nomadClient, openNomadWorld, testJob } from "../../support/nomad.ts";
import { placement, settled } from "./conformance.ts";

const RECONCILED_MS = 30_000;
const AWAY = { name: "Problem", code: "unavailable" };

test("R9: Nomad is away: workers go on, nothing is doubled, all is known afterwards", async () => {
  await using world = await openNomadWorld({ options: { shareMs: 0 } });
  const { nomad, scheduler, folder } = world;
  const told: AllocationId[] = [];
  using _ = scheduler.onEnd((id) => void told.push(id));
  const [stays, ends, late] = [placement("wait"), placement("wait"), placement("wait")];
  for (const each of [stays, ends]) await scheduler.place(each);
  for (const each of [stays, ends]) await startedOnce(folder, each.allocationId);
  for (const each of [stays, ends]) await until(scheduler, each.allocationId, "running");
  await eventually(scheduler.trouble, (trouble) => trouble === null);

  await nomad.goAway();
  await eventually(scheduler.trouble, (trouble) => trouble !== null);
  const away = { ...AWAY, message: new RegExp(`^Nomad at ${nomad.address} did not answer`) };
  await assert.rejects(scheduler.place(late), away);
  await assert.rejects(scheduler.status(stays.allocationId), away);
  await assert.rejects(scheduler.capacity(), away);
  await assert.rejects(scheduler.hosts(), away);
  await assert.rejects(scheduler.stop(stays.allocationId), away);
  await world.local.stop(ends.allocationId);

  await nomad.comeBack();
  await eventually(
    () => told,
    (ids) => ids.includes(ends.allocationId),
    RECONCILED_MS,
  );
  assert.equal(await scheduler.status(ends.allocationId), "failed");
  await scheduler.place(late);
  await until(scheduler, late.allocationId, "running");
  // A stop that Nomad did not hear is asked for again by itself.
  assert.equal(await settled(scheduler, stays.allocationId), "failed");
  for (const { allocationId } of [stays, ends, late]) {
    await startedOnce(folder, allocationId);
    assert.equal(nomad.children(allocationId).length, 1);
  }
});

test("the event stream is cut: what ended meanwhile is told, its event gone or not", async () => {
  await using world = await openNomadWorld({ stub: { eventsKept: 2 } });
  const { nomad, scheduler } = world;
  const told: AllocationId[] = [];
  using _ = scheduler.onEnd((id) => void told.push(id));
  const [ends, ...others] = Array.from({ length: 2 }, () => placement("wait"));
  assert.ok(ends !== undefined);
  for (const each of [ends, ...others]) await scheduler.place(each);
  for (const each of [ends, ...others]) await until(scheduler, each.allocationId, "running");
  await eventually(scheduler.trouble, (trouble) => trouble === null);

  nomad.fail({ match: /event\/stream/, status: 500, text: "rpc error: EOF" });
  nomad.cutStreams();
  await eventually(scheduler.trouble, (trouble) => trouble?.includes("EOF") === true);
  await world.local.stop(ends.allocationId);
  // Enough other events for its end to be out of the buffer.
  for (const each of others) await scheduler.stop(each.allocationId);
  for (const each of others) await settled(scheduler, each.allocationId);
  assert.ok(!told.includes(ends.allocationId));
  nomad.heal();
  await eventually(
    () => told,
    (ids) => ids.includes(ends.allocationId),
    RECONCILED_MS,
  );
  assert.equal(told.filter((id) => id === ends.allocationId).length, 1);
});

test("a stream that falls silent is left for another", async () => {
  await using world = await openNomadWorld({ client: { silenceMs: 300 } });
  const { nomad } = world;
  const opened = () => nomad.asked.filter((line) => line.includes("event/stream")).length;
  await eventually(opened, (count) => count >= 2);
});

test("a dispatch that is done twice runs on once: the later one is stopped", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler, folder } = world;
  nomad.dispatchTwice();
  const twice = placement("wait");
  await scheduler.place(twice);
  await until(scheduler, twice.allocationId, "running");
  const [first, second] = nomad.children(twice.allocationId);
  assert.deepEqual([first?.Stop, second?.Stop], [false, true]);
  await startedOnce(folder, twice.allocationId);

  // Where we could not look after it, the next comparison does.
  nomad.dispatchTwice();
  nomad.fail({ match: /^DELETE/, status: 500, text: "No cluster leader", times: 1 });
  const again = placement("wait");
  await assert.rejects(scheduler.place(again), AWAY);
  await eventually(
    () => nomad.children(again.allocationId).map(({ Stop }) => Stop),
    (stops) => stops.length === 2 && !stops[0] && stops[1] === true,
  );
  assert.equal(await scheduler.status(again.allocationId), "running");
});

test("a dispatch whose answer is lost is not made again", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler, folder } = world;
  nomad.dropAnswers(/dispatch$/);
  const once = placement("wait");
  await assert.rejects(scheduler.place(once), AWAY);
  await scheduler.place(once);
  await until(scheduler, once.allocationId, "running");
  assert.equal(nomad.children(once.allocationId).length, 1);
  await startedOnce(folder, once.allocationId);
});

test("one that was given up during its dispatch is ended when it appears", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler } = world;
  const late = placement("wait");
  await scheduler.stop(late.allocationId);
  // As a request that was slow on its way arrives after we asked for the end.
  await scheduler.place(placement("complete"));
  const client = nomadClient(nomad.address);
  const meta = { trial_id: late.trialId, allocation_id: late.allocationId };
  const dispatched = { payload: late.enrolmentToken, meta, priority: 50 };
  const ids = { idPrefix: late.allocationId, idempotencyToken: late.allocationId };
  await client.dispatch("autocode-trial", { ...dispatched, ...ids });
  await client.close();
  await eventually(
    () => nomad.children(late.allocationId)[0]?.Stop,
    (isStopped) => isStopped === true,
  );
});

test("a leader change, or a server that is too busy, is Nomad being away", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler } = world;
  const faults = [
    [500, "No cluster leader"],
    [500, "rpc error: rpc error: No path to region"],
    [429, "Too many requests"],
    [503, ""],
    [500, "something that nobody has seen before"],
  ] as const;
  for (const [status, text] of faults) {
    nomad.fail({ match: /\/v1\/jobs$/, status, text });
    const said = text === "" ? "status 503 without a word" : text;
    await assert.rejects(scheduler.status(placement("wait").allocationId), (error: Error) => {
      assert.equal((error as Error & { code: string }).code, "unavailable");
      return error.message === `Nomad refused to list jobs: ${said}`;
    });
    nomad.heal();
  }
  const one = placement("complete");
  await scheduler.place(one);
  assert.equal(await settled(scheduler, one.allocationId), "complete");
});

test("an allocation that is gone is unknown, a lost one is lost", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler } = world;
  const told: AllocationId[] = [];
  using _ = scheduler.onEnd((id) => void told.push(id));
  const [gone, lost] = [placement("wait"), placement("wait")];
  for (const each of [gone, lost]) await scheduler.place(each);
  for (const each of [gone, lost]) await until(scheduler, each.allocationId, "running");
  nomad.state.lose(lost.allocationId);
  await until(scheduler, lost.allocationId, "lost");
  await nomad.state.vanish(gone.allocationId);
  await eventually(
    () => scheduler.status(gone.allocationId),
    (status) => status === null,
  );
  await eventually(
    () => told,
    (ids) => ids.includes(lost.allocationId) && ids.includes(gone.allocationId),
  );
});

test("what Nomad has forgotten is known to us, not to the next orchestrator", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler } = world;
  const [done, running] = [placement("complete"), placement("wait")];
  for (const each of [done, running]) await scheduler.place(each);
  assert.equal(await settled(scheduler, done.allocationId), "complete");
  await until(scheduler, running.allocationId, "running");
  nomad.state.gc();
  assert.equal(await scheduler.status(done.allocationId), "complete");
  await using next = world.open();
  assert.equal(await next.status(done.allocationId), null);
  assert.equal(await next.status(running.allocationId), "running");
  await next.place(running);
  assert.equal(nomad.children(running.allocationId).length, 1);
  await next.stop(running.allocationId);
  assert.equal(await settled(next, running.allocationId), "failed");
});

test("a wrong address is told by its address, or by what answers there", async () => {
  await using world = await openNomadWorld();
  const page = createServer((_, response) => {
    response.writeHead(404, { "content-type": "text/html" }).end("<h1>Not here</h1>");
  });
  await new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve));
  const { port } = page.address() as AddressInfo;
  await using elsewhere = world.open({ client: { address: `http://127.0.0.1:${port}` } });
  await assert.rejects(elsewhere.place(placement("wait")), {
    ...AWAY,
    message:
      `NOMAD_ADDR: what answers at http://127.0.0.1:${port} ` +
      "is no Nomad agent (404, a web page)",
  });
  await new Promise((resolve) => page.close(resolve));
  await assert.rejects(elsewhere.place(placement("wait")), {
    ...AWAY,
    message: /did not answer .*(ECONNREFUSED|SOCKET)/,
  });
});

test("an answer that is not Nomad's is refused, not passed on", async () => {
  await using world = await openNomadWorld();
  world.nomad.fail({ match: /\/v1\/jobs$/, status: 200, text: '[{ "ID": 7 }]' });
  const known = { ...AWAY, message: /answered what is not its API \(list jobs\): \/0/ };
  await assert.rejects(world.scheduler.status(placement("wait").allocationId), known);
});

test("an answer that takes too long is no answer", async () => {
  await using world = await openNomadWorld({ client: { timeoutMs: 300 } });
  world.nomad.slowDown(/\/v1\/jobs$/, 5_000);
  const known = { ...AWAY, message: /did not answer \(list jobs\): UND_ERR_HEADERS_TIMEOUT/ };
  await assert.rejects(world.scheduler.status(placement("wait").allocationId), known);
});

test("wrong and weak tokens are told in Nomad's words, nothing is half-placed", async () => {
  const may = ["list-jobs", "read-job", "read-logs", "node:read"];
  const tokens = {
    reader: { name: "reader", may },
    dispatcher: { name: "dispatcher", may: [...may, "dispatch-job"] },
    full: { name: "full", may: [...may, "dispatch-job", "submit-job"] },
  };
  await using world = await openNomadWorld({ stub: { tokens }, client: { token: "full" } });
  const { nomad } = world;
  const refused = (token: string | null) => world.open({ client: { token } });
  const denied = { name: "Problem", code: "forbidden", message: /Permission denied/ };
  const one = placement("complete");
  for (const token of [null, "no-such-token", "reader"]) {
    await using scheduler = refused(token);
    await assert.rejects(scheduler.place(one), denied);
    if (token !== "reader")
      await eventually(scheduler.trouble, (said) => /denied|not found/.test(said ?? ""));
  }
  assert.deepEqual([...nomad.state.jobs.keys()], []);
  await using weak = refused("dispatcher");
  const submit = { ...denied, message: /register the job .*give NOMAD_TOKEN submit-job$/ };
  await assert.rejects(weak.place(one), submit);
  assert.deepEqual([...nomad.state.jobs.keys()], []);
  // Once an operator has registered it, dispatching is enough.
  await world.scheduler.place(one);
  const next = placement("complete");
  await weak.place(next);
  assert.equal(await settled(weak, next.allocationId), "complete");
  await assert.rejects(weak.drain(nomad.state.nodes[0]?.ID ?? "", true), denied);
});

test("a pool that is not there and a job that is rejected are told in Nomad's words", async () => {
  await using world = await openNomadWorld({ stub: { pools: ["big"] } });
  const { nomad, scheduler } = world;
  const lost = placement("wait", { requirements: { pool: "gpu" } });
  const unknown = {
    name: "Problem",
    code: "invalid_request",
    message: /job "autocode-trial-[0-9a-f]{8}" is in nonexistent node pool "gpu"$/,
  };
  await assert.rejects(scheduler.capacity(lost.requirements), unknown);
  await assert.rejects(scheduler.place(lost), unknown);
  assert.deepEqual([...nomad.state.jobs.keys()], ["autocode-trial"]);
  // A pool without a node may have one later.
  assert.equal(await scheduler.capacity({ pool: "big" }), 0);

  await using elsewhere = world.open({
    options: {
      builtIn: { ...testJob(world.folder.path), ID: "autocode-trial", Type: "", Meta: {} },
    },
  });
  nomad.state.jobs.clear();
  const rejected = { code: "invalid_request", message: /1 error occurred:\s+\* Missing job type/ };
  await assert.rejects(elsewhere.place(placement("wait")), rejected);
  const large = placement("wait", { enrolmentToken: "x".repeat(16_385) });
  const tooLarge = { code: "invalid_request", message: /Payload exceeds maximum size; 16385/ };
  await assert.rejects(scheduler.place(large), tooLarge);
  assert.deepEqual(nomad.children(large.allocationId), []);
});

test("resources that no node has are told node by node", async () => {
  const nodes = [
    { name: "small", slots: 2, cpus: 4 },
    { name: "large", slots: 4, cpus: 32, meta: { vm_template: "gpu-worker" }, gpus: 2 },
  ];
  await using world = await openNomadWorld({ stub: { nodes } });
  const { scheduler, nomad } = world;
  const impossible = [
    [{ cpus: 64 }, /small: it has 4 CPUs; large: it has 32 CPUs/],
    [{ vm_template: "no-such" }, /small: its template is none; large: its template is gpu-worker/],
    [{ gpus: 4 }, /small: it has 0 such GPUs; large: it has 2 such GPUs/],
    [{ memory_bytes: 2 ** 40 }, /small: it has 4.3 GiB of memory/],
  ] as const;
  for (const [requirements, message] of impossible) {
    await assert.rejects(scheduler.capacity(requirements), { code: "invalid_request", message });
  }
  assert.equal(await scheduler.capacity(), 6);
  assert.equal(await scheduler.capacity({ cpus: 16 }), 4);
  assert.equal(await scheduler.capacity({ gpus: 1, gpu_memory_bytes: 2 ** 30 }), 2);
  assert.equal(await scheduler.capacity({ memory_bytes: 4 * 2 ** 30 }), 3);
  const big = placement("wait", { requirements: { cpus: 16, vm_template: "gpu-worker" } });
  await scheduler.place(big);
  await until(scheduler, big.allocationId, "running");
  const large = (await scheduler.hosts()).find(({ name }) => name === "large");
  assert.equal(large?.used, 1);
  assert.equal(large?.capabilities?.vm_template, "gpu-worker");
  assert.equal(large?.capabilities?.gpus.length, 2);
  assert.match(nomad.children(big.allocationId)[0]?.ParentID ?? "", /^autocode-trial-[0-9a-f]{8}$/);
});

test("an operator's job that is missing is told with the command that mends it", async () => {
  await using world = await openNomadWorld({ options: { builtIn: null } });
  const { nomad, scheduler } = world;
  const one = placement("complete");
  const missing = {
    ...AWAY,
    message:
      "Nomad's job autocode-trial is not registered, and trials are dispatched from it: " +
      "nomad job run nomad-jobs/trial.nomad.hcl",
  };
  await assert.rejects(scheduler.place(one), missing);
  const { Meta: _, ...own } = testJob(world.folder.path);
  const { JobModifyIndex: index } = nomad.state.register({ ...own, NodePool: "default" }, null);
  await scheduler.place(one);
  assert.equal(await settled(scheduler, one.allocationId), "complete");
  await scheduler.capacity({ cpus: 1 });
  // Ours are the variants alone.
  assert.equal(nomad.state.jobs.get("autocode-trial")?.JobModifyIndex, index);
});

test("a job that was purged or stopped since it was looked at is registered anew", async () => {
  await using world = await openNomadWorld();
  const { nomad, scheduler } = world;
  for (const isPurged of [true, false]) {
    await scheduler.place(placement("complete"));
    nomad.state.deregister("autocode-trial", isPurged);
    const next = placement("complete");
    await scheduler.place(next);
    assert.equal(await settled(scheduler, next.allocationId), "complete");
  }
});

test("a variant is registered once by whoever is first, again when its base changes", async () => {
  await using world = await openNomadWorld({ options: { trustMs: 0 } });
  const { nomad, scheduler } = world;
  await using other = world.open();
  const requirements = { cpus: 2 };
  const registered = () => nomad.asked.filter((line) => line.startsWith("POST /v1/jobs")).length;
  await scheduler.capacity();
  const before = registered();
  await Promise.all([scheduler.capacity(requirements), other.capacity(requirements)]);
  for (let times = 0; times < 4; times += 1) await scheduler.capacity({ cpus: 2 });
  const [name] = [...nomad.state.jobs.keys()].filter((id) => id !== "autocode-trial");
  assert.ok(name !== undefined && registered() - before <= 2);
  const first = nomad.state.jobs.get(name)?.JobModifyIndex;
  const base = nomad.state.jobs.get("autocode-trial");
  assert.ok(base !== undefined);
  base.spec["TaskGroups"][0].Tasks[0].Resources.CPU = 500;
  await scheduler.capacity(requirements);
  const variant = nomad.state.jobs.get(name);
  assert.notEqual(variant?.JobModifyIndex, first);
  assert.equal(variant?.spec["TaskGroups"][0].Tasks[0].Resources.CPU, 500);
});

/** Its start is written down by the worker itself, some time after Nomad calls it running. */
async function startedOnce(folder: SchedulerFolder, id: AllocationId): Promise<void> {
  const starts = await eventually(
    () => folder.starts(id),
    ({ length }) => length > 0,
  );
  assert.equal(starts.length, 1);
}

async function until(
  scheduler: Scheduler,
  id: AllocationId,
  wanted: AllocationStatus,
): Promise<void> {
  await eventually(
    () => scheduler.status(id),
    (status) => status === wanted,
  );
}
