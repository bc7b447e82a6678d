/** Why a trial waits that no worker could ever run: it must say so instead of waiting silently. */
import { whyNowhere } from "../scheduler/placement.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import type { TrialRow } from "./rows.ts";
import type { Transitions } from "./transitions.ts";

const PREFIX = "waits for a worker: ";

/** Keeps the reason with the trial while there is one; it goes when a worker could run it. */
export async function tellUnplaceable(
  { scheduler, transitions }: { scheduler: Scheduler; transitions: Transitions },
  trial: TrialRow,
): Promise<void> {
  const why = whyNot(await scheduler.hosts(), trial);
  if (why !== null) await transitions.wait(trial, `${PREFIX}${why}`);
  else if (trial.reason?.startsWith(PREFIX)) await transitions.wait(trial, null);
}

function whyNot(
  hosts: Awaited<ReturnType<Scheduler["hosts"]>>,
  { requirements }: TrialRow,
): string | null {
  if (hosts.length === 0) return "none has joined yet";
  return whyNowhere(requirements, hosts);
}
