/** What a task and its project ask of a worker, as people write it. Pure. */
import type { ProjectFile } from "../contract/projects.ts";
import type { Requirements } from "../contract/workers.ts";

const UNITS: Readonly<Record<string, number>> = { MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const MIB = 2 ** 20;
/** Harbor's names of what a container is given, in `[environment]` of task.toml. */
const FIGURES = [
  { name: "cpus", key: "cpus", most: 65_536, unit: 1 },
  { name: "memory_mb", key: "memory_bytes", most: 2 ** 30, unit: MIB },
  { name: "storage_mb", key: "disk_bytes", most: 2 ** 30, unit: MIB },
  { name: "gpus", key: "gpus", most: 64, unit: 1 },
] as const;

/** Of task.toml's `[environment]`: the requirements, or what is wrong with it. */
export function readEnvironment(
  table: Readonly<Record<string, unknown>>,
): { requirements: Requirements } | { fault: string } {
  const requirements: Requirements = {};
  for (const { name, key, most, unit } of FIGURES) {
    const value = table[name];
    if (value === undefined) continue;
    const isCount = typeof value === "number" && value >= 0 && value <= most;
    if (!isCount || (name === "gpus" && !Number.isInteger(value))) {
      return { fault: `environment.${name} must be a number from 0 to ${most}` };
    }
    // Harbor's 0 asks for nothing, and half a CPU needs one.
    if (value > 0) requirements[key] = Math.ceil(value * unit);
  }
  return { requirements };
}

/** A project's `workers` and its task's figures together: of each figure the larger one. */
export function requirementsOf(
  workers: ProjectFile["workers"] = {},
  ofTask: Requirements = {},
): Requirements {
  const { pool, vm_template: template, cpus, gpus, memory, disk, gpu_memory: gpuMemory } = workers;
  const wanted: Requirements = {
    ...(pool === undefined ? {} : { pool }),
    ...(template === undefined ? {} : { vm_template: template }),
  };
  const figures = [
    ["cpus", cpus, ofTask.cpus],
    ["memory_bytes", bytesOf(memory), ofTask.memory_bytes],
    ["disk_bytes", bytesOf(disk), ofTask.disk_bytes],
    ["gpus", gpus, ofTask.gpus],
    ["gpu_memory_bytes", bytesOf(gpuMemory), ofTask.gpu_memory_bytes],
  ] as const;
  for (const [key, ...both] of figures) {
    const most = Math.max(...both.map((figure) => figure ?? 0));
    if (most > 0) wanted[key] = most;
  }
  return wanted;
}

/** "16GiB", as the project file's schema has it. */
function bytesOf(text: string | undefined): number | undefined {
  const [, count, unit] = /^([0-9]+)(MiB|GiB|TiB)$/.exec(text ?? "") ?? [];
  return count === undefined ? undefined : Number(count) * (UNITS[unit ?? ""] ?? 1);
}
