/**
 * The orchestrators of a database: each writes itself down, says that it lives, and knows the
 * others by that. Life and silence are measured by the database's clock.
 */
import { sql } from "drizzle-orm";
import type { Orchestrator } from "../contract/orchestrators.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { Id } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { endLeases } from "./postgres.ts";

export interface RegisterOptions {
  id: Id<"process">;
  host: string;
  version: string;
  heartbeatMs: number;
  /** Silent for longer than this, it is not counted upon: the length of a lease. */
  silentMs: number;
}

export interface Register extends AsyncDisposable {
  /** Writes us down under the address where the API listens, and keeps that alive. */
  enter(url: string): Promise<void>;
  /** Those that live, those that were silent until a day ago, and what they lead. */
  list(): Promise<Orchestrator[]>;
  /** Addresses of those that live, ours first: as it was at the last heartbeat. */
  urls(): readonly string[];
  /** No other counts on us any more. Idempotent; does not reject. */
  leave(): Promise<void>;
  /** Forgets one that is known to be over: its duties are free at once. */
  forget(id: string): Promise<void>;
}

type Row = {
  id: string;
  host: string;
  url: string;
  version: string;
  started_at: string;
  heartbeat_at: string;
  is_alive: boolean;
  duties: string[];
};

const FORGET_AFTER = "1 day";

export function createRegister(
  db: Pick<Database, "sql">,
  log: Log,
  { id, host, version, heartbeatMs, silentMs }: RegisterOptions,
): Register {
  let urls: readonly string[] = [];
  let beating: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | null = null;
  return { enter, list, urls: () => urls, leave, forget, [Symbol.asyncDispose]: leave };

  async function enter(url: string): Promise<void> {
    urls = [url];
    await beat(url);
    timer = setInterval(() => {
      beating = beating.then(() =>
        beat(url).catch((error: unknown) => log.warn({ err: error }, "heartbeat not written")),
      );
    }, heartbeatMs);
  }

  async function beat(url: string): Promise<void> {
    await db.sql.execute(sql`
      with forgotten as (
        delete from orchestrator
        where heartbeat_at < clock_timestamp() - ${FORGET_AFTER}::interval
      )
      insert into orchestrator (id, host, url, version, started_at, heartbeat_at)
      values (${id}, ${host}, ${url}, ${version}, clock_timestamp(), clock_timestamp())
      on conflict (id) do update set url = excluded.url, heartbeat_at = excluded.heartbeat_at`);
    const others = (await list()).filter((each) => each.is_alive && !each.is_this);
    urls = [url, ...others.map((each) => each.url)];
  }

  async function list(): Promise<Orchestrator[]> {
    const found = await rows<Row>(
      db.sql,
      sql`select orchestrator.*,
          heartbeat_at > clock_timestamp() - ${`${silentMs} ms`}::interval as is_alive,
          array(
            select name from duty where holder = id and lease_until > clock_timestamp()
            order by name
          ) as duties
        from orchestrator order by started_at, id`,
    );
    return found.map((row) => ({
      ...row,
      started_at: rfc3339(readTime(row.started_at)),
      heartbeat_at: rfc3339(readTime(row.heartbeat_at)),
      is_this: row.id === id,
    }));
  }

  async function forget(gone: string): Promise<void> {
    await endLeases(db.sql, gone);
    await db.sql.execute(sql`delete from orchestrator where id = ${gone}`);
  }

  async function leave(): Promise<void> {
    if (timer === null) return;
    clearInterval(timer);
    await beating;
    await forget(id).catch((error: unknown) => log.warn({ err: error }, "still registered"));
  }
}
