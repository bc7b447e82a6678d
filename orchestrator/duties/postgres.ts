/**
 * Duties over the table `duty`. Leases are renewed together, by one statement, which also takes
 * those that ran out; a hand-over is told to the others, who look at once.
 */
import { sql } from "drizzle-orm";
import type { Database, Sql } from "../db/database.ts";
import { rows } from "../db/rows.ts";
import { monotonicMs } from "../runtime/clock.ts";
import type { Id } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { Duties, Lease } from "./duties.ts";

export interface DutiesOptions {
  /** The process that leads. */
  holder: Id<"process">;
  leaseMs: number;
  /** How often leases are renewed and free duties looked for; a third of a lease or less. */
  renewMs: number;
}

export interface PostgresDuties extends Duties, AsyncDisposable {}

interface Held {
  fence: bigint;
  /** By the monotonic clock, from before the renewal was sent. */
  untilMs: number;
}

const CHANNEL = "autocode_duty";

/** Renews from now on, until it is disposed of. */
export async function openDuties(
  db: Database,
  log: Log,
  { holder, leaseMs, renewMs }: DutiesOptions,
): Promise<PostgresDuties> {
  const wanted = new Set<string>();
  const held = new Map<string, Held>();
  const listeners = new Set<(duty: string) => void>();
  let renewing: Promise<void> = Promise.resolve();
  let renewedMs = monotonicMs();
  let lastFault: string | null = null;
  let isOver = false;
  const look = () => void renew().catch(() => {});
  const listening = await db.listen(CHANNEL, look, look);
  const timer = setInterval(look, renewMs);
  return { lead, onGain, handOver, fault, [Symbol.asyncDispose]: dispose };

  async function lead(duty: string): Promise<Lease | null> {
    if (isOver) return null;
    if (!wanted.has(duty)) {
      wanted.add(duty);
      await renew();
    }
    const mine = held.get(duty);
    return mine === undefined || !isCurrent(mine) ? null : leaseOf(duty, mine.fence);
  }

  function leaseOf(duty: string, fence: bigint): Lease {
    const isHeld = () => {
      const mine = held.get(duty);
      return mine !== undefined && mine.fence === fence && isCurrent(mine);
    };
    return { fence, isHeld, confirm };

    async function confirm(transaction: Sql = db.sql): Promise<boolean> {
      const found = await rows(
        transaction,
        sql`select from duty where name = ${duty} and holder = ${holder} and fence = ${fence}
          and lease_until > clock_timestamp() for share`,
      );
      if (found.length === 0 && held.get(duty)?.fence === fence) held.delete(duty);
      return found.length > 0;
    }
  }

  function isCurrent({ untilMs }: Held): boolean {
    return monotonicMs() < untilMs;
  }

  /** One at a time; the error of a failed one is kept for `fault`. */
  function renew(): Promise<void> {
    renewing = renewing.catch(() => {}).then(renewNow);
    return renewing;
  }

  async function renewNow(): Promise<void> {
    if (isOver || wanted.size === 0) return;
    const sentMs = monotonicMs();
    const names = [...wanted].toSorted();
    let leading: { name: string; fence: string }[];
    try {
      leading = await rows<{ name: string; fence: string }>(
        db.sql,
        sql`insert into duty (name, holder, fence, lease_until)
          select name, ${holder}, 1, clock_timestamp() + ${`${leaseMs} ms`}::interval
          from unnest(${sql.param(names)}::text[]) as name order by name
          on conflict (name) do update set
            fence = duty.fence + case when duty.holder = excluded.holder then 0 else 1 end,
            holder = excluded.holder, lease_until = excluded.lease_until
          where duty.holder = excluded.holder or duty.lease_until <= clock_timestamp()
          returning name, fence`,
      );
    } catch (error) {
      lastFault = error instanceof Error ? error.message : String(error);
      throw error;
    }
    // Handed over while the statement was on its way: what it took is given back by `handOver`.
    if (isOver) return;
    lastFault = null;
    renewedMs = sentMs;
    const untilMs = sentMs + leaseMs;
    const fences = new Map(leading.map(({ name, fence }) => [name, BigInt(fence)]));
    for (const name of names) {
      const before = held.get(name);
      const fence = fences.get(name);
      if (fence === undefined) {
        held.delete(name);
        if (before !== undefined) log.warn({ duty: name }, "duty lost to another orchestrator");
        continue;
      }
      held.set(name, { fence, untilMs });
      if (before?.fence === fence) continue;
      log.info({ duty: name, fence: String(fence) }, "duty taken");
      for (const listener of [...listeners]) listener(name);
    }
  }

  function onGain(listener: (duty: string) => void): Disposable {
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  async function handOver(): Promise<void> {
    if (isOver) return;
    isOver = true;
    clearInterval(timer);
    await renewing.catch(() => {});
    held.clear();
    await endLeases(db.sql, holder);
  }

  function fault(): string | null {
    const silentMs = monotonicMs() - renewedMs;
    if (wanted.size === 0 || silentMs <= leaseMs) return null;
    const seconds = Math.round(silentMs / 1_000);
    return `leases were last renewed ${seconds} s ago: ${lastFault ?? "no answer"}`;
  }

  async function dispose(): Promise<void> {
    await listening[Symbol.asyncDispose]();
    // They run out by themselves where the database does not answer.
    await handOver().catch((error: unknown) => log.warn({ err: error }, "duties not handed over"));
  }
}

/** Ends the leases of a process that is over, and tells the others. */
export async function endLeases(db: Sql, holder: string): Promise<void> {
  await db.execute(sql`
    with ended as (
      update duty set lease_until = clock_timestamp()
      where holder = ${holder} and lease_until > clock_timestamp() returning name
    )
    select pg_notify(${CHANNEL}, '') from (select from ended limit 1) as any_ended`);
}
