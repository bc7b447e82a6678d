/**
 * Which fault a request meets. A fault is bound to a place in the conversation, so the only state
 * is how often that very request was failed already: a client's retry must get past it, and
 * another trial on the same script must not use it up.
 */
import { createHash } from "node:crypto";
import type { ModelRequest } from "./dialect.ts";
import type { Fault, Script, Side } from "./script.ts";

const COUNTS_MAX = 10_000;

export interface Faults {
  /** The fault of this request, which is thereby counted as met; null when there is none. */
  next(script: Script, side: Side, turns: number, request: ModelRequest): Fault | null;
}

export function createFaults(): Faults {
  const met = new Map<string, number>();
  return { next };

  function next(script: Script, side: Side, turns: number, request: ModelRequest): Fault | null {
    for (const [index, fault] of script.faults.entries()) {
      const { after = 0, times = 1 } = fault;
      if (fault.side !== undefined && fault.side !== side) continue;
      if (times === 0) {
        if (turns >= after) return fault;
        continue;
      }
      if (turns !== after) continue;
      // The gateway may change limits between two tries, so only the history tells them apart.
      const place = JSON.stringify([script.name, index, side, request.turns]);
      const key = createHash("sha256").update(place).digest("hex");
      const count = met.get(key) ?? 0;
      if (count >= times) continue;
      forgetOldest();
      met.set(key, count + 1);
      return fault;
    }
    return null;
  }

  function forgetOldest(): void {
    if (met.size < COUNTS_MAX) return;
    const [oldest] = met.keys();
    if (oldest !== undefined) met.delete(oldest);
  }
}
