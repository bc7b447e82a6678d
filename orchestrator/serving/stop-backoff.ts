/**
 * When an engine whose end failed is looked after again. A try may hold a round for a minute (what
 * waits for a GPU's driver dies of no signal), so that each further one waits twice as long: the
 * other engines of the machine are looked after meanwhile at their pace.
 */

export interface StopBackoff {
  /** Whether it is not to be tried yet; where what is `asked` has changed, it is. */
  isHeld(id: string, asked: string): boolean;
  failed(id: string, asked: string): void;
  /** It has ended: the next one of that name is another. */
  ended(id: string): void;
}

const FIRST_MS = 30_000;
const LONGEST_MS = 300_000;

/** @param nowMs milliseconds that are never set back. */
export function createStopBackoff(nowMs: () => number): StopBackoff {
  const failures = new Map<string, { asked: string; times: number; untilMs: number }>();
  return { isHeld, failed, ended: (id) => void failures.delete(id) };

  function isHeld(id: string, asked: string): boolean {
    const last = failures.get(id);
    return last !== undefined && last.asked === asked && nowMs() < last.untilMs;
  }

  function failed(id: string, asked: string): void {
    const last = failures.get(id);
    const times = last?.asked === asked ? last.times + 1 : 1;
    const delayMs = Math.min(FIRST_MS * 2 ** (times - 1), LONGEST_MS);
    failures.set(id, { asked, times, untilMs: nowMs() + delayMs });
  }
}
