/** The stub's nodes: what they have, what a job asks of them, and whether it fits. */
import { createHash } from "node:crypto";

export interface NodeOptions {
  name: string;
  pool?: string;
  slots: number;
  cpus?: number;
  meta?: Record<string, string>;
  gpus?: number;
  driver?: string;
}

export interface StubNode {
  ID: string;
  options: NodeOptions;
  Drain: boolean;
  SchedulingEligibility: "eligible" | "ineligible";
  Status: "ready" | "down";
  ModifyIndex: number;
}

/** What the base job reserves: a slot. */
export const SLOT = { cpu: 1000, memory: 2048, disk: 4096 };
const RESERVED = { cpu: 200, memory: 256, disk: 0 };

export interface Amounts {
  cpu: number;
  memory: number;
  disk: number;
  gpus: number;
}

// biome-ignore lint/suspicious/noExplicitAny: a job is checked where it comes in
export type Spec = Record<string, any>;

export function openNodes(options: readonly NodeOptions[]): StubNode[] {
  return options.map((node) => ({
    ID: uuidOf(node.name),
    options: node,
    Drain: false,
    SchedulingEligibility: "eligible",
    Status: "ready",
    ModifyIndex: 1,
  }));
}

export function uuidOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, "$1-$2-$3-$4-$5");
}

export function amountsOf({ options: { slots, gpus = 0 } }: StubNode): Amounts {
  return { cpu: slots * SLOT.cpu, memory: slots * SLOT.memory, disk: slots * SLOT.disk, gpus };
}

export function askOf(spec: Spec): Amounts {
  const [group] = spec["TaskGroups"];
  const { CPU = 100, MemoryMB = 300, Devices } = group.Tasks[0].Resources ?? {};
  return {
    cpu: CPU,
    memory: MemoryMB,
    disk: group.EphemeralDisk?.SizeMB ?? 300,
    gpus: (Devices ?? []).reduce((sum: number, { Count }: Spec) => sum + (Count ?? 1), 0),
  };
}

/** Whether its pool, driver and constraints allow it there. */
export function isFeasible(node: StubNode, spec: Spec): boolean {
  const { pool = "default", driver = "raw_exec" } = node.options;
  if (spec["NodePool"] !== "all" && spec["NodePool"] !== pool) return false;
  if (spec["TaskGroups"][0].Tasks[0].Driver !== driver) return false;
  return (spec["Constraints"] ?? []).every((constraint: Record<string, string>) => {
    const { LTarget = "", Operand = "", RTarget = "" } = constraint;
    const [, kind, name = ""] = /^\$\{(attr|meta)\.(.+)\}$/.exec(LTarget) ?? [];
    const found = (kind === "attr" ? attributesOf(node) : (node.options.meta ?? {}))[name];
    if (found === undefined) return false;
    if (Operand === "=") return found === RTarget;
    if (Operand === ">=") return Number(found) >= Number(RTarget);
    throw new Error(`the stub knows no operand ${Operand}`);
  });
}

function attributesOf({ options: { cpus = 4 } }: StubNode): Record<string, string> {
  return { "cpu.numcores": String(cpus), "cpu.arch": "amd64", "kernel.name": "linux" };
}

/** One of `GET /v1/nodes?resources=true`. */
export function nodeStub(node: StubNode, version: string): object {
  const { name, pool = "default", driver = "raw_exec", gpus = 0 } = node.options;
  const { cpu, memory, disk } = amountsOf(node);
  const instances = Array.from({ length: gpus }, (_, at) => ({ ID: `gpu-${at}`, Healthy: true }));
  return {
    Address: "127.0.0.1",
    ID: node.ID,
    Datacenter: "dc1",
    Name: name,
    NodePool: pool,
    NodeClass: "",
    Version: version,
    Drain: node.Drain,
    SchedulingEligibility: node.SchedulingEligibility,
    Status: node.Status,
    StatusDescription: "",
    Drivers: { [driver]: { Attributes: {}, Detected: true, Healthy: true } },
    HostVolumes: null,
    NodeResources: {
      Cpu: { CpuShares: cpu + RESERVED.cpu, TotalCpuCores: node.options.cpus ?? 4 },
      Memory: { MemoryMB: memory + RESERVED.memory, MemoryMaxMB: 0 },
      Disk: { DiskMB: disk + RESERVED.disk },
      Devices:
        gpus === 0
          ? null
          : [
              {
                Vendor: "nvidia",
                Type: "gpu",
                Name: "L4",
                Instances: instances,
                Attributes: { memory: { Int: 24_576, Unit: "MiB" } },
              },
            ],
      MinDynamicPort: 20_000,
      MaxDynamicPort: 32_000,
    },
    ReservedResources: {
      Cpu: { CpuShares: RESERVED.cpu },
      Memory: { MemoryMB: RESERVED.memory },
      Disk: { DiskMB: RESERVED.disk },
      Networks: { ReservedHostPorts: "" },
    },
    LastDrain: null,
    CreateIndex: 1,
    ModifyIndex: node.ModifyIndex,
  };
}

/** `GET /v1/node/:id` */
export function nodeDetail(node: StubNode, version: string, httpAddr: string): object {
  return {
    ...nodeStub(node, version),
    HTTPAddr: httpAddr,
    TLSEnabled: false,
    Attributes: attributesOf(node),
    Meta: node.options.meta ?? null,
    Links: {},
    DrainStrategy: node.Drain ? { Deadline: 0, IgnoreSystemJobs: true } : null,
    StatusUpdatedAt: 0,
    Events: null,
  };
}
