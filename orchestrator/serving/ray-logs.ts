/**
 * The log of an engine on Ray, through its dashboard: of each replica, dead ones too, what Serve
 * wrote of it and what its process said. Ray keeps files on its nodes and says where they are only
 * while the application is there.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { RayApi, RayLog, RayReplica } from "./ray-api.ts";
import { newestEngine, replicasOf } from "./ray-status.ts";

export interface RayLogs {
  /** Null when there is no such application, or nothing of it yet. */
  read(
    application: string,
    options: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array> | null>;
  /** The last lines of its newest replica's process; none when Ray does not say. */
  tail(application: string): Promise<string[]>;
}

interface FollowedLog {
  readonly of: RayLog["of"];
  /** The last lines of what was read of it. */
  seen: Buffer;
}

const NOTHING = Buffer.alloc(0);
const TAIL_LINES = 20;
const ALL = -1;
/** Of a log that is followed: what is asked for each time, and where more came meanwhile. */
const FOLLOWED_LINES = [1_000, 20_000] as const;

export function createRayLogs(api: Pick<RayApi, "read" | "log">, followEveryMs: number): RayLogs {
  return { read, tail };

  async function tail(application: string): Promise<string[]> {
    const found = (await api.read()).applications[application];
    const actor = found === undefined ? undefined : newestEngine(found)?.actor_id;
    if (actor === undefined || actor === null) return [];
    const texts = await Promise.all(
      (["out", "err"] as const).map((suffix) =>
        api.log({ of: { actor_id: actor, suffix }, lines: TAIL_LINES }).catch(() => null),
      ),
    );
    return texts.flatMap((text) => text?.toString("utf8").trimEnd().split("\n") ?? []);
  }

  /** All of it at first; then what it has after that. */
  async function nextPiece(log: FollowedLog): Promise<Buffer> {
    const { of, seen } = log;
    for (const lines of seen.length === 0 ? [ALL] : FOLLOWED_LINES) {
      const text = await api.log({ of, lines });
      if (text === null) break;
      log.seen = endOf(text, FOLLOWED_LINES[0]);
      const piece = newIn(text, seen);
      if (piece !== null) return piece;
      // It was rotated, and begins anew; or this much came meanwhile.
      if (lines === FOLLOWED_LINES[1]) return text;
    }
    return NOTHING;
  }

  async function read(
    application: string,
    { isFollowed, signal }: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array> | null> {
    if ((await api.read()).applications[application] === undefined) return null;
    return (async function* pieces() {
      const read = new Map<string, FollowedLog>();
      for (;;) {
        const now = (await api.read()).applications[application];
        for (const of of now === undefined ? [] : replicasOf(now).flatMap(logsOf)) {
          const key = JSON.stringify(of);
          if (!read.has(key)) read.set(key, { of, seen: NOTHING });
        }
        for (const known of read.values()) {
          const piece = await nextPiece(known);
          if (piece.length > 0) yield piece;
        }
        const isRunning = now !== undefined && now.status !== "DEPLOY_FAILED";
        if (!isFollowed || !isRunning || signal.aborted) return;
        await pause(followEveryMs, undefined, { signal }).catch(() => {});
      }
    })();
  }
}

/**
 * What a log has after `seen`, by `tail`, its last lines now; null when nothing of `seen` is in it.
 * A tail begins within what was seen, or before it.
 */
function newIn(tail: Buffer, seen: Buffer): Buffer | null {
  for (let at = 0; at < seen.length; at = lineAfter(seen, at)) {
    const rest = seen.subarray(at);
    if (rest.equals(tail.subarray(0, rest.length))) return tail.subarray(rest.length);
  }
  const found = tail.indexOf(seen);
  return found === -1 ? null : tail.subarray(found + seen.length);
}

function lineAfter(text: Buffer, at: number): number {
  const end = text.indexOf("\n", at);
  return end === -1 ? text.length : end + 1;
}

/** A copy, so that the rest of a long text is let go. */
function endOf(text: Buffer, lines: number): Buffer {
  let at = text.length;
  for (let left = lines; left >= 0 && at > 0; left -= 1) at = text.lastIndexOf("\n", at - 1);
  return Buffer.from(text.subarray(at + 1));
}

function logsOf(replica: RayReplica): RayLog["of"][] {
  const { actor_id: actor = null, node_id: node = null, log_file_path: path = null } = replica;
  const file = path?.replace(/^\/+/, "");
  return [
    ...(file !== undefined && node !== null ? [{ node_id: node, filename: file }] : []),
    ...(actor === null
      ? []
      : (["out", "err"] as const).map((suffix) => ({ actor_id: actor, suffix }))),
  ];
}
