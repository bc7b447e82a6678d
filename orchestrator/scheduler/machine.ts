/** What this machine has, for the schedulers that run allocations on it. */
import { availableParallelism, hostname, totalmem } from "node:os";
import type { Capabilities } from "../contract/workers.ts";

export function thisMachine(): { name: string; capabilities: Capabilities } {
  const capabilities: Capabilities = {
    cpus: availableParallelism(),
    memory_bytes: totalmem(),
    gpus: [],
    arch: process.arch,
    vm_template: null,
    agents: [],
  };
  return { name: hostname(), capabilities };
}
