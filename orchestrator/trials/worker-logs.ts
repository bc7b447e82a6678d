/**
 * What the workers of a trial printed, for people: by its allocation, with what is a secret taken
 * out, and a reason in words where there is nothing to read.
 */
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { pause } from "../runtime/clock.ts";
import type { AllocationId, TrialId } from "../runtime/ids.ts";
import type { AllocationStatus, Scheduler } from "../scheduler/scheduler.ts";
import { redactLines } from "./redact-lines.ts";
import { findTrial } from "./rows.ts";
import type { WorkerLogRequest, WorkerLogs } from "./trials.ts";

type AllocationRow = {
  id: AllocationId;
  purpose: "agent" | "verify";
  scheduler: string;
  ended_at: string | null;
};

/** One that is placed has printed nothing until it runs: asked again, while somebody follows. */
const LOOK_MS = 500;

export function createWorkerLogs({
  db,
  scheduler,
  redact,
}: {
  db: Pick<Database, "sql">;
  scheduler: Pick<Scheduler, "name" | "logs" | "status">;
  /** Text without the secrets that are known, or look like some. */
  redact: (text: string) => string;
}): WorkerLogs {
  return { read };

  async function read(id: TrialId, asked: WorkerLogRequest): Promise<AsyncIterable<string>> {
    const allocation = await find(id, asked.allocationId);
    if (allocation.scheduler !== scheduler.name) {
      const detail =
        `${allocation.id} was placed by the scheduler "${allocation.scheduler}" and this ` +
        `installation now uses "${scheduler.name}": look for its log there`;
      throw new Problem("not_found", detail);
    }
    for (;;) {
      const bytes = await scheduler.logs(allocation.id, asked);
      if (bytes !== null) return redactLines(bytes, redact);
      const status = await scheduler.status(allocation.id);
      const isComing = status === "pending" || status === "running";
      if (!isComing || !asked.isFollowed || asked.signal.aborted) {
        throw new Problem(isComing ? "conflict" : "not_found", whyNothing(allocation, status));
      }
      await pause(LOOK_MS, asked.signal);
    }
  }

  async function find(id: TrialId, wanted: string | null): Promise<AllocationRow> {
    const trial = await findTrial(db.sql, id);
    if (trial === null) throw new Problem("not_found", `There is no trial ${id}`);
    const found = await rows<AllocationRow>(
      db.sql,
      sql`select id, purpose, scheduler, ended_at from allocation
        where trial_id = ${id} order by created_at desc, id desc limit 100`,
    );
    if (found[0] === undefined) {
      const detail = `${id} has had no worker yet: it is ${trial.state}; follow its events instead`;
      throw new Problem("conflict", detail);
    }
    const chosen = wanted === null ? found[0] : found.find((each) => each.id === wanted);
    if (chosen !== undefined) return chosen;
    const known = found.map((each) => `${each.id} (${each.purpose})`).join(", ");
    const detail = `allocation_id: ${wanted} is none of ${id}; it has had ${known}`;
    throw new Problem("not_found", detail);
  }
}

function whyNothing({ id, purpose }: AllocationRow, status: AllocationStatus | null): string {
  switch (status) {
    case "pending":
      return `${id} (${purpose}) waits for a worker; follow its log, or ask again once it runs`;
    case "running":
      return (
        `${id} (${purpose}) runs, and its host cannot be asked for its log now: ` +
        "`autocode worker ls` says how that is"
      );
    case "lost":
      return `The host of ${id} (${purpose}) is gone, and the worker's log with it`;
    default:
      return (
        `Nothing is kept of what the worker of ${id} (${purpose}) printed: it ended too long ` +
        "ago, or its host is gone. The trial's events are kept"
      );
  }
}
