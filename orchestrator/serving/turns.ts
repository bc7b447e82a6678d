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
 * @param queue the trials in line.
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
  const called = calledByQueue([...wanted.values()].flat(), queue);
  const units = [...wanted].map(([id, members]) => {
    const isAwake = members.some((server) => server.is_awake);
    const settled = isAwake ? "ready" : "sleeping";
    const waits = members.flatMap((server) => waitsFor(server, called.get(server), nowMs));
    const [first] = waits.toSorted((one, other) => one.sinceMs - other.sinceMs);
    return {
      id,
      pair: members[0]?.pair ?? id,
      rows: members,
      isAwake,
      isSettled: members.every(({ state }) => state === settled || state === "failed"),
      isBusy: members.some(isBusy),
      waitingSinceMs: first?.sinceMs ?? null,
      waitingFor: first?.trialId ?? null,
      isFailed: members.every(({ state }) => state === "failed"),
      swapMs: Math.max(...members.map(({ plan }) => plan.swap_ms ?? SWAP_MS)),
    };
  });
  const awake = units.flatMap(({ isAwake, rows }) => (isAwake ? rows : []));
  return { units, turnSinceMs: Math.max(0, ...awake.map(({ since }) => readTime(since))) };
}

/**
 * Which engine each pair's place in line calls for: one that sleeps, of a pair of which none is
 * awake. Trials in line make no calls: one that came after one of an awake pair wakes nothing, else
 * pairs with trials in line would take the GPUs from each other for nothing.
 */
function calledByQueue(
  servers: readonly ServerRow[],
  queue: readonly Queued[],
): Map<ServerRow, Queued> {
  const usable = servers.filter(({ state }) => state !== "failed");
  const called = new Map<ServerRow, Queued>();
  // Of those that came at one moment the order is that of turns, or one would follow for nothing.
  const inOrder = queue.toSorted(
    (one, other) => one.sinceMs - other.sinceMs || (one.pair < other.pair ? -1 : 1),
  );
  for (const queued of inOrder) {
    const engines = usable.filter(({ pair }) => pair === queued.pair);
    if (engines.some((server) => server.is_awake)) break;
    const [first] = engines;
    if (first !== undefined && !called.has(first)) called.set(first, queued);
  }
  return called;
}

function waitsFor(
  server: ServerRow,
  queued: Queued | undefined,
  nowMs: EpochMs,
): { sinceMs: EpochMs; trialId: TrialId | null }[] {
  if (server.state === "failed") return [];
  const found: { sinceMs: EpochMs; trialId: TrialId | null }[] = [];
  // Whoever brought it up waits for both to be seen to answer.
  if (!server.has_served) found.push({ sinceMs: readTime(server.brought_up_at), trialId: null });
  const { asked_at: askedAt, asked_last_at: lastAt, asked_by: trialId } = server;
  if (askedAt !== null && lastAt !== null && nowMs - readTime(lastAt) < ASKED_MAX_MS) {
    found.push({ sinceMs: readTime(askedAt), trialId });
  }
  if (queued !== undefined) found.push(queued);
  return found;
}
