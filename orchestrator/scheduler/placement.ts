/** Which worker an allocation goes to: pure. */
import type { Capabilities, Requirements } from "../contract/workers.ts";

/**
 * What a worker with these capabilities lacks of what is asked for, in words; null when it has all.
 *
 * @param pool the worker's.
 */
export function lacks(
  { capabilities, pool }: { capabilities: Capabilities; pool: string },
  wanted: Requirements,
): string | null {
  if (wanted.pool !== undefined && wanted.pool !== pool) return `it is in the pool ${pool}`;
  if ((wanted.cpus ?? 0) > capabilities.cpus) return `it has ${capabilities.cpus} CPUs`;
  if ((wanted.memory_bytes ?? 0) > capabilities.memory_bytes) {
    return `it has ${capabilities.memory_bytes} bytes of memory`;
  }
  if ((wanted.disk_bytes ?? 0) > (capabilities.disk_bytes ?? Number.POSITIVE_INFINITY)) {
    return `it has ${capabilities.disk_bytes} bytes of disk`;
  }
  const fitting = capabilities.gpus.filter(
    ({ memory_bytes }) => memory_bytes >= (wanted.gpu_memory_bytes ?? 0),
  );
  const gpus = wanted.gpus ?? (wanted.gpu_memory_bytes === undefined ? 0 : 1);
  if (gpus > fitting.length) return `it has ${fitting.length} GPUs of that memory`;
  if (wanted.vm_template !== undefined && wanted.vm_template !== capabilities.vm_template) {
    return `its template is ${capabilities.vm_template ?? "none"}`;
  }
  return null;
}
