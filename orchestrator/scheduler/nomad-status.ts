/** What became of an allocation, from what Nomad tells of its child job. Pure. */

import type { Allocation, JobStub } from "./nomad-wire.ts";
import type { AllocationStatus } from "./scheduler.ts";

const ENDED = ["complete", "failed", "lost"];

/** A child that is not dead; whether it runs is in its summary. */
export function liveStatus({ JobSummary }: JobStub): AllocationStatus {
  const groups = Object.values(JobSummary?.Summary ?? {});
  // Unknown: its node is silent, towards Nomad at least. Whether the worker is, the engine knows.
  const isRunning = groups.some(({ Running, Unknown = 0 }) => Running + Unknown > 0);
  return isRunning ? "running" : "pending";
}

/** How a dead child ended; what was stopped before it had an allocation has failed. */
export function endStatus(child: JobStub, allocations: readonly Allocation[]): AllocationStatus {
  if (allocations.length === 0) return summaryEnd(child);
  // Nomad replaces what was lost; the engine has given it up by then.
  if (allocations.some(({ ClientStatus }) => ClientStatus === "lost")) return "lost";
  const last = allocations.reduce((one, other) =>
    other.CreateIndex > one.CreateIndex ? other : one,
  );
  return last.ClientStatus === "complete" && hasExitedWell(last) ? "complete" : "failed";
}

export function isEnded({ ClientStatus }: Allocation): boolean {
  return ENDED.includes(ClientStatus);
}

/** Nomad calls a task that was stopped complete, whatever it exited with. */
function hasExitedWell({ TaskStates }: Allocation): boolean {
  const states = Object.values(TaskStates ?? {});
  return states.every(({ Failed, Events }) => {
    const last = (Events ?? []).findLast(({ Type }) => Type === "Terminated");
    return !Failed && last !== undefined && (last.ExitCode ?? 0) === 0 && (last.Signal ?? 0) === 0;
  });
}

function summaryEnd({ JobSummary }: JobStub): AllocationStatus {
  const groups = Object.values(JobSummary?.Summary ?? {});
  if (groups.some(({ Lost }) => Lost > 0)) return "lost";
  const isGood = groups.some(({ Complete }) => Complete > 0);
  return isGood && groups.every(({ Failed }) => Failed === 0) ? "complete" : "failed";
}
