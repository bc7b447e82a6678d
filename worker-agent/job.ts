/** What an allocation's work is given, whichever its purpose. */
import type { InstallProgress } from "../orchestrator/contract/agents.ts";
import type { Agent } from "./agents/agent.ts";
import type { AllowanceKeeper } from "./allowance-keeper.ts";
import type { Client } from "./client.ts";
import type { Clock } from "./clock.ts";
import type { RunAs } from "./config.ts";
import type { Watch } from "./limits.ts";
import type { Outbox } from "./outbox.ts";
import type { Rooms } from "./rooms.ts";
import type { Stop } from "./stop.ts";

export type Install = (
  agent: Agent,
  signal: AbortSignal,
  onProgress: (progress: InstallProgress) => void,
) => Promise<string>;

export interface Job<Spec> {
  readonly spec: Spec;
  readonly rooms: Rooms;
  readonly client: Client;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly stop: Stop;
  readonly allowanceKeeper: AllowanceKeeper;
  /** The user that runs what is not ours; null: our own. */
  readonly runAs: RunAs | null;
  /** The user of `runAs`, when nobody else's processes run as it. */
  readonly exclusiveUid: number | null;
  /** Where its processes are isolated, they see nothing of `hidden` but `kept`. */
  readonly seclusion: { readonly hidden: readonly string[]; readonly kept: readonly string[] };
  /** Over what its processes take of the host. */
  readonly watch: Watch;
  /** The PATH of children. */
  readonly path: string;
  /** What a process gets between TERM and KILL. */
  readonly graceMs: number;
  readonly install: Install;
  /** A fresh UUID. */
  readonly newSessionId: () => string;
  /** Does it; when the orchestrator refuses, notes that and goes on. */
  readonly tolerant: (work: () => Promise<void>) => Promise<void>;
}
