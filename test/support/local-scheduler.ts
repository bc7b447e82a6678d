/** Local schedulers to test with, in a folder that outlives them, with workers that take notes. */

import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AllocationId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type LocalOptions, openLocalScheduler } from "../../orchestrator/scheduler/local.ts";
import { thisMachine } from "../../orchestrator/scheduler/machine.ts";
import { sweepMarker } from "../../worker-agent/process.ts";
import { eventually } from "./eventually.ts";

export interface SchedulerFolder extends AsyncDisposable {
  path: string;
  open(options?: Partial<LocalOptions>): ReturnType<typeof openLocalScheduler>;
  /** The process ids of its workers, one a start. */
  starts(id: AllocationId): number[];
  /** What a worker wrote down, once it did. */
  note(id: AllocationId, kind: "env" | "left" | "starts"): Promise<string>;
}

export async function openSchedulerFolder(): Promise<SchedulerFolder> {
  const path = await mkdtemp(join(tmpdir(), "autocode-scheduler-"));
  return {
    path,
    open: (options = {}) => openInFolder(path, options),
    starts(id) {
      try {
        const text = readFileSync(join(path, `${id}.starts`), "utf8");
        return text.trim().split("\n").map(Number);
      } catch {
        return [];
      }
    },
    note: (id, kind) =>
      eventually(
        () => readFile(join(path, `${id}.${kind}`), "utf8").catch(() => ""),
        (text) => text !== "",
      ),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

/** Also what `local-holder.ts` opens, in a process that is killed. */
export function openInFolder(path: string, options: Partial<LocalOptions>) {
  const worker = join(import.meta.dirname, "local-worker.ts");
  return openLocalScheduler(
    {
      command: [process.execPath, worker, path],
      apiUrl: () => "http://127.0.0.1:1",
      allocationsDir: join(path, "allocations"),
      agentsDir: join(path, "agents"),
      slots: 2,
      machine: thisMachine(),
      env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
      firstUid: null,
      graceMs: 5_000,
      adoptedPollMs: 20,
      sweep: sweepMarker,
      ...options,
    },
    createLog("silent"),
  );
}

/** Whether the process runs; one that ended and was not waited for does not. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}
