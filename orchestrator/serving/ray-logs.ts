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

const TAIL_LINES = 20;
const ALL = -1;

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

  async function read(
    application: string,
    { isFollowed, signal }: { isFollowed: boolean; signal: AbortSignal },
  ): Promise<AsyncIterable<Uint8Array> | null> {
    if ((await api.read()).applications[application] === undefined) return null;
    return (async function* pieces() {
      const read = new Map<string, { of: RayLog["of"]; bytes: number }>();
      for (;;) {
        const now = (await api.read()).applications[application];
        for (const of of now === undefined ? [] : replicasOf(now).flatMap(logsOf)) {
          const key = JSON.stringify(of);
          if (!read.has(key)) read.set(key, { of, bytes: 0 });
        }
        for (const known of read.values()) {
          const text = await api.log({ of: known.of, lines: ALL });
          // Shorter than before: it was rotated, and begins anew.
          if (text !== null && text.length < known.bytes) known.bytes = 0;
          if (text === null || text.length === known.bytes) continue;
          yield text.subarray(known.bytes);
          known.bytes = text.length;
        }
        const isRunning = now !== undefined && now.status !== "DEPLOY_FAILED";
        if (!isFollowed || !isRunning || signal.aborted) return;
        await pause(followEveryMs, undefined, { signal }).catch(() => {});
      }
    })();
  }
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
