/** Where a gateway can be killed, how long what it leaves may last, and how it is started. */

/** R4's points; `extension`: while a further slice of a stream is being reserved. */
export const KILL_POINTS = [
  "reserve_before",
  "reserve_after",
  "mid_stream",
  "extension",
  "settle_before",
  "settle_after",
] as const;
export type KillPoint = (typeof KILL_POINTS)[number];

export interface GatewaySetup {
  databaseUrl: string;
  providerUrl: string;
  connectionsMax: number;
  /** Whether streams are reserved in slices, as of own models. */
  isSliced: boolean;
  /** SIGKILL at the nth time that it comes by this point; null: never by itself. */
  kill: { point: KillPoint; nth: number } | null;
}

/** A reservation lasts `callMs + graceMs`; a reaper comes by every `reapMs`. */
export const TIMES = { callMs: 6_000, graceMs: 1_000, reapMs: 300 };
