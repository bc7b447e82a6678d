/**
 * How records leave Elasticsearch: a day's index at once where nothing else is in it, documents by
 * their ids where other projects' are.
 *
 * An index is closed to writes before it is looked through for the last time: what is refused
 * meanwhile is sent again by whoever sent it, into a new one.
 */
import type { Client, estypes } from "@elastic/elasticsearch";
import { Problem } from "../problem.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { ProjectId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { indexPattern } from "./ecs-templates.ts";
import { isMissing } from "./elasticsearch-faults.ts";
import { type Clause, ownerClause, range, term } from "./elasticsearch-query.ts";
import type { FieldClass, Traffic } from "./traffic.ts";

const DAY_MS = 86_400_000;
const BATCH = 1_000;
/** Of one call; the next one goes on. */
const BATCHES_MAX = 500;
const PAGE = 5_000;

/** What a class lies in; what is dropped last is what is counted. */
const CLASSES: Readonly<Record<FieldClass, readonly FieldClass[]>> = {
  meta: ["headers", "body", "meta"],
  headers: ["headers"],
  body: ["body"],
};

/** A shard that does not answer is an error, not an answer without its documents. */
const WHOLE = { allow_partial_search_results: false } as const;

type Whose = ProjectId | null | "everyone";

export interface DayIndex {
  readonly name: string;
  readonly startMs: EpochMs;
  readonly endMs: EpochMs;
}

export function createExpiry(
  client: Client,
  prefix: string,
  log: Log,
): Pick<Traffic, "expire" | "boundary"> {
  return { expire, boundary };

  async function expire(whose: Whose, what: FieldClass, before: EpochMs): Promise<number> {
    let count = 0;
    for (const each of CLASSES[what]) {
      const pattern = indexPattern(prefix, each);
      await refresh(client, pattern);
      count = await dropDays(pattern, whose, before);
      if (whose !== "everyone") count += await deleteDocuments(pattern, whose, before);
    }
    return count;
  }

  async function dropDays(pattern: string, whose: Whose, before: EpochMs): Promise<number> {
    let count = 0;
    for (const { name, endMs } of await listDays(client, pattern)) {
      if (endMs > before) break;
      if (await hasOthers(name, whose)) continue;
      count += await dropDay(name, whose);
    }
    return count;
  }

  async function dropDay(name: string, whose: Whose): Promise<number> {
    let isDropped = false;
    try {
      await client.indices.addBlock({ index: name, block: "write" });
      await refresh(client, name);
      if (await hasOthers(name, whose)) return 0;
      const count = await countOf(client, name, { match_all: {} });
      await client.indices.delete({ index: name });
      isDropped = true;
      log.debug({ index: name, records: count }, "a day of traffic was dropped");
      return count;
    } catch (error) {
      // Another process did it meanwhile.
      if (!isMissing(error)) throw error;
      isDropped = true;
      return 0;
    } finally {
      if (!isDropped) await unblock(name);
    }
  }

  /** A day that is kept takes records; also where it is not known whether the block was set. */
  async function unblock(name: string): Promise<void> {
    try {
      await client.indices.putSettings({ index: name, settings: { "blocks.write": null } });
    } catch (error) {
      if (isMissing(error)) return;
      log.error({ err: error, index: name }, "a day of traffic that is kept takes no records");
    }
  }

  async function hasOthers(index: string, whose: Whose): Promise<boolean> {
    if (whose === "everyone") return false;
    const query: Clause = { bool: { must_not: [ownerClause(whose)] } };
    return (await countOf(client, index, query)) > 0;
  }

  async function deleteDocuments(
    pattern: string,
    projectId: ProjectId | null,
    before: EpochMs,
  ): Promise<number> {
    const query: Clause = { bool: { filter: [ownerClause(projectId), range({ lt: before })] } };
    let count = 0;
    for (let batches = 0; batches < BATCHES_MAX; batches++) {
      const sort: estypes.Sort = [{ "@timestamp": "asc" }];
      const found = await client.search({
        ...WHOLE,
        index: pattern,
        query,
        sort,
        size: BATCH,
        _source: false,
      });
      const hits = found.hits.hits;
      if (hits.length === 0) break;
      const answer = await client.bulk({
        operations: hits.map(({ _index, _id = "" }) => ({ delete: { _index, _id } })),
        refresh: true,
      });
      const deleted = answer.items.filter(({ delete: item }) => item?.status === 200).length;
      count += deleted;
      if (deleted === 0) break;
    }
    return count;
  }

  /** The day in which it becomes too much, by sums of days; then the document, by that day's. */
  async function boundary(projectId: ProjectId, bytesMax: number): Promise<EpochMs | null> {
    const index = [indexPattern(prefix, "headers"), indexPattern(prefix, "body")].join(",");
    await refresh(client, index);
    const owner = term("autocode.project_id", projectId);
    const found = await client.search<
      unknown,
      { days: { buckets: { key: number; bytes: { value: number } }[] } }
    >({
      ...WHOLE,
      index,
      query: owner,
      size: 0,
      aggregations: {
        days: {
          date_histogram: {
            field: "@timestamp",
            calendar_interval: "day",
            min_doc_count: 1,
            order: { _key: "desc" },
          },
          aggregations: { bytes: { sum: { field: "autocode.content_bytes" } } },
        },
      },
    });
    let left = bytesMax;
    for (const { key, bytes } of found.aggregations?.days.buckets ?? []) {
      if (bytes.value > left) return within(index, owner, key, left);
      left -= bytes.value;
    }
    return null;
  }

  async function within(
    index: string,
    owner: Clause,
    dayMs: EpochMs,
    bytesMax: number,
  ): Promise<EpochMs | null> {
    const query = { bool: { filter: [owner, range({ gte: dayMs, lt: dayMs + DAY_MS })] } };
    let left = bytesMax;
    for (let after: estypes.SortResults | undefined; ; ) {
      const found = await client.search({
        ...WHOLE,
        index,
        query,
        // A flow's headers and its body are two.
        sort: [{ "@timestamp": "desc" }, { "event.id": "desc" }, { _index: "desc" }],
        size: PAGE,
        _source: false,
        docvalue_fields: ["autocode.content_bytes"],
        ...(after === undefined ? {} : { search_after: after }),
      });
      for (const { fields, sort } of found.hits.hits) {
        left -= Number((fields?.["autocode.content_bytes"] as number[] | undefined)?.[0] ?? 0);
        if (left < 0) return Number(sort?.[0]) + 1;
        after = sort;
      }
      if (found.hits.hits.length < PAGE) return null;
    }
  }
}

/** What was written is found from now on. */
export async function refresh(client: Client, index: string): Promise<void> {
  const { _shards: shards } = await client.indices.refresh({ index });
  if (shards !== undefined && shards.failed > 0) {
    throw new Problem("unavailable", `Elasticsearch: ${shards.failed} shards of ${index} failed`);
  }
}

/** How many there are: of all shards, or an error. */
async function countOf(client: Client, index: string, query: Clause): Promise<number> {
  const found = await client.search({ ...WHOLE, index, query, size: 0, track_total_hits: true });
  const { total } = found.hits;
  return typeof total === "number" ? total : (total?.value ?? 0);
}

/** The days of a class that there are, the earliest first. */
export async function listDays(client: Client, pattern: string): Promise<DayIndex[]> {
  const found = await client.indices.getSettings({ index: pattern, name: "index.creation_date" });
  return Object.keys(found)
    .flatMap((name) => {
      const [, year, month, day] = /-(\d{4})\.(\d\d)\.(\d\d)$/.exec(name) ?? [];
      const startMs = Date.parse(`${year}-${month}-${day}T00:00:00Z`);
      return Number.isNaN(startMs) ? [] : [{ name, startMs, endMs: startMs + DAY_MS }];
    })
    .sort((a, b) => a.startMs - b.startMs);
}
