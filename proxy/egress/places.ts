/**
 * What one session has under way at a proxy, and may not have more of: connections, exchanges, and
 * bytes of them in memory. Each process counts its own; so that no worker starves the others.
 */
import type { Held, Place, Places } from "./guard.ts";
import { denied } from "./refusal.ts";

export interface PlaceLimits {
  /** Connections of a worker at a time, tunnels among them. */
  connectionsMax: number;
  /** Requests of a worker that are not answered yet, WebSockets among them. */
  exchangesMax: number;
  /** Of bodies and messages, kept until they are whole or, up to half of it, for the record. */
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
  const maxHeld = { record: Math.floor(limits.heldBytesMax / 2), traffic: limits.heldBytesMax };
  const held = { record: 0, traffic: 0 };
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
    const own = { record: 0, traffic: 0 };
    let hasLeft = false;
    return { outcome: "entered", hold, give, leave };

    function hold(byteCount: number, kind: Held = "record"): number {
      if (hasLeft) return 0;
      const left = limits.heldBytesMax - held.record - held.traffic;
      const granted = Math.min(byteCount, left, maxHeld[kind] - held[kind]);
      held[kind] += granted;
      own[kind] += granted;
      return granted;
    }

    function give(byteCount: number, kind: Held = "record"): void {
      const given = Math.min(byteCount, own[kind]);
      held[kind] -= given;
      own[kind] -= given;
    }

    function leave(): void {
      if (hasLeft) return;
      hasLeft = true;
      counts[what] -= 1;
      give(own.record, "record");
      give(own.traffic, "traffic");
    }
  }
}

const WORDS = { connection: "connections", exchange: "requests under way" } as const;
