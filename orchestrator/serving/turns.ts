/** Engines grouped into what is awake together, with what is known of who waits for them. Pure. */
import { readTime } from "../db/rows.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import { type ServerRow, unitOf } from "./rows.ts";
import type { Unit } from "./swap.ts";

/** A trial in line that wants a pair. */
export interface Queued {
  pair: string;
  trialId: TrialId;
  sinceMs: EpochMs;
}

export interface Turn {
  units: (Unit & { rows: readonly ServerRow[]; waitingFor: TrialId | null })[];
  turnSinceMs: EpochMs;
}

/** Who asked last so long ago has given up: nobody is woken for it. */
const ASKED_MAX_MS = 180_000;
/** Weights that lie in the host's memory: some seconds. From a disk: far longer. */
const SWAP_MS = 30_000;

/**
 * @param queue the trials in line, oldest first.
 * @param isBusy whether an engine answers calls, or did a moment ago.
 */
export function unitsOf(
  servers: readonly ServerRow[],
  queue: readonly Queued[],
  isBusy: (server: ServerRow) => boolean,
  nowMs: EpochMs,
): Turn {
  const wanted = Map.groupBy(
    servers.filter((server) => server.is_wanted),
    unitOf,
  );
  const units = [...wanted].map(([id, members]) => {
    const isAwake = members.some((server) => server.is_awake);
    const waits = members.flatMap((server) => waitsFor(server, queue, nowMs));
    const [first] = waits.toSorted((one, other) => one.sinceMs - other.sinceMs);
    return {
      id,
      rows: members,
      isAwake,
      isSettled: members.every(({ state }) => state === (isAwake ? "ready" : "sleeping")),
      isBusy: members.some(isBusy),
      waitingSinceMs: first?.sinceMs ?? null,
      waitingFor: first?.trialId ?? null,
      isFailed: members.some(({ state }) => state === "failed"),
      swapMs: Math.max(...members.map(({ plan }) => plan.swap_ms ?? SWAP_MS)),
    };
  });
  const awake = units.flatMap(({ isAwake, rows }) => (isAwake ? rows : []));
  return { units, turnSinceMs: Math.max(0, ...awake.map(({ since }) => readTime(since))) };
}

function waitsFor(
  server: ServerRow,
  queue: readonly Queued[],
  nowMs: EpochMs,
): { sinceMs: EpochMs; trialId: TrialId | null }[] {
  const found: { sinceMs: EpochMs; trialId: TrialId | null }[] = [];
  // Whoever brought it up waits for both to be seen to answer.
  if (!server.has_served) found.push({ sinceMs: readTime(server.brought_up_at), trialId: null });
  const { asked_at: askedAt, asked_last_at: lastAt, asked_by: trialId } = server;
  if (askedAt !== null && lastAt !== null && nowMs - readTime(lastAt) < ASKED_MAX_MS) {
    found.push({ sinceMs: readTime(askedAt), trialId });
  }
  const queued = queue.find(({ pair }) => pair === server.pair);
  if (queued !== undefined) found.push(queued);
  return found;
}
