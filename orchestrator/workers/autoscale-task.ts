/**
 * Calls the autoscaling hook: a URL that is sent JSON, signed, or a command that reads it from its
 * standard input. It is told what a pool should have, and may do what it likes; a call that fails
 * is made again after the cooldown.
 */
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { sql } from "drizzle-orm";
import type { Database } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Log } from "../runtime/log.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import {
  type AutoscaleCall,
  type AutoscaleRules,
  decide,
  NOTHING_REMEMBERED,
  type PoolLoad,
  type PoolMemory,
} from "./autoscale.ts";

export interface AutoscaleOptions extends AutoscaleRules {
  /** One of the two. */
  url: string | null;
  command: string | null;
  /** What a URL's calls are signed with; null: they are not. */
  secret: string | null;
  pools: Readonly<Record<string, { warm_slots?: number }>>;
  periodMs: number;
  monotonicMs?: () => number;
}

/** Where trials go that name none. */
export const DEFAULT_POOL = "default";
const CALL_MS = 10_000;

export function createAutoscaleTask(
  {
    db,
    scheduler,
    clock,
    log,
  }: {
    db: Pick<Database, "sql">;
    scheduler: Pick<Scheduler, "hosts">;
    clock: Clock;
    log: Log;
  },
  options: AutoscaleOptions,
): BackgroundTask {
  const { pools, periodMs, monotonicMs = () => performance.now() } = options;
  const memories = new Map<string, PoolMemory>();
  return { name: "autoscale", periodMs, activate };

  async function activate(): Promise<{ calls: number }> {
    let calls = 0;
    for (const load of await readLoads()) {
      const before = memories.get(load.pool) ?? NOTHING_REMEMBERED;
      const { memory, call } = decide(load, before, options, monotonicMs());
      memories.set(load.pool, memory);
      if (call === null) continue;
      calls += 1;
      try {
        await (options.url === null ? runCommand(call, options) : post(call, options, clock));
        log.info({ ...call }, "autoscaling hook called");
      } catch (error) {
        log.warn({ err: error, ...call }, "autoscaling hook failed");
      }
    }
    return { calls };
  }

  async function readLoads(): Promise<PoolLoad[]> {
    const hosts = await scheduler.hosts();
    const waiting = await rows<{ pool: string; count: number }>(
      db.sql,
      // A trial is placed once there is room: until then it is its own place in the line.
      sql`select coalesce(requirements ->> 'pool', ${DEFAULT_POOL}) as pool, count(*)::int as count
        from (
          select requirements from trial where state in ('queued', 'admitted')
            and not cancel_requested and (not_before is null or not_before <= clock_timestamp())
          union all
          select requirements from placement where state = 'pending' and worker_id is null
        ) as line group by 1`,
    );
    const pending = new Map(waiting.map(({ pool, count }) => [pool, count]));
    const names = new Set([...Object.keys(pools), ...pending.keys(), ...hosts.map((h) => h.pool)]);
    return [...names].map((pool) => {
      const own = hosts.filter((host) => host.pool === pool && host.status === "ready");
      const used = own.reduce((sum, host) => sum + host.used, 0);
      const slots = own.reduce((sum, host) => sum + host.slots, 0);
      const warm = pools[pool]?.warm_slots ?? 0;
      return { pool, pending: pending.get(pool) ?? 0, free: Math.max(0, slots - used), used, warm };
    });
  }
}

/** The header's value: the time it was signed at, and HMAC-SHA256 of `<time>.<body>`. */
export function signatureOf(body: string, secret: string, atMs: number): string {
  const at = Math.floor(atMs / 1000);
  return `t=${at},v1=${createHmac("sha256", secret).update(`${at}.${body}`).digest("hex")}`;
}

async function post(
  call: AutoscaleCall,
  { url, secret }: AutoscaleOptions,
  clock: Clock,
): Promise<void> {
  const body = JSON.stringify(call);
  const response = await fetch(url ?? "", {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(secret === null ? {} : { "autocode-signature": signatureOf(body, secret, clock.now()) }),
    },
    body,
    redirect: "error",
    signal: AbortSignal.timeout(CALL_MS),
  });
  await response.body?.cancel();
  if (response.ok) return;
  throw new Problem("unavailable", `AUTOCODE_AUTOSCALE_URL answered ${response.status}`);
}

async function runCommand(call: AutoscaleCall, { command }: AutoscaleOptions): Promise<void> {
  // No shell, and nothing of our environment but where programs are.
  const child = spawn(command ?? "", [], {
    stdio: ["pipe", "ignore", "ignore"],
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    timeout: CALL_MS,
    killSignal: "SIGKILL",
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", resolve);
  });
  // One that does not read its input has ended, and says so by its status.
  child.stdin.on("error", () => {});
  child.stdin.end(`${JSON.stringify(call)}\n`);
  const status = await ended;
  if (status === 0) return;
  throw new Problem("unavailable", `AUTOCODE_AUTOSCALE_COMMAND ended with ${status ?? "a signal"}`);
}
