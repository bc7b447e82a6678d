/**
 * Ends reservations, for as long as it takes: a database that is away delays a settlement and
 * never loses it while this process lives. If it dies, the reservation expires, in full.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Ledger } from "../../orchestrator/ledger/ledger.ts";
import type { Ids, TransferId } from "../../orchestrator/runtime/ids.ts";
import type { Log } from "../../orchestrator/runtime/log.ts";
import type { Calls, FinishedCall, FinishResult } from "./calls.ts";

export interface Finisher {
  /** Resolves after the first try: null when that failed and the rest goes on in the background. */
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

export function createFinisher({
  calls,
  ledger,
  ids,
  log,
}: {
  calls: Calls;
  ledger: Ledger;
  ids: Ids;
  log: Log;
}): Finisher {
  const running = new Set<Promise<unknown>>();
  const stopped = new AbortController();
  return { finish, forget, pending: () => running.size, drain };

  async function finish(call: FinishedCall): Promise<FinishResult | null> {
    try {
      return await calls.finish(call);
    } catch (error) {
      log.warn({ err: error, call_id: call.id }, "call not settled yet");
      keepTrying(() => calls.finish(call), call.id);
      return null;
    }
  }

  function forget(pendingId: TransferId): void {
    const id = ids.next("transfer");
    keepTrying(() => ledger.release({ id, pendingId }), pendingId);
  }

  function keepTrying(attempt: () => Promise<unknown>, id: string): void {
    const trying = (async () => {
      for (let waitMs = RETRY_MIN_MS; ; waitMs = Math.min(2 * waitMs, RETRY_MAX_MS)) {
        try {
          await sleep(waitMs, undefined, { signal: stopped.signal });
        } catch {
          log.error({ transfer_id: id }, "gave up on a reservation; it will expire in full");
          return;
        }
        try {
          await attempt();
          return;
        } catch (error) {
          log.warn({ err: error, transfer_id: id }, "reservation not ended yet");
        }
      }
    })();
    running.add(trying);
    void trying.finally(() => running.delete(trying));
  }

  async function drain(graceMs: number): Promise<void> {
    const timer = setTimeout(() => stopped.abort(), graceMs);
    await Promise.all(running);
    clearTimeout(timer);
  }
}
