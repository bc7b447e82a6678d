/**
 * Goal: placements never break a limit, and waste none of the room there is.
 *
 * Method: properties over random fleets and queues, each checked by counting anew what the fleet
 * would hold; examples for what people read.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Requirements } from "../../../orchestrator/contract/workers.ts";
import {
  choose,
  lacks,
  type PlaceableWorker,
  roomFor,
  type Waiting,
  whyNowhere,
} from "../../../orchestrator/scheduler/placement.ts";

const GIB = 2 ** 30;
const gpu = fc.constantFrom(16 * GIB, 24 * GIB, 80 * GIB).map((memory_bytes) => ({
  name: "gpu",
  memory_bytes,
}));
const wish: fc.Arbitrary<Requirements> = fc.record(
  {
    pool: fc.constantFrom("default", "gpu"),
    cpus: fc.integer({ min: 1, max: 9 }),
    memory_bytes: fc.integer({ min: 1, max: 20 }).map((count) => count * GIB),
    disk_bytes: fc.integer({ min: 1, max: 50 }).map((count) => count * GIB),
    gpus: fc.integer({ min: 0, max: 3 }),
    gpu_memory_bytes: fc.constantFrom(16 * GIB, 40 * GIB),
    vm_template: fc.constantFrom("worker", "gpu-worker"),
  },
  { requiredKeys: [] },
);
const fleet: fc.Arbitrary<PlaceableWorker[]> = fc
  .array(
    fc.record({
      pool: fc.constantFrom("default", "gpu"),
      status: fc.constantFrom("ready", "ready", "ready", "draining", "down"),
      slots: fc.integer({ min: 1, max: 4 }),
      cpus: fc.integer({ min: 1, max: 16 }),
      memory: fc.integer({ min: 1, max: 64 }),
      disk: fc.option(fc.integer({ min: 1, max: 100 }), { nil: undefined }),
      gpus: fc.array(gpu, { maxLength: 4 }),
      template: fc.constantFrom("worker", "gpu-worker", null),
    }),
    { maxLength: 8 },
  )
  .map((workers) =>
    workers.map(({ pool, status, slots, cpus, memory, disk, gpus, template }, index) => ({
      ...{ id: `worker-${index}`, pool, status, slots, held: [] },
      capabilities: {
        ...{ cpus, memory_bytes: memory * GIB, gpus, arch: "x64", vm_template: template },
        ...(disk === undefined ? {} : { disk_bytes: disk * GIB }),
        agents: [],
      },
    })),
  );
const queue: fc.Arbitrary<Waiting[]> = fc
  .array(
    fc.record({
      requirements: wish,
      priority: fc.integer({ min: 0, max: 2 }),
      owner: fc.constantFrom("a", "b", "c"),
    }),
    { maxLength: 30 },
  )
  .map((all) => all.map((each, index) => ({ id: `allocation-${index}`, ...each })));

test("no worker is given more than it has, or what it may not have", () => {
  fc.assert(
    fc.property(queue, fleet, (waiting, workers) => {
      const choices = choose(waiting, workers);
      assert.equal(new Set(choices.map(({ id }) => id)).size, choices.length, "placed once");
      for (const worker of workers) {
        const given = choices
          .filter(({ workerId }) => workerId === worker.id)
          .map(({ id }) => need(waiting, id).requirements);
        if (given.length > 0) assert.equal(worker.status, "ready");
        assert.ok(given.length <= worker.slots);
        for (const each of given) assert.equal(lacks(worker, each), null);
        const { cpus, memory_bytes, disk_bytes, gpus } = worker.capabilities;
        assert.ok(sum(given, "cpus") <= cpus);
        assert.ok(sum(given, "memory_bytes") <= memory_bytes);
        assert.ok(sum(given, "disk_bytes") <= (disk_bytes ?? Number.POSITIVE_INFINITY));
        assert.ok(given.reduce((count, each) => count + gpusOf(each), 0) <= gpus.length);
        const large = given.filter((each) => (each.gpu_memory_bytes ?? 0) > 24 * GIB);
        assert.ok(
          large.reduce((count, each) => count + gpusOf(each), 0) <=
            gpus.filter(({ memory_bytes: bytes }) => bytes > 24 * GIB).length,
        );
      }
    }),
  );
});

test("what is left over fits nowhere: no room is wasted", () => {
  fc.assert(
    fc.property(queue, fleet, (waiting, workers) => {
      const choices = choose(waiting, workers);
      const after = workers.map((worker) => ({
        ...worker,
        held: choices
          .filter(({ workerId }) => workerId === worker.id)
          .map(({ id }) => need(waiting, id).requirements),
      }));
      const placed = new Set(choices.map(({ id }) => id));
      for (const each of waiting) {
        if (!placed.has(each.id)) assert.equal(roomFor(each.requirements, [], after), 0);
      }
    }),
  );
});

test("a lower priority never takes what a higher one would have had", () => {
  fc.assert(
    fc.property(queue, fleet, (waiting, workers) => {
      const all = choose(waiting, workers);
      for (const priority of [1, 2]) {
        const urgent = waiting.filter((each) => each.priority >= priority);
        assert.deepEqual(all.slice(0, choose(urgent, workers).length), choose(urgent, workers));
      }
    }),
  );
});

test("the room that is told is the room that there is", () => {
  fc.assert(
    fc.property(queue, fleet, wish, (waiting, workers, wanted) => {
      const count = roomFor(wanted, waiting, workers);
      const more = Array.from({ length: count + 1 }, (_, index) => ({
        ...{ id: `more-${index}`, requirements: wanted, priority: -1, owner: "more" },
      }));
      const choices = choose([...waiting, ...more], workers);
      assert.equal(choices.filter(({ id }) => id.startsWith("more-")).length, count);
    }),
  );
});

test("one wish alone goes where it would go among others like it", () => {
  fc.assert(
    fc.property(queue, fleet, (waiting, workers) => {
      const last = { priority: -1, owner: "a", requirements: { cpus: 1 } };
      const [alone] = choose([...waiting, { id: "last", ...last }], workers).slice(-1);
      const two = [...waiting, { id: "last", ...last }, { id: "more", ...last }];
      const among = choose(two, workers).find(({ id }) => id === "last");
      assert.deepEqual(among, alone?.id === "last" ? alone : undefined);
    }),
  );
});

test("owners of one priority take turns", () => {
  const waiting = ["a", "a", "a", "b", "c"].map((owner, index) => ({
    ...{ id: `${owner}${index}`, requirements: {}, priority: 0, owner },
  }));
  const placed = choose(waiting, [worker("one", { slots: 4 })]).map(({ id }) => id);
  assert.deepEqual(placed, ["a0", "b3", "c4", "a1"]);
});

test("work without a wish for GPUs leaves them to work with one, and is spread", () => {
  const gpus = [{ name: "gpu", memory_bytes: 24 * GIB }];
  const workers = [
    worker("gpu", { gpus, slots: 8 }),
    worker("small-1", { slots: 2 }),
    worker("small-2", { slots: 2 }),
    worker("large", { memory_bytes: 64 * GIB, slots: 8 }),
  ];
  const plain = Array.from({ length: 5 }, (_, index) => ({
    ...{ id: `plain-${index}`, requirements: {}, priority: 0, owner: "a" },
  }));
  const wanting = { id: "gpu", requirements: { gpus: 1 }, priority: 0, owner: "b" };
  assert.deepEqual(
    Object.fromEntries(choose([...plain, wanting], workers).map((each) => Object.values(each))),
    {
      "plain-0": "small-1",
      gpu: "gpu",
      "plain-1": "small-2",
      "plain-2": "small-1",
      "plain-3": "small-2",
      "plain-4": "large",
    },
  );
});

test("why nothing could ever run it names the figure and the nearest host", () => {
  const hosts = [
    { name: "tiny", ...worker("1", { cpus: 1 }) },
    { name: "near", ...worker("2", { cpus: 8 }) },
  ];
  assert.equal(whyNowhere({ cpus: 8 }, hosts), null);
  assert.equal(
    whyNowhere({ cpus: 16 }, hosts.toReversed()),
    "no known worker has 16 CPUs; of the nearest, near: it has 8 CPUs",
  );
  assert.match(
    String(whyNowhere({ cpus: 4, gpus: 2, gpu_memory_bytes: 24 * GIB }, hosts)),
    /no known worker has 2 GPUs of 24 GiB; of the nearest, near: it has 0 such GPUs/,
  );
  assert.equal(whyNowhere({ cpus: 8 }, []), null);
  assert.equal(whyNowhere({ gpus: 9 }, [{ name: "n", pool: "p", capabilities: null }]), null);
});

function worker(
  id: string,
  given: Partial<PlaceableWorker["capabilities"]> & { slots?: number },
): PlaceableWorker {
  const { slots = 1, ...figures } = given;
  const capabilities = {
    ...{ cpus: 8, memory_bytes: 8 * GIB, gpus: [], arch: "x64", vm_template: null, agents: [] },
    ...figures,
  };
  return { id, pool: "default", status: "ready", slots, held: [], capabilities };
}

function need(waiting: readonly Waiting[], id: string): Waiting {
  const found = waiting.find((each) => each.id === id);
  assert.ok(found !== undefined);
  return found;
}

function sum(given: readonly Requirements[], key: "cpus" | "memory_bytes" | "disk_bytes"): number {
  return given.reduce((total, each) => total + (each[key] ?? 0), 0);
}

function gpusOf({ gpus, gpu_memory_bytes: bytes }: Requirements): number {
  return gpus ?? (bytes === undefined ? 0 : 1);
}
