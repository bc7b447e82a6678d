/**
 * Ends reservations, for as long as it takes: a database that is away delays a settlement and
 * never loses it while this process lives. If it dies, the reservation expires, in full.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ledger, ReleaseResult } from "../../orchestrator/ledger/ledger.ts";
import type { CallId, Ids, TransferId } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { Calls, FinishedCall, FinishResult } from "./calls.ts";

export interface Finisher {
  /** Resolves when it is written, however often that is tried; null when it was given up. */
  finish(call: FinishedCall): Promise<FinishResult | null>;
  /** Releases what may have been reserved by a statement whose answer never came. */
  forget(pendingId: TransferId): void;
  /** How many are still being tried. */
  pending(): number;
  /** Waits for them, at most this long; gives up on the rest, which will expire. */
  drain(graceMs: number): Promise<void>;
}

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;
/** Each after twice as long as the one before: 12 s in all. */
const LOOKS = 6;

export function createFinisher({
  calls,
  ledger,
  ids,
  log,
}: {
  calls: Calls;
  ledger: Pick<Ledger, "release">;
  ids: Ids;
  log: Log;
}): Finisher {
  const running = new Set<Promise<unknown>>();
  const stopped = new AbortController();
  const leaving = new AbortController();
  return { finish, forget, pending: () => running.size, drain };

  function finish(call: FinishedCall): Promise<FinishResult | null> {
    return keepTrying(() => calls.finish(call), call.id);
  }

  function forget(pendingId: TransferId): void {
    const id = ids.next("transfer");
    const release = () => ledger.release({ id, pendingId });
    // Not at once: the statement that was lost may still be on its way to its commit.
    void keepTrying(release, pendingId, RETRY_MIN_MS).then((first) =>
      lookAgain(release, pendingId, first),
    );
  }

  /** A statement that was not there yet may still come: it is looked for a few times more. */
  async function lookAgain(
    release: () => Promise<ReleaseResult>,
    pendingId: TransferId,
    first: ReleaseResult | null,
  ): Promise<void> {
    let result = first;
    for (let look = 1; look <= LOOKS && result?.outcome === "reservation_not_found"; look++) {
      try {
        await sleep(RETRY_MIN_MS * 2 ** look, undefined, { signal: leaving.signal, ref: false });
      } catch {
        return;
      }
      result = await keepTrying(release, pendingId);
    }
  }

  /** Never rejects. */
  function keepTrying<Result>(
    attempt: () => Promise<Result>,
    id: CallId | TransferId,
    delayMs = 0,
  ): Promise<Result | null> {
    const trying = tryOn(attempt, id, delayMs);
    running.add(trying);
    void trying.then(() => running.delete(trying));
    return trying;
  }

  async function tryOn<Result>(
    attempt: () => Promise<Result>,
    id: CallId | TransferId,
    delayMs: number,
  ): Promise<Result | null> {
    for (let waitMs = delayMs; ; waitMs = nextWait(waitMs)) {
      try {
        if (waitMs > 0) await sleep(waitMs, undefined, { signal: stopped.signal });
      } catch {
        log.error({ of: id }, "gave up on a reservation; it will expire in full");
        return null;
      }
      try {
        return await attempt();
      } catch (error) {
        log.warn({ err: error, of: id }, "reservation not ended yet");
      }
    }
  }

  async function drain(graceMs: number): Promise<void> {
    leaving.abort();
    const timer = setTimeout(() => stopped.abort(), graceMs);
    await Promise.all(running);
    clearTimeout(timer);
  }
}

function nextWait(waitMs: number): number {
  return Math.min(Math.max(2 * waitMs, RETRY_MIN_MS), RETRY_MAX_MS);
}
