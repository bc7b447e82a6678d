/**
 * Goal: what is registered in Nomad is run-once, has what a trial asks for and no secret, and is
 * the same whichever order Nomad writes it down in.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  allocationOf,
  askOf,
  baseJob,
  nomadPriority,
  variantName,
  variantOf,
} from "../../../orchestrator/scheduler/nomad-job.ts";
import type { Job } from "../../../orchestrator/scheduler/nomad-wire.ts";

const GIB = 2 ** 30;
const BASE = baseJob({
  name: "autocode-trial",
  namespace: "trials",
  command: ["/usr/bin/node", "worker-agent/main.ts"],
  agentsDir: "/var/lib/autocode/agents",
  env: { PATH: "/usr/bin", HTTPS_PROXY: "http://me:hunter2@proxy:3128", NO_PROXY: "127.0.0.1" },
});
/** As the server gives it back. */
const REGISTERED = { ...BASE, JobModifyIndex: 7, Status: "running", Version: 3 } as unknown as Job;

test("the base job is run once, and its environment has no password", () => {
  const [group] = (BASE as unknown as { TaskGroups: Record<string, unknown>[] }).TaskGroups;
  const [task] = (group?.["Tasks"] ?? []) as { Env: Record<string, string> }[];
  assert.deepEqual(group?.["ReschedulePolicy"], { Attempts: 0, Unlimited: false });
  assert.deepEqual(group?.["Disconnect"], { Replace: false });
  assert.match(JSON.stringify(group?.["RestartPolicy"]), /"Attempts":0,"Mode":"fail"/);
  assert.deepEqual(task?.Env, {
    PATH: "/usr/bin",
    NO_PROXY: "127.0.0.1",
    AUTOCODE_API_URL: `\${NOMAD_META_api_url}`,
    AUTOCODE_ENROLMENT_TOKEN_FILE: `\${NOMAD_TASK_DIR}/enrolment-token`,
    AUTOCODE_AGENTS_DIR: "/var/lib/autocode/agents",
    AUTOCODE_RUN_AS: "allocation",
  });
  assert.doesNotMatch(JSON.stringify(BASE), /hunter2/);
});

test("a variant's name is its requirements', in any order; nothing asked for is the base", () => {
  const name = (requirements: Parameters<typeof variantName>[1]) =>
    variantName("autocode-trial", requirements);
  assert.equal(name({}), "autocode-trial");
  assert.equal(name({ gpus: 0 }), "autocode-trial");
  assert.equal(name({ cpus: 4, pool: "big" }), name({ pool: "big", cpus: 4 }));
  assert.notEqual(name({ cpus: 4 }), name({ cpus: 5 }));
  assert.match(name({ cpus: 4 }), /^autocode-trial-[0-9a-f]{8}$/);
});

test("a variant asks for what the trial does, and at least for what its base does", () => {
  const requirements = {
    pool: "gpu",
    cpus: 16,
    memory_bytes: 24 * GIB,
    disk_bytes: 2 * GIB,
    gpu_memory_bytes: 20 * GIB,
    vm_template: "gpu-worker",
  };
  const variant = variantOf(REGISTERED, requirements) as unknown as Job & Record<string, unknown>;
  assert.equal(variant.NodePool, "gpu");
  assert.deepEqual(variant.Constraints, [
    { LTarget: `\${attr.cpu.numcores}`, Operand: ">=", RTarget: "16" },
    { LTarget: `\${meta.vm_template}`, Operand: "=", RTarget: "gpu-worker" },
  ]);
  assert.deepEqual(askOf(variant), {
    driver: "raw_exec",
    cpuMhz: 1000,
    memoryMib: 24 * 1024,
    diskMib: 4096,
    gpus: 1,
  });
  assert.deepEqual(variant.TaskGroups[0]?.Tasks[0]?.Resources?.Devices, [
    {
      Name: "gpu",
      Count: 1,
      Constraints: [{ LTarget: `\${device.attr.memory}`, Operand: ">=", RTarget: "20480 MiB" }],
    },
  ]);
  for (const field of ["Status", "Version", "JobModifyIndex"]) assert.ok(!(field in variant));
  assert.equal(REGISTERED.NodePool, "default", "the base is as it was");
});

test("the mark of a variant is that of its content, not of the order of its keys", () => {
  const turned = Object.fromEntries(Object.entries(REGISTERED).reverse()) as Job;
  const one = variantOf(REGISTERED, { cpus: 4 });
  assert.deepEqual(variantOf(turned, { cpus: 4 })["Meta"], one["Meta"]);
  const other = { ...REGISTERED, Datacenters: ["dc2"] };
  assert.notDeepEqual(variantOf(other, { cpus: 4 })["Meta"], one["Meta"]);
});

test("a trial's priorities are Nomad's, the middle in the middle", () => {
  assert.deepEqual([-100, -99, 0, 1, 50, 100].map(nomadPriority), [1, 1, 50, 50, 75, 100]);
});

test("a child's id tells its allocation, where it is one of ours", () => {
  const id = "allocation_01h455vb4pex5vsknk084sn02q";
  const of = (jobId: string) => allocationOf("autocode-trial", jobId);
  assert.equal(of(`autocode-trial/dispatch-${id}-1795282000-0a1b2c3d`), id);
  assert.equal(of(`autocode-trial-0a1b2c3d/dispatch-${id}-1795282000-0a1b2c3d`), id);
  assert.equal(of(`autocode-trial-extra/dispatch-${id}-1795282000-0a1b2c3d`), null);
  assert.equal(of("autocode-trial/dispatch-1795282000-0a1b2c3d"), null);
  assert.equal(of("autocode-trial"), null);
});
