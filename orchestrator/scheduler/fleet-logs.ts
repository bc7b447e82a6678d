/**
 * Workers' logs, read through the database's notifications: the orchestrator that is asked for a
 * log need not be the one that its host talks to. A wish is said again while somebody reads, and
 * forgotten when it is not.
 */
import { sql } from "drizzle-orm";
import type { HostOrders } from "../contract/hosts.ts";
import type { WorkerOutput } from "../contract/workers.ts";
import type { Database } from "../db/database.ts";
import type { AllocationId, WorkerId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import { FLEET_CHANNEL } from "../workers/workers.ts";
import type { LogOptions } from "./scheduler.ts";

interface Wish {
  request_id: string;
  worker_id: WorkerId;
  allocation_id: AllocationId;
  is_followed: boolean;
  output?: WorkerOutput;
}

interface Reading {
  workerId: WorkerId;
  take: (bytes: Buffer | null) => void;
}

const SAY_EVERY_MS = 5_000;
const FORGET_AFTER_MS = 12_000;
/** A host that is asked and says nothing for so long has nothing. */
const SILENT_MS = 30_000;
/** PostgreSQL takes payloads of less than 8,000 bytes; base64 makes four of three. */
const PIECE_BYTES = 5_000;

export function createFleetLogs(db: Pick<Database, "sql">, random: Random) {
  const wishes = new Map<string, { wish: Wish; saidMs: number }>();
  const readings = new Map<string, Reading>();
  return { read, wanted, receive, hear };

  /**
   * What the host has of it, as it comes; ends when the host says so, or `signal` aborts.
   *
   * @param isOver asked of a silent one: whether nothing will come, since its host is gone.
   */
  async function* read(
    allocationId: AllocationId,
    workerId: WorkerId,
    { isFollowed, signal, output = null, isOver }: LogOptions & { isOver(): Promise<boolean> },
  ): AsyncIterable<Uint8Array> {
    const id = Buffer.from(random.bytes(12)).toString("hex");
    const wish: Wish = {
      ...{ request_id: id, worker_id: workerId, allocation_id: allocationId },
      is_followed: isFollowed,
      ...(output === null ? {} : { output }),
    };
    const received: (Buffer | null)[] = [];
    let wake: () => void = () => {};
    let heardMs = performance.now();
    readings.set(id, {
      workerId,
      take: (bytes) => {
        received.push(bytes);
        heardMs = performance.now();
        wake();
      },
    });
    const saying = setInterval(() => void say(), SAY_EVERY_MS);
    signal.addEventListener("abort", () => wake());
    try {
      await say();
      for (;;) {
        while (received.length > 0) {
          const bytes = received.shift();
          if (bytes === null || bytes === undefined) return;
          yield bytes;
        }
        if (signal.aborted) return;
        const isSilent = performance.now() - heardMs > SILENT_MS;
        if (isSilent && (!isFollowed || (await isOver().catch(() => false)))) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (received.length > 0 || signal.aborted) resolve();
          else setTimeout(resolve, SAY_EVERY_MS).unref();
        });
      }
    } finally {
      clearInterval(saying);
      readings.delete(id);
    }

    async function say(): Promise<void> {
      // One that fails is said again.
      await notify(`log ${JSON.stringify(wish)}`).catch(() => {});
    }
  }

  /** The logs of this worker that somebody reads. */
  function wanted(workerId: WorkerId): HostOrders["logs"] {
    const nowMs = performance.now();
    for (const [id, { saidMs }] of wishes) {
      if (nowMs - saidMs > FORGET_AFTER_MS) wishes.delete(id);
    }
    return [...wishes.values()]
      .filter(({ wish }) => wish.worker_id === workerId)
      .map(({ wish: { worker_id: _, ...order } }) => order);
  }

  async function receive(
    workerId: WorkerId,
    requestId: string,
    bytes: Buffer,
    isLast: boolean,
  ): Promise<void> {
    for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES).toString("base64");
      await notify(`bytes ${requestId} ${workerId} ${piece}`);
    }
    if (!isLast) return;
    wishes.delete(requestId);
    await notify(`bytes ${requestId} ${workerId} -`);
  }

  /** A notification; the worker that must be told of a new wish, if any. */
  function hear(kind: string, rest: string): string | null {
    if (kind === "log") {
      const wish = JSON.parse(rest) as Wish;
      const isNew = !wishes.has(wish.request_id);
      wishes.set(wish.request_id, { wish, saidMs: performance.now() });
      return isNew ? wish.worker_id : null;
    }
    if (kind === "bytes") {
      const [requestId = "", workerId = "", piece = ""] = rest.split(" ");
      const reading = readings.get(requestId);
      if (piece === "-") wishes.delete(requestId);
      // Only from the worker that was asked.
      if (reading?.workerId === workerId) {
        reading.take(piece === "-" ? null : Buffer.from(piece, "base64"));
      }
    }
    return null;
  }

  async function notify(payload: string): Promise<void> {
    await db.sql.execute(sql`select pg_notify(${FLEET_CHANNEL}, ${payload})`);
  }
}
