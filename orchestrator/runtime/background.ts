/**
 * Drives background tasks. A task takes no input, is idempotent and bounded, and never overlaps
 * itself: its next period begins when an activation ends. What one activation fails to do, the
 * next one does.
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

/** Activates each task at once, and then after each period. */
export function startBackground(tasks: readonly BackgroundTask[], log: Log): Background {
  const stopping = new AbortController();
  const drivers = tasks.map(drive);
  return { stop };

  async function drive(task: BackgroundTask): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const status = await task.activate();
        log.debug({ task: task.name, status }, "background task done");
      } catch (error) {
        // The edge: nobody waits for this promise, and the next period tries again.
        log.error({ err: error, task: task.name }, "background task failed");
      }
      await pause(task.periodMs);
    }
  }

  function pause(periodMs: number): Promise<void> {
    if (stopping.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(done, periodMs);
      stopping.signal.addEventListener("abort", done);
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
