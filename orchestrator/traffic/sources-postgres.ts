/**
 * The sources port in our database, table `traffic_source`: ranges are multiranges, so that a
 * million records in order are one pair of numbers, and what is missing is a subtraction.
 */
import { type SQL, sql } from "drizzle-orm";
import type { FlowRecord } from "../contract/flows.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { SequenceRange, SourceFacts, SourceProgress, TrafficSources } from "./sources.ts";

const LIST_MAX = 1_000;
const MISSING_MAX = 100;

type SourceRow = {
  id: string;
  door: FlowRecord["door"];
  engine: FlowRecord["engine"];
  host: string;
  started_at: string;
  closed_at: string | null;
  last_sequence: string;
  stored_count: string;
  rejected_count: string;
  spooled_bytes: string;
  missing: [string, string][];
};

export function createTrafficSources(db: Pick<Database, "sql">, clock: Clock): TrafficSources {
  return { register, heartbeat, close, markStored, markRejected, list };

  async function register(source: SourceFacts): Promise<void> {
    await upsert(source, sql`last_sequence = traffic_source.last_sequence`);
  }

  async function heartbeat(source: SourceFacts, progress: SourceProgress): Promise<void> {
    const { lastSequence, spooledBytes } = progress;
    await upsert(
      source,
      sql`last_sequence = greatest(traffic_source.last_sequence, ${lastSequence}::bigint),
        spooled_bytes = ${spooledBytes}::bigint, heard_at = excluded.heard_at`,
      { lastSequence, spooledBytes },
    );
  }

  async function close(source: SourceFacts, lastSequence: number): Promise<void> {
    await upsert(
      source,
      sql`last_sequence = greatest(traffic_source.last_sequence, ${lastSequence}::bigint),
        spooled_bytes = 0, closed_at = coalesce(traffic_source.closed_at, excluded.heard_at)`,
      { lastSequence, spooledBytes: 0 },
      true,
    );
  }

  function markStored(source: SourceFacts, ranges: readonly SequenceRange[]): Promise<void> {
    return mark(source, ranges, "stored");
  }

  function markRejected(source: SourceFacts, ranges: readonly SequenceRange[]): Promise<void> {
    return mark(source, ranges, "rejected");
  }

  async function mark(
    source: SourceFacts,
    ranges: readonly SequenceRange[],
    column: "stored" | "rejected",
  ): Promise<void> {
    if (ranges.length === 0) return;
    await register(source);
    const lastSequence = Math.max(...ranges.map(([, last]) => last));
    const given = `{${ranges.map(([first, last]) => `[${first},${last}]`).join(",")}}`;
    const name = sql.identifier(column);
    await db.sql.execute(sql`update traffic_source set
      ${name} = ${name} + ${given}::int8multirange,
      last_sequence = greatest(last_sequence, ${lastSequence}::bigint)
      where id = ${source.id}`);
  }

  async function upsert(
    { id, door, engine, host, startedAtMs }: SourceFacts,
    change: SQL,
    { lastSequence, spooledBytes }: SourceProgress = { lastSequence: 0, spooledBytes: 0 },
    isClosed = false,
  ): Promise<void> {
    const now = rfc3339(clock.now());
    await db.sql.execute(sql`
      insert into traffic_source
        (id, door, engine, host, started_at, last_sequence, spooled_bytes, heard_at, closed_at)
      values (${id}, ${door}, ${engine}, ${host.slice(0, 255)}, ${rfc3339(startedAtMs)},
        ${lastSequence}::bigint, ${spooledBytes}::bigint, ${now}, ${isClosed ? now : null})
      on conflict (id) do update set ${change}`);
  }

  async function list(): ReturnType<TrafficSources["list"]> {
    const found = await rows<SourceRow>(
      db.sql,
      sql`with source as (
          select *, case when last_sequence = 0 then '{}'::int8multirange
            else int8multirange(int8range(1, last_sequence, '[]')) - stored - rejected end as gaps
          from traffic_source
        )
        select id, door, engine, host, started_at, closed_at, last_sequence, spooled_bytes,
          (select coalesce(sum(upper(range) - lower(range)), 0) from unnest(stored) as range)
            as stored_count,
          (select coalesce(sum(upper(range) - lower(range)), 0) from unnest(rejected) as range)
            as rejected_count,
          (select coalesce(jsonb_agg(jsonb_build_array(
              lower(range)::text, (upper(range) - 1)::text) order by lower(range)), '[]')
            from (select range from unnest(gaps) as range limit ${MISSING_MAX}) as gap) as missing
        from source
        order by isempty(gaps), started_at desc, id desc limit ${LIST_MAX}`,
    );
    return found.map(toSource);
  }
}

function toSource(row: SourceRow): Awaited<ReturnType<TrafficSources["list"]>>[number] {
  return {
    id: row.id,
    door: row.door,
    engine: row.engine,
    host: row.host,
    started_at: rfc3339(readTime(row.started_at)),
    closed_at: row.closed_at === null ? null : rfc3339(readTime(row.closed_at)),
    last_sequence: Number(row.last_sequence),
    stored_count: Number(row.stored_count),
    rejected_count: Number(row.rejected_count),
    missing: row.missing.map(([first, last]) => [Number(first), Number(last)]),
    spooled_bytes: Number(row.spooled_bytes),
  };
}
