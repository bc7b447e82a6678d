/**
 * The gate before an engine of secrets: once it cannot be used, who asks is refused at once, with
 * what it last said; one asker at a time tries again. So an engine that is slow keeps nobody
 * waiting who needs no secret, and what needs one goes on as soon as it answers.
 */
import { Problem } from "../problem.ts";
import type { Clock, EpochMs } from "../runtime/clock.ts";

export interface Gate {
  /** @throws Problem `secrets_sealed` at once while the gate is shut. */
  pass<Result>(run: () => Promise<Result>): Promise<Result>;
}

export function createGate(clock: Clock, { againMs }: { againMs: number }): Gate {
  let shut: { problem: Problem; untilMs: EpochMs; isTrying: boolean } | null = null;
  return { pass };

  async function pass<Result>(run: () => Promise<Result>): Promise<Result> {
    const before = shut;
    if (before !== null) {
      const now = clock.now();
      // A clock that was set back must not keep it shut.
      const isEarly = now < before.untilMs && now >= before.untilMs - againMs;
      if (before.isTrying || isEarly) throw before.problem;
      before.isTrying = true;
    }
    try {
      const result = await run();
      shut = null;
      return result;
    } catch (error) {
      if (isEngines(error)) {
        shut = { problem: error, untilMs: clock.now() + againMs, isTrying: false };
      } else shut = null;
      throw error;
    }
  }
}

/** A fault of the engine as a whole, not of the one thing that was asked. */
function isEngines(error: unknown): error is Problem {
  return (
    error instanceof Problem &&
    error.code === "secrets_sealed" &&
    error.facts["secrets_state"] !== "denied"
  );
}
