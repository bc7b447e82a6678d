/**
 * Lets the operations of many processes through one at a time, in an order that the seed draws:
 * a run is then a function of its seed alone, whatever the machine does meanwhile.
 *
 * Invariant: an operation is chosen only when nobody can ask for another one before it has run,
 * so that the choice is always made from the same queue.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { Random } from "../../orchestrator/runtime/random.ts";

export interface Turnstile {
  /** Runs `operation` when its turn comes. */
  pass<Result>(operation: () => Promise<Result>): Promise<Result>;
  /** Runs it among others, after so many of them; nobody waits for it. */
  later(others: number, operation: () => Promise<unknown>): void;
  /** Runs what is still to come later. */
  idle(): Promise<void>;
}

interface Waiting {
  run: () => Promise<void>;
  isLate: boolean;
  /** How many must go before it. */
  others: number;
}

export function createTurnstile(random: Random): Turnstile {
  let waiting: Waiting[] = [];
  let running: Promise<void> | null = null;
  return { pass, later, idle };

  function pass<Result>(operation: () => Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      enter({ run: () => operation().then(resolve, reject), isLate: false, others: 0 });
    });
  }

  function later(others: number, operation: () => Promise<unknown>): void {
    enter({
      run: async () => {
        await operation().catch(() => undefined);
      },
      isLate: true,
      others,
    });
  }

  function enter(one: Waiting): void {
    waiting.push(one);
    if (!one.isLate) running ??= run((queue) => queue.some(({ isLate }) => !isLate));
  }

  /** What is late runs only while somebody is being served, who can be told from its traces. */
  async function run(goesOn: (queue: readonly Waiting[]) => boolean): Promise<void> {
    for (;;) {
      // Every promise that an operation settled has had its say after this.
      await turn();
      if (!goesOn(waiting)) break;
      const ready = waiting.filter(({ others }) => others <= 0);
      const one = ready[random.below(Math.max(1, ready.length))] ?? waiting[0];
      if (one === undefined) break;
      waiting = waiting.filter((other) => other !== one);
      for (const other of waiting) other.others -= 1;
      await one.run();
    }
    running = null;
  }

  async function idle(): Promise<void> {
    while (running !== null) await running;
    running = run((queue) => queue.length > 0);
    await running;
  }
}
