/**
 * Wakes whoever waits for a trial: the engine, long-polling workers, live views. Built on the
 * database's notifications, so it works across processes; a wake is a hint to look again.
 */
import type { Database } from "../db/database.ts";
import type { TrialId } from "../runtime/ids.ts";
import { EVENT_CHANNEL, TRIAL_CHANNEL } from "./events.ts";

/** Null: notifications may have been missed, look at everything. */
type Listener<Payload> = (payload: Payload) => void;

export interface Wakes extends AsyncDisposable {
  /** A trial's row changed in a way that asks for action. */
  onTrial(listener: Listener<TrialId | null>): Disposable;
  /** A trial has new events. */
  onEvent(listener: Listener<TrialId>): Disposable;
}

export async function openWakes(db: Database): Promise<Wakes> {
  const trialListeners = new Set<Listener<TrialId | null>>();
  const eventListeners = new Set<Listener<TrialId>>();
  const trials = await db.listen(
    TRIAL_CHANNEL,
    (payload) => tell(trialListeners, payload as TrialId),
    () => tell(trialListeners, null),
  );
  const events = await db.listen(EVENT_CHANNEL, (payload) =>
    tell(eventListeners, payload as TrialId),
  );
  return {
    onTrial: (listener) => add(trialListeners, listener),
    onEvent: (listener) => add(eventListeners, listener),
    [Symbol.asyncDispose]: async () => {
      await trials[Symbol.asyncDispose]();
      await events[Symbol.asyncDispose]();
    },
  };
}

function tell<Payload>(listeners: ReadonlySet<Listener<Payload>>, payload: Payload): void {
  for (const listener of [...listeners]) listener(payload);
}

function add<Payload>(listeners: Set<Listener<Payload>>, listener: Listener<Payload>): Disposable {
  listeners.add(listener);
  return { [Symbol.dispose]: () => void listeners.delete(listener) };
}
