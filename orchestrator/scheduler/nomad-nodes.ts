/** Nomad's nodes as hosts, and how many dispatches fit on them: pure. */
import type { Capabilities, Requirements } from "../contract/workers.ts";
import { type Ask, gpusOf } from "./nomad-job.ts";
import { isEnded } from "./nomad-status.ts";
import type { Allocation, Node, NodeStub } from "./nomad-wire.ts";
import { lacks } from "./placement.ts";
import type { Host } from "./scheduler.ts";

/** A node's stub, and of its detail what the stub leaves out; null where it may not be read. */
export interface KnownNode {
  stub: NodeStub;
  detail: Node | null;
}

/** What a job asks of any node, whatever its requirements: the base job's own. */
export interface Wanted {
  ask: Ask;
  pool: string;
  datacenters: readonly string[];
}

interface Amounts {
  cpuMhz: number;
  memoryMib: number;
  diskMib: number;
  gpus: number;
}

const MIB = 1024 * 1024;
/** The pool that every node is in (structs.NodePoolAll). */
const POOL_ALL = "all";
const ARCHITECTURES: Readonly<Record<string, string>> = { amd64: "x64" };

/**
 * @param allocations of all namespaces, the live ones. @param isOurs by a job's id.
 */
export function hostOf(
  node: KnownNode,
  wanted: Wanted,
  { allocations, isOurs }: { allocations: readonly Allocation[]; isOurs(jobId: string): boolean },
): Host {
  const { stub } = node;
  const isUp = stub.Status === "ready";
  const isOpen = !stub.Drain && stub.SchedulingEligibility === "eligible";
  const status = isUp ? (isOpen ? "ready" : "draining") : "down";
  const here = allocations.filter(({ NodeID }) => NodeID === stub.ID);
  return {
    id: stub.ID,
    name: stub.Name,
    pool: stub.NodePool,
    status,
    slots: fits(total(stub), wanted.ask),
    used: here.filter(({ JobID }) => isOurs(JobID)).length,
    capabilities: capabilitiesOf(node),
  };
}

/** How many more of this ask the ready nodes have room for; what waits in line is not in it. */
export function room(
  nodes: readonly KnownNode[],
  wanted: Wanted,
  requirements: Requirements,
  allocations: readonly Allocation[],
): number {
  let free = 0;
  for (const node of nodes) {
    const { Status, Drain, SchedulingEligibility } = node.stub;
    if (Status !== "ready" || Drain || SchedulingEligibility !== "eligible") continue;
    if (whyNever(node, wanted, requirements) !== null) continue;
    const left = total(node.stub);
    for (const allocation of allocations) {
      if (allocation.NodeID === node.stub.ID && !isEnded(allocation)) take(left, allocation);
    }
    free += fits(left, wanted.ask);
  }
  return free;
}

/** Why a node could not run it were it empty, in words; null when it could. */
export function whyNever(
  node: KnownNode,
  { ask, pool, datacenters }: Wanted,
  requirements: Requirements,
): string | null {
  const { stub } = node;
  const inPool = requirements.pool ?? pool;
  if (inPool !== POOL_ALL && inPool !== stub.NodePool) return `it is in the pool ${stub.NodePool}`;
  if (!datacenters.some((pattern) => matches(pattern, stub.Datacenter))) {
    return `it is in the datacenter ${stub.Datacenter}`;
  }
  const driver = stub.Drivers?.[ask.driver];
  if (driver === undefined || !driver.Detected || !driver.Healthy) {
    return `its driver ${ask.driver} is not there or not healthy`;
  }
  const capabilities = capabilitiesOf(node);
  if (capabilities === null) return "its resources are not known";
  const { pool: _, ...asked } = requirements;
  const lacking = lacks({ capabilities, pool: stub.NodePool }, asked);
  if (lacking !== null) return lacking;
  return fits(total(stub), ask) > 0 ? null : `it is smaller than the job: ${describe(stub)}`;
}

/** The variant's ask: what the base reserves, or what is asked for where that is more. */
export function raised(base: Ask, requirements: Requirements): Ask {
  const { memory_bytes = 0, disk_bytes = 0 } = requirements;
  return {
    ...base,
    memoryMib: Math.max(base.memoryMib, Math.ceil(memory_bytes / MIB)),
    diskMib: Math.max(base.diskMib, Math.ceil(disk_bytes / MIB)),
    gpus: Math.max(base.gpus, gpusOf(requirements)),
  };
}

function capabilitiesOf({ stub, detail }: KnownNode): Capabilities | null {
  const { NodeResources: resources } = stub;
  if (resources === null || resources === undefined) return null;
  const attributes = detail?.Attributes ?? {};
  const arch = attributes["cpu.arch"] ?? "unknown";
  return {
    cpus: Math.max(
      1,
      Number(attributes["cpu.numcores"] ?? 0) || (resources.Cpu.TotalCpuCores ?? 1),
    ),
    memory_bytes: Math.max(1, resources.Memory.MemoryMB * MIB),
    disk_bytes: Math.max(0, resources.Disk.DiskMB * MIB),
    gpus: gpuGroups(stub).flatMap((group) => {
      const memory = group.Attributes?.["memory"];
      const name = `${group.Vendor} ${group.Name}`.slice(0, 100);
      const of = { name, memory_bytes: memory === undefined ? 0 : bytesOf(memory) };
      return (group.Instances ?? []).filter(({ Healthy }) => Healthy).map(() => of);
    }),
    arch: ARCHITECTURES[arch] ?? arch,
    vm_template: detail?.Meta?.["vm_template"] ?? null,
    agents: [],
  };
}

function gpuGroups({ NodeResources }: NodeStub) {
  return (NodeResources?.Devices ?? []).filter(({ Type }) => Type === "gpu");
}

/** An attribute that is no whole number has a null in its place. */
function bytesOf({ Int, Unit }: { Int?: number | null; Unit?: string | null }): number {
  const units: Record<string, number> = { KiB: 1024, MiB: MIB, GiB: 1024 * MIB, MB: 1e6, GB: 1e9 };
  return (Int ?? 0) * (units[Unit ?? ""] ?? 1);
}

function total(stub: NodeStub): Amounts {
  const { NodeResources: has, ReservedResources: reserved } = stub;
  return {
    cpuMhz: (has?.Cpu.CpuShares ?? 0) - (reserved?.Cpu.CpuShares ?? 0),
    memoryMib: (has?.Memory.MemoryMB ?? 0) - (reserved?.Memory.MemoryMB ?? 0),
    diskMib: (has?.Disk.DiskMB ?? 0) - (reserved?.Disk.DiskMB ?? 0),
    gpus: gpuGroups(stub)
      .flatMap(({ Instances }) => Instances ?? [])
      .filter(({ Healthy }) => Healthy).length,
  };
}

function take(left: Amounts, { AllocatedResources }: Allocation): void {
  for (const task of Object.values(AllocatedResources?.Tasks ?? {})) {
    left.cpuMhz -= task.Cpu.CpuShares;
    left.memoryMib -= task.Memory.MemoryMB;
    const gpus = (task.Devices ?? []).filter(({ Type }) => Type === "gpu");
    left.gpus -= gpus.reduce((sum, { DeviceIDs }) => sum + (DeviceIDs ?? []).length, 0);
  }
  left.diskMib -= AllocatedResources?.Shared?.DiskMB ?? 0;
}

function fits(left: Amounts, ask: Amounts): number {
  const each = (["cpuMhz", "memoryMib", "diskMib", "gpus"] as const)
    .filter((dimension) => ask[dimension] > 0)
    .map((dimension) => Math.floor(left[dimension] / ask[dimension]));
  return each.length === 0 ? 0 : Math.max(0, Math.min(...each));
}

function describe(stub: NodeStub): string {
  const { cpuMhz, memoryMib, diskMib, gpus } = total(stub);
  return `${cpuMhz} MHz, ${memoryMib} MiB of memory, ${diskMib} MiB of disk, ${gpus} GPUs`;
}

/** Nomad's datacenters may be globs: `*` stands for any text. */
function matches(pattern: string, datacenter: string): boolean {
  const parts = pattern.split("*").map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(datacenter);
}
