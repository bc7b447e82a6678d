/**
 * When to ask for more hosts, or say that some may go: pure. A pool is asked about once its queue
 * has been longer than its free slots for a while, or once it has had nothing to do for a while
 * with more free than it keeps warm; never twice within the cooldown.
 */

/** What is so of a pool now. */
export interface PoolLoad {
  pool: string;
  /** Trials and allocations that wait for a worker of it. */
  pending: number;
  /** Slots of its ready workers that nothing has. */
  free: number;
  used: number;
  /** Free slots that it keeps for what comes next. */
  warm: number;
}

/** What is called for a pool, on the wire. */
export interface AutoscaleCall {
  pool: string;
  pending: number;
  free: number;
  /** Slots that the pool should have: what is used and wanted, and what it keeps warm. */
  desired: number;
  reason: "backlog" | "idle";
}

/** What is remembered of a pool; times are of a clock that is never set. */
export interface PoolMemory {
  backlogSinceMs: number | null;
  idleSinceMs: number | null;
  calledAtMs: number | null;
}

export interface AutoscaleRules {
  /** How long a queue must have been too long. */
  backlogMs: number;
  /** How long a pool must have been idle. */
  idleMs: number;
  cooldownMs: number;
}

/** What to remember, and the call that is due, if one is. */
export function decide(
  load: PoolLoad,
  memory: PoolMemory,
  { backlogMs, idleMs, cooldownMs }: AutoscaleRules,
  nowMs: number,
): { memory: PoolMemory; call: AutoscaleCall | null } {
  const { pool, pending, free, used, warm } = load;
  // With nothing waiting a pool still wants the slots that it keeps warm.
  const isShort = pending > free || (pending === 0 && free < warm);
  const isIdle = pending === 0 && used === 0 && free > warm;
  const backlogSinceMs = isShort ? (memory.backlogSinceMs ?? nowMs) : null;
  const idleSinceMs = isIdle ? (memory.idleSinceMs ?? nowMs) : null;
  const isCool = memory.calledAtMs === null || nowMs - memory.calledAtMs >= cooldownMs;
  const isBacklogDue = backlogSinceMs !== null && nowMs - backlogSinceMs >= backlogMs;
  const isIdleDue = idleSinceMs !== null && nowMs - idleSinceMs >= idleMs;
  const reason = isBacklogDue ? "backlog" : isIdleDue ? "idle" : null;
  if (reason === null || !isCool) {
    return { memory: { ...memory, backlogSinceMs, idleSinceMs }, call: null };
  }
  return {
    memory: { backlogSinceMs, idleSinceMs, calledAtMs: nowMs },
    call: { pool, pending, free, desired: used + pending + warm, reason },
  };
}

export const NOTHING_REMEMBERED: PoolMemory = {
  backlogSinceMs: null,
  idleSinceMs: null,
  calledAtMs: null,
};
