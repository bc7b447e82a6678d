/**
 * Holds a transaction in its middle: the one that would take a trial one step on. A trigger of the
 * test's own waits there for a lock that the test has; what was held can be let go or taken back,
 * whether or not the process that began it is still alive.
 */
import { once } from "node:events";
import pg from "pg";
import { eventually } from "../support/eventually.ts";

/** A write that is a step of a trial. */
export interface Step {
  table: string;
  op: "insert" | "update";
  /** SQL over `old` and `new`. */
  when: string;
  /** The gateway writes it, which lives on: it is never taken back. */
  isGateways?: boolean;
}

export interface Holds extends AsyncDisposable {
  /** From now on these steps are held, and no others. */
  arm(armed: readonly string[]): Promise<void>;
  /** A step at which a process of the server's stands; each is of those that are armed. */
  reached(): Promise<{ step: string; pid: number }>;
  /** Lets it through, and waits until it has committed. */
  letThrough(step: string, pid: number): Promise<void>;
  /** Ends what is held, but for what is the gateway's: what it wrote is rolled back. */
  takeBack(): Promise<void>;
}

/** Of two-key advisory locks: the product takes none. */
const LOCK_CLASS = 52_199;
const WITHIN_MS = 120_000;

export async function openHolds(
  url: string,
  steps: Readonly<Record<string, Step>>,
): Promise<Holds> {
  const names = Object.keys(steps);
  const isGateways = Object.values(steps).map((step) => step.isGateways);
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  await client.query(`create table held_step (step text)`);
  await client.query(`create function hold() returns trigger language plpgsql as $$
    begin
      if exists (select from held_step where step = tg_argv[0]) then
        perform pg_advisory_xact_lock(${LOCK_CLASS}, tg_argv[1]::int);
      end if;
      return null;
    end $$`);
  for (const [at, { table, op, when }] of Object.values(steps).entries()) {
    await client.query(`create trigger held_${at} after ${op} on ${table}
      for each row when (${when}) execute function hold('${names[at]}', '${at}')`);
  }
  const locked = new Set<number>();
  return {
    arm,
    reached,
    letThrough,
    takeBack,
    [Symbol.asyncDispose]: async () => {
      const ended = once(client, "end");
      await client.end();
      await ended;
    },
  };

  async function arm(armed: readonly string[]): Promise<void> {
    for (const at of armed.map((step) => names.indexOf(step))) {
      if (locked.has(at)) continue;
      await client.query("select pg_advisory_lock($1, $2)", [LOCK_CLASS, at]);
      locked.add(at);
    }
    await client.query(
      "with cleared as (delete from held_step) insert into held_step select unnest($1::text[])",
      [armed],
    );
  }

  async function reached(): Promise<{ step: string; pid: number }> {
    const [first] = await eventually(waiting, (held) => held.length > 0, WITHIN_MS);
    return { step: names[first?.at ?? -1] ?? "", pid: first?.pid ?? 0 };
  }

  async function letThrough(step: string, pid: number): Promise<void> {
    const at = names.indexOf(step);
    const [before] = await transaction(pid);
    await client.query("select pg_advisory_unlock($1, $2)", [LOCK_CLASS, at]);
    locked.delete(at);
    await eventually(
      () => transaction(pid),
      ([now]) => now !== before,
      WITHIN_MS,
    );
  }

  async function takeBack(): Promise<void> {
    await eventually(
      async () => {
        const held = (await waiting()).filter(({ at }) => isGateways[at] !== true);
        for (const { pid } of held) await client.query("select pg_terminate_backend($1)", [pid]);
        return held.length;
      },
      (count) => count === 0,
      WITHIN_MS,
    );
  }

  async function waiting(): Promise<{ pid: number; at: number }[]> {
    const { rows } = await client.query<{ pid: number; at: number }>(
      `select pid, objid::int as at from pg_locks
        where locktype = 'advisory' and classid = $1 and objsubid = 2 and not granted
          and database = (select oid from pg_database where datname = current_database())`,
      [LOCK_CLASS],
    );
    return rows;
  }

  /** When the transaction of a server's process began; nothing while it has none. */
  async function transaction(pid: number): Promise<string[]> {
    const { rows } = await client.query<{ began: string }>(
      "select xact_start::text as began from pg_stat_activity where pid = $1",
      [pid],
    );
    return rows.map(({ began }) => began);
  }
}
