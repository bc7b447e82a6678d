/**
 * The guard over PostgreSQL: an allocation's session, its project's policy as it is now, and what
 * its trial has sent.
 *
 * Invariant: what the database said is believed for a second at most, so that a session ends, and a
 * policy changes, within it.
 */
import type { EventType } from "../../orchestrator/contract/events.ts";
import type { ProjectFile } from "../../orchestrator/contract/projects.ts";
import type { Database } from "../../orchestrator/db/database.ts";
import type { BackgroundTask } from "../../orchestrator/runtime/background.ts";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import type { ProjectId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { Secrets } from "../../orchestrator/secrets/secrets.ts";
import type { FlowSink } from "../../orchestrator/traffic/sink.ts";
import type { EgressGuard, RequestDecision, RequestHead } from "./guard.ts";

export interface EgressGuardDependencies {
  db: Pick<Database, "sql">;
  projects: { findById(id: ProjectId): Promise<{ config: ProjectFile }> };
  secrets: Pick<Secrets, "get">;
  resolver: { resolve(host: string): Promise<string[]> };
  clock: Clock;
  log: Log;
  sink: FlowSink;
  /** Appends an event of the trial. */
  tell(trialId: TrialId, type: EventType, data: Record<string, unknown>): Promise<void>;
  /** Its canary was about to leave: ends the trial, within a second. */
  stopTrial(trialId: TrialId, reason: string): Promise<void>;
}

export interface EgressGuardOptions {
  /** The platform's own, `host:port` or URLs: refused even where a rule names them. */
  ownAddresses: () => readonly string[];
  /** As workers know it: reached through us where the policy says `llm_through_proxy`. */
  gatewayUrl: () => string;
  /** Answers a trial that replays the record of `of`; whoever replays is forwarded nothing. */
  replay?: (of: TrialId, trialId: TrialId, head: RequestHead) => Promise<RequestDecision>;
}

/** `watch` runs in every process that has a guard: it ends the sessions of allocations that ended. */
export type PostgresEgressGuard = EgressGuard & { watch: BackgroundTask };
