/** Nothing more is read from workers while more waits to be recorded than memory should hold. */
import type { FlowSink } from "../../../orchestrator/traffic/sink.ts";

export interface Gate {
  /** Null: it is open; else resolves once it is. */
  wait(): Promise<void> | null;
}

const LOOK_MS = 10;

export function createGate(sink: Pick<FlowSink, "isBehind">): Gate {
  let opening: Promise<void> | null = null;
  return { wait };

  function wait(): Promise<void> | null {
    if (opening !== null) return opening;
    if (!sink.isBehind()) return null;
    opening = new Promise((resolve) => {
      const timer = setInterval(() => {
        if (sink.isBehind()) return;
        clearInterval(timer);
        opening = null;
        resolve();
      }, LOOK_MS);
    });
    return opening;
  }
}

/** Ends what nothing moves in: one timer for all, and nothing but a number for each chunk. */
export interface Idle {
  /** `end` is told why. */
  watch(end: (why: string) => void): { touch(): void; stop(): void };
  /** Ends all that is watched. */
  close(why: string): void;
}

export function createIdle(timeoutMs: number, nowMs: () => number): Idle {
  const watched = new Set<{ lastMs: number; end: (why: string) => void }>();
  const timer = setInterval(look, Math.min(timeoutMs, 1_000));
  timer.unref();
  return { watch, close };

  function watch(end: (why: string) => void) {
    const one = { lastMs: nowMs(), end };
    watched.add(one);
    return {
      touch: () => {
        one.lastMs = nowMs();
      },
      stop: () => {
        watched.delete(one);
      },
    };
  }

  function look(): void {
    const since = nowMs() - timeoutMs;
    for (const one of watched) {
      if (one.lastMs >= since) continue;
      watched.delete(one);
      one.end(`nothing moved for ${timeoutMs} ms`);
    }
  }

  function close(why: string): void {
    clearInterval(timer);
    for (const { end } of [...watched]) end(why);
    watched.clear();
  }
}
