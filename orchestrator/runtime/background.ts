/**
 * Drives background tasks. A task takes no input, is idempotent and bounded, and never overlaps
 * itself: its next period begins when an activation ends. What one activation fails to do, the
 * next one does.
 *
 * With a leadership, each task is a duty: of all processes on one database one activates it, and
 * asks whether it still leads before each activation. One that was paused in the middle and
 * overtaken ends that activation beside its successor's, which idempotence makes harmless, and
 * begins no other.
 */
import type { Log } from "./log.ts";

export interface BackgroundTask {
  readonly name: string;
  /** From the end of one activation to the start of the next. */
  readonly periodMs: number;
  /** Does what there is to do now; its status goes to the log. */
  activate(): Promise<unknown>;
}

export interface Background {
  /** Activates no more; resolves when what is running has ended. */
  stop(): Promise<void>;
}

/** Who activates a task: `orchestrator/duties/duties.ts`. */
export interface Leadership {
  lead(duty: string): Promise<{ isHeld(): boolean; confirm(): Promise<boolean> } | null>;
  onGain(listener: (duty: string) => void): Disposable;
}

/** Activates each task at once, and then after each period, as far as it is ours to do. */
export function startBackground(
  tasks: readonly BackgroundTask[],
  log: Log,
  leadership: Leadership | null = null,
): Background {
  const stopping = new AbortController();
  const drivers = tasks.map(drive);
  return { stop };

  async function drive(task: BackgroundTask): Promise<void> {
    let gained: () => void = () => {};
    using _ = leadership?.onGain((duty) => {
      if (duty === task.name) gained();
    });
    while (!stopping.signal.aborted) {
      // Armed before the look, so that a duty which comes to us meanwhile is not slept over.
      const gain = new Promise<void>((resolve) => {
        gained = resolve;
      });
      const isDone = await activate(task);
      // What was gained is activated now; what was just activated waits its period.
      await pause(task.periodMs, isDone ? null : gain);
    }
  }

  /** Whether the task was ours to activate. */
  async function activate(task: BackgroundTask): Promise<boolean> {
    try {
      const lease = leadership === null ? null : await leadership.lead(task.name);
      if (leadership !== null && (lease === null || !(await lease.confirm()))) return false;
      const status = await task.activate();
      log.debug({ task: task.name, status }, "background task done");
      if (lease?.isHeld() === false) {
        log.warn({ task: task.name }, "background task was overtaken: its duty was lost meanwhile");
      }
    } catch (error) {
      // The edge: nobody waits for this promise, and the next period tries again.
      log.error({ err: error, task: task.name }, "background task failed");
    }
    return true;
  }

  function pause(periodMs: number, gain: Promise<void> | null): Promise<void> {
    if (stopping.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(done, periodMs);
      stopping.signal.addEventListener("abort", done);
      void gain?.then(done);
      function done(): void {
        clearTimeout(timer);
        stopping.signal.removeEventListener("abort", done);
        resolve();
      }
    });
  }

  async function stop(): Promise<void> {
    stopping.abort();
    await Promise.all(drivers);
  }
}
