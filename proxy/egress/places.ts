/**
 * What one session has under way at a proxy, and may not have more of: connections, exchanges, and
 * bytes of them in memory. Each process counts its own; so that no worker starves the others.
 */
import type { Place, Places } from "./guard.ts";
import { denied } from "./refusal.ts";

export interface PlaceLimits {
  /** Connections of a worker at a time, tunnels among them. */
  connectionsMax: number;
  /** Requests of a worker that are not answered yet, WebSockets among them. */
  exchangesMax: number;
  /** Of bodies and messages, kept for the record or until they are whole. */
  heldBytesMax: number;
}

/** npm, pip, cargo and git have below 100 connections; a body in the record has 1 MiB. */
export const PLACE_LIMITS: PlaceLimits = {
  connectionsMax: 256,
  exchangesMax: 256,
  heldBytesMax: 64 * 2 ** 20,
};

export function createPlaces(limits: PlaceLimits): Places {
  const counts = { connection: 0, exchange: 0 };
  const maxima = { connection: limits.connectionsMax, exchange: limits.exchangesMax };
  let heldCount = 0;
  return { enter, heldBytesMax: limits.heldBytesMax };

  function enter(what: "connection" | "exchange"): ReturnType<Places["enter"]> {
    if (counts[what] >= maxima[what]) {
      const detail = `The worker has ${maxima[what]} ${WORDS[what]} at a time, which is all it may`;
      return { outcome: "refuse", ...denied("too_many", `${detail}: end some, then try again`) };
    }
    counts[what] += 1;
    return openPlace(what);
  }

  function openPlace(what: "connection" | "exchange"): Place {
    let ownCount = 0;
    let hasLeft = false;
    return { outcome: "entered", hold, give, leave };

    function hold(byteCount: number): number {
      const granted = hasLeft ? 0 : Math.min(byteCount, limits.heldBytesMax - heldCount);
      heldCount += granted;
      ownCount += granted;
      return granted;
    }

    function give(byteCount: number): void {
      const given = Math.min(byteCount, ownCount);
      heldCount -= given;
      ownCount -= given;
    }

    function leave(): void {
      if (hasLeft) return;
      hasLeft = true;
      counts[what] -= 1;
      give(ownCount);
    }
  }
}

const WORDS = { connection: "connections", exchange: "requests under way" } as const;
