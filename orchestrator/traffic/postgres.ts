/**
 * The traffic port on our own database: three tables for the three classes of fields, a partition
 * for each day, made when the first record of a day comes.
 *
 * A search for text reads what it looks through, newest first, and stops at a limit: such a page
 * may be short, or empty, and its cursor goes on from there. No extension is needed for it.
 */
import { type SQL, sql } from "drizzle-orm";
import type { FlowGroup } from "../contract/flow-choices.ts";
import type { FlowPage, FlowRecord, FlowTotals } from "../contract/flows.ts";
import { binaryArray, UnfitElement } from "../db/binary-arrays.ts";
import type { Database, Statement } from "../db/database.ts";
import { type Day, dayOf, listPartitions, makePartitions } from "../db/partitions.ts";
import { readTime, rows, serverError } from "../db/rows.ts";
import { together } from "../db/statement.ts";
import type { Clock } from "../runtime/clock.ts";
import { type FlowId, isId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { type Position, readCursor, writeCursor } from "./cursor.ts";
import { summaryOf } from "./filter.ts";
import type { FlowLine } from "./flow-line.ts";
import { beyond, conditions, type Direction, hasText, order, upTo } from "./postgres-conditions.ts";
import { createExpiry } from "./postgres-expiry.ts";
import { guarded, wordsOf } from "./postgres-faults.ts";
import {
  escapeText,
  FLOW_COLUMNS,
  type FlowRow,
  readFlow,
  readMeta,
  type StoredFlow,
  toRow,
  toRowOfLine,
} from "./postgres-rows.ts";
import type { FlowQuery, Page, Rejected, Traffic } from "./traffic.ts";

const TABLES = ["flow", "flow_headers", "flow_body"];
const DAY_MS = 86_400_000;
/** Years of four digits. */
const START_MS_MIN = Date.parse("0001-01-01T00:00:00.000Z");
const START_MS_END = Date.parse("+010000-01-01T00:00:00.000Z");
/** Of one statement. */
const ROWS_MAX = 1_000;
const LENGTH_MAX = 8 * 2 ** 20;
/** What one look for text reads, and what all looks for a page do. */
const LOOK_ROWS = 2_000;
const LOOK_BYTES = 32 * 2 ** 20;
const LOOKS_MAX = 8;
const SCAN_ROWS = 200;
const SCAN_BYTES = 8 * 2 ** 20;
const GROUPS_MAX = 10_000;
/** Of one statement that looks something up. */
const TIMEOUT_MS = 30_000;
const CHECK_VIOLATION = "23514";

export interface PostgresTrafficOptions {
  clock: Clock;
  log: Log;
}

interface Found extends Record<string, unknown> {
  id: FlowId;
  started_at: string;
  content_bytes: string;
}

const APPEND = `/* prepared: traffic.append */
with given as (
    select * from unnest(${FLOW_COLUMNS.map(([, type], at) => `$${at + 1}::${type}[]`).join(", ")})
      as given (${FLOW_COLUMNS.map(([name]) => name).join(", ")})
  ), kept as (
    insert into flow (id, started_at, source_id, sequence, project_id, trial_id, agent, door, kind,
      method, host, path, status, action, reason, sent_bytes, received_bytes, is_error, url, meta)
    select id, started_at, source_id, sequence, project_id, trial_id, agent, door, kind,
      method, host, path, status, action, reason, sent_bytes, received_bytes, is_error, url,
      meta::jsonb
    from given
    on conflict do nothing
    returning id
  ), headers as (
    insert into flow_headers (id, started_at, project_id, byte_count, request, response)
    select id, started_at, project_id, header_bytes, request_headers, response_headers
    from given join kept using (id) where header_bytes is not null
    on conflict do nothing
  )
  insert into flow_body (id, started_at, project_id, byte_count, facts, texts, binaries)
  select id, started_at, project_id, body_bytes, body_facts, body_texts, body_binaries
  from given join kept using (id) where body_bytes is not null
  on conflict do nothing`;

const WHOLE = sql`f.meta::text as meta, h.request as request_headers,
  h.response as response_headers, b.facts as body_facts, b.texts as body_texts,
  b.binaries as body_binaries`;
const CONTENT_BYTES = sql`coalesce(h.byte_count, 0) + coalesce(b.byte_count, 0)`;
const PARTS = sql`flow as f
  left join flow_headers as h on (h.started_at, h.id) = (f.started_at, f.id)
  left join flow_body as b on (b.started_at, b.id) = (f.started_at, f.id)`;

const KEYS: Readonly<Record<FlowGroup, SQL>> = {
  host: sql`f.host`,
  trial: sql`f.trial_id`,
  agent: sql`f.agent`,
  hour: sql`to_char(date_trunc('hour', f.started_at at time zone 'UTC'),
    'YYYY-MM-DD"T"HH24:00:00.000"Z"')`,
  action: sql`f.action`,
  status: sql`f.status::text`,
};

export function createPostgresTraffic(
  db: Database,
  { clock, log }: PostgresTrafficOptions,
): Traffic {
  /** Days whose partitions were there when we looked. */
  const known = new Set<Day>();
  const expiry = createExpiry(db, log);
  return {
    name: "postgres",
    append,
    appendLines,
    search,
    find,
    scan,
    totals,
    countBySource,
    expire: (whose, what, before) => guarded(() => expiry.expire(keyOf(whose), what, before)),
    boundary: (projectId, bytesMax) => guarded(() => expiry.boundary(keyOf(projectId), bytesMax)),
    describe,
    [Symbol.asyncDispose]: async () => {},
  };

  function append(flows: readonly FlowRecord[]): Promise<Rejected> {
    return appendAll(flows, toRow, (flow) => flow);
  }

  function appendLines(lines: readonly FlowLine[]): Promise<Rejected> {
    return appendAll(lines, toRowOfLine, ({ meta }) => meta);
  }

  async function appendAll<Given>(
    all: readonly Given[],
    rowOf: (given: Given) => FlowRow,
    metaOf: (given: Given) => FlowRecord,
  ): Promise<Rejected> {
    const rejected = new Map<FlowId, string>();
    let batch: FlowRow[] = [];
    let length = 0;
    for (const given of all) {
      const { id, started_at } = metaOf(given);
      const startedAtMs = Date.parse(started_at);
      if (!(startedAtMs >= START_MS_MIN && startedAtMs < START_MS_END)) {
        rejected.set(id as FlowId, `started_at: no time we can keep: ${started_at}`);
        continue;
      }
      const row = rowOf(given);
      if (batch.length === ROWS_MAX || (batch.length > 0 && length + row.length > LENGTH_MAX)) {
        await insert(batch, rejected);
        batch = [];
        length = 0;
      }
      batch.push(row);
      length += row.length;
    }
    if (batch.length > 0) await insert(batch, rejected);
    return rejected;
  }

  /** One that the server would never take, or cannot be told, is found by halves. */
  async function insert(batch: readonly FlowRow[], rejected: Map<FlowId, string>) {
    const refusal = await guarded(() => insertOnce(batch));
    if (refusal === null) return;
    const [first] = batch;
    if (batch.length === 1 && first !== undefined) {
      rejected.set(first.id, refusal);
      return;
    }
    const middle = Math.ceil(batch.length / 2);
    await insert(batch.slice(0, middle), rejected);
    await insert(batch.slice(middle), rejected);
  }

  /** Null, or why the server takes none of them as they are. */
  async function insertOnce(batch: readonly FlowRow[]): Promise<string | null> {
    const days = new Set(batch.map(({ startedAtMs }) => dayOf(startedAtMs)));
    for (let isSecond = false; ; isSecond = true) {
      await makeDays(days);
      try {
        await together(db, [appending(batch)]);
        return null;
      } catch (error) {
        if (error instanceof UnfitElement) return error.message;
        const code = serverError(error)?.code ?? "";
        // Retention dropped a day meanwhile, in this process or another.
        if (code === CHECK_VIOLATION && !isSecond && /no partition/.test(wordsOf(error))) {
          known.clear();
          continue;
        }
        // 22: data the type refuses; 23: a constraint; 54: beyond a limit of the server's.
        if (/^(22|23|54)/.test(code)) return wordsOf(error);
        throw error;
      }
    }
  }

  /** Today's and tomorrow's, too: so that a day's first record finds its own. */
  async function makeDays(wanted: ReadonlySet<Day>): Promise<void> {
    const now = clock.now();
    const missing = new Set([...wanted, dayOf(now), dayOf(now + DAY_MS)]).difference(known);
    if (missing.size === 0) return;
    const days = [...missing].sort();
    await makePartitions(db.sql, TABLES, days);
    for (const day of days) known.add(day);
  }

  async function search(query: FlowQuery, { limit, cursor }: Page): Promise<FlowPage> {
    let from = cursor === undefined ? null : readCursor(cursor);
    const where = conditions(query);
    const flows: FlowRecord[] = [];
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      const wanted = limit - flows.length;
      const { found, end } = await look(query, { where, from, wanted, direction: "newest_first" });
      flows.push(...found.map(({ meta }) => readMeta(meta)));
      from = end;
      if (end === null || flows.length === limit) break;
    }
    return {
      flows: flows.map(summaryOf),
      next_cursor: from === null ? null : writeCursor(from),
    };
  }

  async function find(id: FlowId): Promise<FlowRecord | null> {
    if (!isId("flow", id)) return null;
    const [row] = await read<StoredFlow>(sql`select ${WHOLE} from ${PARTS} where f.id = ${id}`);
    return row === undefined ? null : readFlow(row);
  }

  async function* scan(query: FlowQuery): AsyncIterable<FlowRecord> {
    const where = conditions(query);
    const direction = "oldest_first";
    for (let from: Position | null = null; ; ) {
      const looked: Looked = await look(query, { where, from, wanted: SCAN_ROWS, direction });
      for (const ids of bySize(looked.found, SCAN_BYTES)) {
        const [first, last] = [ids[0], ids.at(-1)];
        if (first === undefined || last === undefined) continue;
        const wholes = await read<StoredFlow>(
          sql`select ${WHOLE} from ${PARTS}
            where f.started_at between ${first.started_at}::timestamptz
                and ${last.started_at}::timestamptz
              and f.id = any(${sql.param(ids.map(({ id }) => id))}::text[])
            order by ${order(direction)}`,
        );
        for (const row of wholes) yield readFlow(row);
      }
      if (looked.end === null) return;
      from = looked.end;
    }
  }

  interface Look {
    where: SQL;
    from: Position | null;
    wanted: number;
    direction: Direction;
  }

  interface Looked {
    found: (Found & { meta: string })[];
    /** Where the next look begins; null when there is nothing more. */
    end: Position | null;
  }

  async function look(
    { text }: FlowQuery,
    { where, from, wanted, direction }: Look,
  ): Promise<Looked> {
    if (text === undefined) {
      // Only who reads whole records asks how large they are.
      const [source, size] =
        direction === "newest_first" ? [sql`flow as f`, sql`0`] : [PARTS, CONTENT_BYTES];
      const found = await read<Looked["found"][number]>(
        sql`select f.id, f.started_at, f.meta::text as meta, ${size} as content_bytes
          from ${source} where ${where} and ${beyond(from, direction)}
          order by ${order(direction)} limit ${wanted + 1}`,
      );
      const within = found.slice(0, wanted);
      return { found: within, end: found.length > wanted ? positionOf(within.at(-1)) : null };
    }
    const candidates = await read<Found>(
      sql`select f.id, f.started_at, ${CONTENT_BYTES} as content_bytes
        from ${PARTS} where ${where} and ${beyond(from, direction)}
        order by ${order(direction)} limit ${LOOK_ROWS}`,
    );
    const [within = []] = bySize(candidates, LOOK_BYTES);
    const last = positionOf(within.at(-1));
    if (last === null) return { found: [], end: null };
    const isAll = candidates.length < LOOK_ROWS && within.length === candidates.length;
    const found = await read<Looked["found"][number]>(
      sql`select f.id, f.started_at, f.meta::text as meta, ${CONTENT_BYTES} as content_bytes
        from ${PARTS}
        where ${where} and ${beyond(from, direction)} and ${upTo(last, direction)}
          and ${hasText(text)}
        order by ${order(direction)} limit ${wanted}`,
    );
    if (found.length === wanted) return { found, end: positionOf(found.at(-1)) };
    return { found, end: isAll ? null : last };
  }

  async function totals(query: FlowQuery, by: FlowGroup): Promise<FlowTotals> {
    const text = query.text === undefined ? sql`true` : hasText(query.text);
    const source = query.text === undefined ? sql`flow as f` : PARTS;
    const found = await read<Record<string, string | null>>(
      sql`select ${KEYS[by]} as key, count(*) as flow_count,
          count(*) filter (where f.action = 'deny') as refused_count,
          count(*) filter (where f.is_error) as error_count,
          sum(f.sent_bytes) as sent_bytes, sum(f.received_bytes) as received_bytes
        from ${source} where ${conditions(query)} and ${text}
        group by 1 order by ${by === "hour" ? sql`key` : sql`flow_count desc, key`}
        limit ${GROUPS_MAX}`,
    );
    return {
      groups: found.map(({ key = null, ...sums }) => ({
        key,
        flow_count: Number(sums["flow_count"]),
        refused_count: Number(sums["refused_count"]),
        error_count: Number(sums["error_count"]),
        sent_bytes: Number(sums["sent_bytes"]),
        received_bytes: Number(sums["received_bytes"]),
      })),
    };
  }

  async function countBySource(sourceIds: readonly string[]) {
    const found = await read<{ source_id: string; stored: string }>(
      sql`select source_id, count(*) as stored from flow
        where source_id = any(${sql.param(sourceIds.map(escapeText))}::text[]) group by source_id`,
    );
    const counts = new Map(found.map(({ source_id, stored }) => [source_id, Number(stored)]));
    return new Map(sourceIds.map((id) => [id, counts.get(id) ?? 0]));
  }

  async function describe(): Promise<string> {
    const [size] = await read<{ bytes: string }>(
      sql`select coalesce(sum(pg_total_relation_size(relid)), 0) as bytes
        from unnest(${sql.param(TABLES)}::text[]) as name, pg_partition_tree(name::regclass)`,
    );
    const days = await guarded(() => listPartitions(db.sql, "flow"));
    const [first] = days;
    const since =
      first === undefined ? "" : ` since ${new Date(first.startMs).toISOString().slice(0, 10)}`;
    const megabytes = Math.ceil(Number(size?.bytes ?? 0) / 1e6);
    return `PostgreSQL ${db.version}, ${days.length} days${since}, ${megabytes} MB`;
  }

  /** Rows of one statement, which may take only so long. */
  function read<Row extends Record<string, unknown>>(statement: SQL): Promise<Row[]> {
    return guarded(() =>
      db.sql.transaction(async (tx) => {
        await tx.execute(sql`select set_config('statement_timeout', ${String(TIMEOUT_MS)}, true)`);
        return rows<Row>(tx, statement);
      }),
    );
  }
}

/** @throws UnfitElement when a value of one of them is none of its column. */
function appending(batch: readonly FlowRow[]): Statement {
  return {
    text: APPEND,
    values: FLOW_COLUMNS.map(([name, type], column) => {
      const elements = batch.map(({ values }) => values[column] ?? null);
      return binaryArray(type, elements, name);
    }),
  };
}

function positionOf(row: Found | undefined): Position | null {
  return row === undefined ? null : { atMs: readTime(row.started_at), id: row.id };
}

/** In their order, each group of at least one and of at most so many bytes. */
function bySize<Row extends Found>(found: readonly Row[], bytesMax: number): Row[][] {
  const groups: Row[][] = [];
  let room = 0;
  for (const row of found) {
    const bytes = Number(row.content_bytes);
    const group = groups.at(-1);
    if (group === undefined || bytes > room) {
      groups.push([row]);
      room = bytesMax - bytes;
    } else {
      group.push(row);
      room -= bytes;
    }
  }
  return groups;
}

/** As `project_id` has it. */
function keyOf<Whose extends string | null>(whose: Whose): Whose {
  return (whose === null ? null : escapeText(whose)) as Whose;
}
