/**
 * The registry of workers, over tables `worker`, `worker_outage` and `join_token`. Tokens are 256
 * random bits; only their SHA-256 is stored, and a token is found by it, so no comparison of
 * secrets takes place.
 */
import { createHash } from "node:crypto";
import { sql } from "drizzle-orm";
import type { HostPlan, Joined, JoinRequest } from "../contract/hosts.ts";
import type { JoinToken, JoinTokenFacts, NewJoinToken } from "../contract/workers.ts";
import type { Database, Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { rfc3339 } from "../runtime/clock.ts";
import type { Ids, WorkerId } from "../runtime/ids.ts";
import type { Random } from "../runtime/random.ts";
import { losePlacements } from "./outages.ts";
import { FLEET_CHANNEL, type Registry } from "./workers.ts";

export interface RegistryOptions {
  /** A worker that has been silent for longer is gone. */
  leaseMs: number;
  /** Which agents a pool's hosts install before they join. */
  agentsOf: (pool: string) => readonly string[];
}

export function createRegistry(
  db: Pick<Database, "sql">,
  { ids, random }: { ids: Ids; random: Random },
  { leaseMs, agentsOf }: RegistryOptions,
): Registry {
  const lease = sql`${`${leaseMs} ms`}::interval`;
  return {
    ...{ issueJoinToken, listJoinTokens, revokeJoinToken },
    ...{ plan, join, authenticate, heartbeat, remove },
  };

  async function issueJoinToken({ pool, uses, ttl_ms }: NewJoinToken): Promise<JoinToken> {
    const id = ids.next("token");
    const token = newToken("join");
    const [made] = await rows<{ expires_at: string }>(
      db.sql,
      sql`insert into join_token (id, token_sha256, pool, uses_left, expires_at, created_at)
        values (${id}, ${sha256(token)}, ${pool}, ${uses},
          clock_timestamp() + ${`${ttl_ms} ms`}::interval, clock_timestamp())
        returning expires_at`,
    );
    const expiresAt = rfc3339(readTime(made?.expires_at ?? ""));
    return { id, token, pool, uses, expires_at: expiresAt };
  }

  async function listJoinTokens(): Promise<JoinTokenFacts[]> {
    const found = await rows<JoinTokenFacts>(
      db.sql,
      sql`select id, pool, uses_left, created_at, expires_at from join_token
        where uses_left > 0 and expires_at > clock_timestamp() order by id`,
    );
    return found.map((row) => ({
      ...row,
      created_at: rfc3339(readTime(row.created_at)),
      expires_at: rfc3339(readTime(row.expires_at)),
    }));
  }

  async function revokeJoinToken(id: string): Promise<void> {
    const revoked = await rows(
      db.sql,
      sql`update join_token set uses_left = 0 where id = ${id} and uses_left > 0
          and expires_at > clock_timestamp() returning id`,
    );
    if (revoked.length > 0) return;
    throw new Problem("not_found", `There is no join token ${id} that hosts can still join with`);
  }

  async function remove(id: WorkerId): Promise<void> {
    await db.sql.transaction(async (transaction) => {
      // A hash of nothing that was ever told: no token is found by it.
      await transaction.execute(sql`
        update worker set token_sha256 = ${sha256(newToken("worker"))},
          left_at = coalesce(left_at, clock_timestamp())
        where id = ${id}`);
      await endOutage(transaction, id);
      await losePlacements(transaction, sql`worker_id = ${id}`);
    });
  }

  async function plan(token: string): Promise<HostPlan> {
    const [found] = await rows<{ pool: string }>(
      db.sql,
      sql`select pool from worker where token_sha256 = ${sha256(token)}
        union all
        select pool from join_token where token_sha256 = ${sha256(token)}
          and uses_left > 0 and expires_at > clock_timestamp()`,
    );
    if (found === undefined) throw badJoinToken();
    return { pool: found.pool, agents: [...agentsOf(found.pool)] };
  }

  async function join(request: JoinRequest): Promise<Joined> {
    const workerToken = newToken("worker");
    const workerId = await db.sql.transaction(async (transaction) => {
      const [used] = await rows<{ pool: string }>(
        transaction,
        sql`update join_token set uses_left = uses_left - 1
          where token_sha256 = ${sha256(request.join_token)} and uses_left > 0
            and expires_at > clock_timestamp()
          returning pool`,
      );
      if (used === undefined) throw badJoinToken();
      await refuseLiving(transaction, request.name);
      return enter(transaction, request, { pool: used.pool, workerToken });
    });
    return { worker_id: workerId, worker_token: workerToken };
  }

  /** Two hosts of one name would take each other's work for lost, again and again. */
  async function refuseLiving(transaction: Sql, name: string): Promise<void> {
    const [living] = await rows<{ id: string }>(
      transaction,
      sql`select id from worker where name = ${name} and left_at is null
          and heartbeat_at > clock_timestamp() - ${lease}
        for update`,
    );
    if (living === undefined) return;
    throw new Problem(
      "conflict",
      `name: a worker "${name}" is alive; give this host another AUTOCODE_WORKER_NAME, or wait ` +
        `until that one has been silent for ${Math.ceil(leaseMs / 1000)} s`,
    );
  }

  async function enter(
    transaction: Sql,
    { name, slots, capabilities }: JoinRequest,
    { pool, workerToken }: { pool: string; workerToken: string },
  ): Promise<WorkerId> {
    const told = JSON.stringify(capabilities);
    const [entered] = await rows<{ id: WorkerId }>(
      transaction,
      sql`insert into worker (id, name, pool, token_sha256, capabilities, slots, registered_at,
          heartbeat_at)
        values (${ids.next("worker")}, ${name}, ${pool}, ${sha256(workerToken)}, ${told}::jsonb,
          ${slots}, clock_timestamp(), clock_timestamp())
        on conflict (name) do update set pool = excluded.pool,
          token_sha256 = excluded.token_sha256, capabilities = excluded.capabilities,
          slots = excluded.slots, is_draining = false, heartbeat_at = excluded.heartbeat_at,
          registered_at = case when worker.left_at is null then worker.registered_at
            else excluded.registered_at end,
          left_at = null
        returning id`,
    );
    if (entered === undefined) throw new Error("a worker was neither made nor renewed");
    await endOutage(transaction, entered.id);
    await losePlacements(transaction, sql`worker_id = ${entered.id}`);
    return entered.id;
  }

  async function authenticate(workerToken: string): Promise<WorkerId> {
    const [found] = await rows<{ id: WorkerId }>(
      db.sql,
      sql`select id from worker where token_sha256 = ${sha256(workerToken)}`,
    );
    if (found !== undefined) return found.id;
    throw new Problem("unauthenticated", "The worker token is unknown: join again");
  }

  async function heartbeat(
    id: WorkerId,
    said: Parameters<Registry["heartbeat"]>[1],
    { isFirst }: { isFirst: boolean },
  ): Promise<{ isDraining: boolean }> {
    return db.sql.transaction(async (transaction) => {
      const [before] = await rows<{
        is_draining: boolean;
        had_left: boolean;
        was_silent: boolean;
        is_same_run: boolean;
        sync_number: string;
      }>(
        transaction,
        sql`select is_draining, left_at is not null as had_left, exists (
            select 1 from worker_outage where worker_id = worker.id and ended_at is null
          ) as was_silent, run_id is not distinct from ${said.run_id} as is_same_run, sync_number
          from worker where id = ${id} for update`,
      );
      if (before === undefined) throw new Error("a worker that is gone");
      const last = Number(before.sync_number);
      const isOvertaken = isFirst
        ? before.is_same_run && said.number <= last
        : !before.is_same_run || said.number < last;
      if (isOvertaken) throw new Problem("conflict", "number: this host has said something later");
      // One that left and is back is observed from now on.
      const back = before.had_left && !said.is_leaving;
      await transaction.execute(sql`
        update worker set heartbeat_at = clock_timestamp(), slots = ${said.slots},
          capabilities = ${JSON.stringify(said.capabilities)}::jsonb,
          run_id = ${said.run_id}, sync_number = ${said.number},
          registered_at = case when ${back} then clock_timestamp() else registered_at end,
          left_at = case when ${said.is_leaving} then coalesce(left_at, clock_timestamp()) end
        where id = ${id}`);
      if (before.was_silent) await endOutage(transaction, id);
      if (before.was_silent || back) {
        await transaction.execute(sql`select pg_notify(${FLEET_CHANNEL}, 'room')`);
      }
      return { isDraining: before.is_draining || said.is_leaving };
    });
  }

  function newToken(kind: "join" | "worker"): string {
    return `autocode_${kind}_${Buffer.from(random.bytes(32)).toString("base64url")}`;
  }
}

async function endOutage(transaction: Sql, id: WorkerId): Promise<void> {
  await transaction.execute(sql`
    update worker_outage set ended_at = greatest(clock_timestamp(), started_at)
    where worker_id = ${id} and ended_at is null`);
}

function badJoinToken(): Problem {
  return new Problem(
    "unauthenticated",
    "The join token is unknown, used up or expired: make one with `autocode worker token`",
  );
}

function sha256(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
