/** Goal: what people write of a worker becomes what it must have, and bad figures are refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readEnvironment, requirementsOf } from "../../../orchestrator/tasks/requirements.ts";

const GIB = 2 ** 30;

test("Harbor's figures of a container become figures of a worker", () => {
  const table = { cpus: 0.5, memory_mb: 2048, storage_mb: 1024, gpus: 0, docker_image: "x" };
  assert.deepEqual(readEnvironment(table), {
    requirements: { cpus: 1, memory_bytes: 2 * GIB, disk_bytes: GIB },
  });
  assert.deepEqual(readEnvironment({}), { requirements: {} });
  for (const bad of [{ cpus: "2" }, { memory_mb: -1 }, { storage_mb: 1e12 }, { gpus: 1.5 }]) {
    const [name = ""] = Object.keys(bad);
    const read = readEnvironment(bad);
    assert.match("fault" in read ? read.fault : "", new RegExp(`^environment\\.${name} must be`));
  }
});

test("of the project's figures and the task's the larger ones count", () => {
  const workers = { pool: "gpu", cpus: 4, memory: "8GiB", gpus: 1, gpu_memory: "24GiB" };
  assert.deepEqual(requirementsOf(workers, { cpus: 2, memory_bytes: 16 * GIB, disk_bytes: GIB }), {
    ...{ pool: "gpu", cpus: 4, memory_bytes: 16 * GIB, disk_bytes: GIB },
    ...{ gpus: 1, gpu_memory_bytes: 24 * GIB },
  });
  assert.deepEqual(requirementsOf({ gpus: 0 }), {});
  assert.deepEqual(requirementsOf(undefined, { gpus: 2 }), { gpus: 2 });
});
