/**
 * The parameterised job that trials are dispatched from, and its variants: a dispatched child has
 * what its parent has, so that each distinct set of requirements needs a parent of its own. Pure.
 *
 * The base job is the operator's (`nomad-jobs/trial.nomad.hcl`, whose fields these are too) or, for
 * an agent on this machine, `baseJob`. Run once is what all of them say: Nomad neither restarts nor
 * reschedules nor replaces, since the next try is the engine's to decide on.
 */
import { createHash } from "node:crypto";
import type { Requirements } from "../contract/workers.ts";
import { type AllocationId, isId } from "../runtime/ids.ts";
import type { Job } from "./nomad-wire.ts";

export interface BaseJobOptions {
  name: string;
  namespace: string;
  /** The worker-agent's command line on this machine. */
  command: readonly [string, ...string[]];
  agentsDir: string;
  /** What a worker needs of the environment; no secret is among it. */
  env: Readonly<Record<string, string>>;
}

/** What a dispatch reserves on its node. */
export interface Ask {
  driver: string;
  cpuMhz: number;
  memoryMib: number;
  diskMib: number;
  gpus: number;
}

export const META = { trial: "trial_id", allocation: "allocation_id", apiUrl: "api_url" } as const;
/** In a variant's meta: the hash of what it was registered with. */
export const VARIANT_META = "autocode_variant";
/** The payload's file in the task's folder; worker-agent/config.ts reads and removes it. */
const TOKEN_FILE = "enrolment-token";
const SECOND_NS = 1_000_000_000;
const KILL_TIMEOUT_S = 20;
const MIB = 1024 * 1024;
/** Nomad's own values for what a job does not say. */
const DEFAULTS = { cpuMhz: 100, memoryMib: 300, diskMib: 300 };
const PRIORITY = { default: 50, min: 1, max: 100 };
/** Set by the server: a job is not registered with another's. */
const SERVER_FIELDS = [
  "CreateIndex",
  "DispatchIdempotencyToken",
  "Dispatched",
  "JobModifyIndex",
  "ModifyIndex",
  "NomadTokenID",
  "ParentID",
  "Payload",
  "Stable",
  "Status",
  "StatusDescription",
  "Stop",
  "SubmitTime",
  "Version",
  "VersionTag",
];

/** For raw_exec on this machine: what `nomad agent -dev` runs without further ado. */
export function baseJob(options: BaseJobOptions): Record<string, unknown> {
  const { name, namespace, command, agentsDir, env } = options;
  const [file, ...args] = command;
  return marked({
    ID: name,
    Name: name,
    Namespace: namespace,
    Type: "batch",
    Datacenters: ["*"],
    NodePool: "default",
    Priority: PRIORITY.default,
    ParameterizedJob: {
      Payload: "required",
      MetaRequired: [META.trial, META.allocation],
      MetaOptional: [META.apiUrl],
    },
    TaskGroups: [
      {
        Name: "worker",
        Count: 1,
        RestartPolicy: {
          Attempts: 0,
          Mode: "fail",
          Interval: 60 * SECOND_NS,
          Delay: 15 * SECOND_NS,
        },
        ReschedulePolicy: { Attempts: 0, Unlimited: false },
        Disconnect: { Replace: false },
        EphemeralDisk: { SizeMB: 4096 },
        Tasks: [
          {
            Name: "worker-agent",
            Driver: "raw_exec",
            Config: { command: file, args },
            DispatchPayload: { File: TOKEN_FILE },
            Env: {
              ...withoutCredentials(env),
              AUTOCODE_API_URL: `\${NOMAD_META_${META.apiUrl}}`,
              AUTOCODE_ENROLMENT_TOKEN_FILE: `\${NOMAD_TASK_DIR}/${TOKEN_FILE}`,
              AUTOCODE_AGENTS_DIR: agentsDir,
              // Nomad may be root where we are not; a worker-agent that is not root ignores it.
              AUTOCODE_RUN_AS: "allocation",
            },
            Resources: { CPU: 1000, MemoryMB: 2048 },
            KillTimeout: KILL_TIMEOUT_S * SECOND_NS,
            KillSignal: "SIGTERM",
            LogConfig: { MaxFiles: 2, MaxFileSizeMB: 10 },
          },
        ],
      },
    ],
  });
}

/** As it is registered by us: its meta tells, and tells whether it has changed. */
function marked<Fields extends Record<string, unknown>>(job: Fields, meta = {}) {
  const digest = createHash("sha256")
    .update(JSON.stringify(sorted(job)))
    .digest("hex");
  return { ...job, Meta: { ...meta, [VARIANT_META]: digest } };
}

/** Whoever may read a job reads its environment: a proxy's password stays here. */
function withoutCredentials(env: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).filter(([, value]) => !/:\/\/[^/@\s]*@/.test(value)),
  );
}

/** The base job's name for what asks for nothing; else one that is the requirements' own. */
export function variantName(base: string, requirements: Requirements): string {
  const asked = askedFor(requirements);
  if (asked.length === 0) return base;
  const digest = createHash("sha256").update(JSON.stringify(asked)).digest("hex");
  return `${base}-${digest.slice(0, 8)}`;
}

/** Sorted, so that the order in which they were written down is no difference. */
function askedFor(requirements: Requirements): [string, string | number][] {
  return Object.entries(requirements)
    .filter((entry): entry is [string, string | number] => entry[1] !== undefined)
    .filter(([key, value]) => !(key === "gpus" && value === 0))
    .sort(([one], [other]) => (one < other ? -1 : 1));
}

/**
 * The base job with these requirements on top. Memory, disk and GPUs are reserved, at least as much
 * as the base reserves; CPUs and the VM's template are constraints on the node; a pool is a pool.
 */
export function variantOf(base: Job, requirements: Requirements): Record<string, unknown> {
  const copy = structuredClone(base) as Record<string, unknown> & Job;
  for (const field of SERVER_FIELDS) delete copy[field];
  const [group] = copy.TaskGroups;
  const [task] = group?.Tasks ?? [];
  if (group === undefined || task === undefined) throw new Error("a job without a task");
  const { cpus, memory_bytes, disk_bytes, pool, vm_template } = requirements;
  const gpus = gpusOf(requirements);
  if (pool !== undefined) copy.NodePool = pool;
  const constraints: unknown[] = [...(base.Constraints ?? [])];
  if (cpus !== undefined) constraints.push(constraint("attr.cpu.numcores", ">=", `${cpus}`));
  if (vm_template !== undefined) {
    constraints.push(constraint("meta.vm_template", "=", vm_template));
  }
  copy.Constraints = constraints;
  const ask = askOf(base);
  const resources: NonNullable<typeof task.Resources> = { ...task.Resources };
  if (memory_bytes !== undefined) {
    resources.MemoryMB = Math.max(ask.memoryMib, Math.ceil(memory_bytes / MIB));
  }
  if (gpus > ask.gpus) resources.Devices = [gpuDevice(gpus, requirements.gpu_memory_bytes)];
  task.Resources = resources;
  if (disk_bytes !== undefined) {
    const sizeMib = Math.max(ask.diskMib, Math.ceil(disk_bytes / MIB));
    group.EphemeralDisk = { ...group.EphemeralDisk, SizeMB: sizeMib };
  }
  const name = variantName(base.ID, requirements);
  return marked({ ...copy, ID: name, Name: name }, base.Meta ?? {});
}

/** Nomad writes a map's keys in any order: each answer would have a hash of its own. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}

export function gpusOf({ gpus, gpu_memory_bytes }: Requirements): number {
  return gpus ?? (gpu_memory_bytes === undefined ? 0 : 1);
}

function gpuDevice(count: number, memoryBytes: number | undefined) {
  if (memoryBytes === undefined) return { Name: "gpu", Count: count };
  const enough = `${Math.ceil(memoryBytes / MIB)} MiB`;
  return {
    Name: "gpu",
    Count: count,
    Constraints: [constraint("device.attr.memory", ">=", enough)],
  };
}

/** @param of an attribute of the node, its meta or a device. */
function constraint(of: string, Operand: string, RTarget: string) {
  return { LTarget: `\${${of}}`, Operand, RTarget };
}

export function askOf({ TaskGroups: [group] }: Job): Ask {
  const [task] = group?.Tasks ?? [];
  const devices = task?.Resources?.Devices ?? [];
  const gpus = devices.filter(({ Name }) => Name.split("/").includes("gpu"));
  return {
    driver: task?.Driver ?? "",
    cpuMhz: task?.Resources?.CPU ?? DEFAULTS.cpuMhz,
    memoryMib: task?.Resources?.MemoryMB ?? DEFAULTS.memoryMib,
    diskMib: group?.EphemeralDisk?.SizeMB ?? DEFAULTS.diskMib,
    gpus: gpus.reduce((sum, { Count }) => sum + (Count ?? 1), 0),
  };
}

/** Nomad's are 1 to 100; a trial's, -100 to 100, is half of that above or below the middle. */
export function nomadPriority(priority: number): number {
  const wanted = PRIORITY.default + Math.trunc(priority / 2);
  return Math.min(PRIORITY.max, Math.max(PRIORITY.min, wanted));
}

/** What the ids of an allocation's children begin with (structs.DispatchedID). */
export function childPrefix(parent: string, allocationId: AllocationId): string {
  return `${parent}/dispatch-${allocationId}-`;
}

/** The allocation that a child was dispatched for; null for a job that is none of ours. */
export function allocationOf(base: string, jobId: string): AllocationId | null {
  const [parent = "", child = ""] = jobId.split("/dispatch-");
  const isOurs = parent === base || new RegExp(`^${base}-[0-9a-f]{8}$`).test(parent);
  const id = child.replace(/-[0-9]+-[0-9a-f]+$/, "");
  return isOurs && isId("allocation", id) ? id : null;
}
