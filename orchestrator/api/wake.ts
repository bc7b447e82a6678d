/** A bell that a loop waits on: rung from outside, or after a time, whichever comes first. */

export interface Wake {
  ring(): void;
  /** Resolves once rung since the last wait, after `timeoutMs`, or on abort. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void>;
}

export function createWake(): Wake {
  let isRung = false;
  let answer: (() => void) | null = null;
  return { ring, wait };

  function ring(): void {
    isRung = true;
    answer?.();
  }

  function wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (isRung || signal.aborted) {
      isRung = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const timer = setTimeout(settle, timeoutMs);
      signal.addEventListener("abort", settle, { once: true });
      answer = settle;

      function settle(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", settle);
        answer = null;
        isRung = false;
        resolve();
      }
    });
  }
}
