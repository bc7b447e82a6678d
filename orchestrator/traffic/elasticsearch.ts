/**
 * The traffic port on Elasticsearch 8 and 9: an index for each class of fields and each day of
 * flows, made by templates that we put there. A record's index and its document's id depend on the
 * record alone, so that what is sent twice is kept once; a data stream, which looks for an id in
 * its newest index only, would keep it twice (docs/adr/0017).
 *
 * What was appended is found about a second later, by the index's refresh.
 */
import { readFile } from "node:fs/promises";
import type { ClientOptions, estypes } from "@elastic/elasticsearch";
import type { FlowGroup } from "../contract/flow-choices.ts";
import type { FlowPage, FlowRecord, FlowTotals } from "../contract/flows.ts";
import { dayOf } from "../db/partitions.ts";
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FlowId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import { type Position, readCursor, writeCursor } from "./cursor.ts";
import { FIELD_CLASSES, fromDocuments, readMeta } from "./ecs.ts";
import { indexPattern, indexTemplates } from "./ecs-templates.ts";
import { createBulk, indexOf } from "./elasticsearch-bulk.ts";
import { createExpiry, listDays, refresh } from "./elasticsearch-expiry.ts";
import { guarded, isMissing, itemWords, unavailable } from "./elasticsearch-faults.ts";
import { filtersOf, textClause } from "./elasticsearch-query.ts";
import { countTotals, readTotals, totalsOf } from "./elasticsearch-totals.ts";
import { summaryOf } from "./filter.ts";
import type { FieldClass, FlowQuery, Page, Rejected, Traffic } from "./traffic.ts";

/** As config-egress.ts reads it. */
export interface ElasticsearchOptions {
  url: string;
  apiKey: string | null;
  username: string | null;
  password: string | null;
  authorityFile: string | null;
  prefix: string;
}

const REQUEST_TIMEOUT_MS = 30_000;
const SCAN_ROWS = 200;
const SCAN_BYTES = 8 * 2 ** 20;
const KEEP_ALIVE = "2m";
const SOURCES_MAX = 1_000;
/** More than this many flows with a text are not counted by reading them. */
const COUNTED_MAX = 50_000;
const WHOLE = { allow_partial_search_results: false } as const;

interface Found extends Position {
  /** Null: the text was in another class, or retention has taken it meanwhile. */
  meta: unknown;
}

/** Asks the server nothing yet: it may be away when we start. */
export async function createElasticsearchTraffic(
  config: ElasticsearchOptions,
  { clock: _, log }: { clock: Clock; log: Log },
): Promise<Traffic> {
  // Large, and only those who use it wait for it.
  const { Client } = await import("@elastic/elasticsearch");
  const client = new Client(await clientOptions(config));
  const { prefix } = config;
  const address = new URL(config.url).host;
  const bulk = createBulk(client, { prefix, address, log });
  const expiry = createExpiry(client, prefix, log);
  const metas = indexPattern(prefix, "meta");
  const everything = FIELD_CLASSES.map((what) => indexPattern(prefix, what)).join(",");
  let preparing: Promise<void> | null = null;
  return {
    name: "elasticsearch",
    append,
    search,
    find: (id) => guarded(address, () => find(id)),
    scan,
    totals,
    countBySource: (ids) => guarded(address, () => countBySource(ids)),
    expire: (whose, what, before) => guarded(address, () => expiry.expire(whose, what, before)),
    boundary: (projectId, bytesMax) => guarded(address, () => expiry.boundary(projectId, bytesMax)),
    describe: () => guarded(address, describe),
    [Symbol.asyncDispose]: () => client.close(),
  };

  async function append(flows: readonly FlowRecord[]): Promise<Rejected> {
    preparing ??= guarded(address, prepare).catch((error: unknown) => {
      preparing = null;
      throw error;
    });
    await preparing;
    return guarded(address, () => bulk.append(flows));
  }

  async function prepare(): Promise<void> {
    for (const template of indexTemplates(prefix)) {
      await client.indices.putIndexTemplate(
        template as unknown as estypes.IndicesPutIndexTemplateRequest,
      );
    }
  }

  async function search(query: FlowQuery, { limit, cursor }: Page): Promise<FlowPage> {
    const from = cursor === undefined ? null : readCursor(cursor);
    const found = await guarded(address, () => look(query, { from, wanted: limit + 1 }));
    const page = found.slice(0, limit);
    const last = page.at(-1);
    return {
      flows: page.flatMap(({ meta }) => (meta === null ? [] : [summaryOf(readMeta(meta))])),
      next_cursor: found.length > limit && last !== undefined ? writeCursor(last) : null,
    };
  }

  interface Look {
    from: Position | null;
    wanted: number;
    /** Of a scan, which reads the oldest first. */
    pit?: string;
  }

  /** Flows in order, each once: a text may be in several of a flow's documents. */
  async function look(query: FlowQuery, { from, wanted, pit }: Look): Promise<Found[]> {
    const { text } = query;
    const filter = filtersOf(query);
    if (text !== undefined) filter.push(textClause(text));
    const order = pit === undefined ? "desc" : "asc";
    const found: Found[] = [];
    for (let after = from; found.length < wanted; ) {
      const size = Math.min(text === undefined ? wanted : wanted * FIELD_CLASSES.length, 5_000);
      const answer = await client.search({
        // A point in time knows its indices.
        ...(pit === undefined
          ? { ...WHOLE, index: text === undefined ? metas : everything }
          : { pit: { id: pit, keep_alive: KEEP_ALIVE } }),
        query: { bool: { filter } },
        sort: [{ "@timestamp": order }, { "event.id": order }],
        size,
        track_total_hits: false,
        _source: ["autocode.record", "autocode.content_bytes"],
        ...(after === null ? {} : { search_after: [after.atMs, after.id] }),
      });
      const { hits } = answer.hits;
      for (const { _source, sort } of hits) {
        const position = { atMs: Number(sort?.[0]), id: String(sort?.[1]) as FlowId };
        const isMeta = (_source as { autocode?: object } | undefined)?.autocode !== undefined;
        const meta =
          isMeta && "record" in (_source as { autocode: object }).autocode ? _source : null;
        const known = found.at(-1);
        if (known?.id !== position.id) found.push({ ...position, meta });
        else if (meta !== null) known.meta = meta;
      }
      const last = found.at(-1);
      if (hits.length < size || last === undefined) break;
      after = last;
    }
    const page = found.slice(0, wanted);
    await fillIn(page);
    return page;
  }

  /** The metas of flows that were found by something else. */
  async function fillIn(found: readonly Found[]): Promise<void> {
    const without = found.filter(({ meta }) => meta === null);
    const sources = await readDocuments(
      without.map((each) => ({ ...each, what: "meta" as const })),
    );
    without.forEach((each, at) => {
      each.meta = sources[at] ?? null;
    });
  }

  /** Documents by their place; null for what is not there. */
  async function readDocuments(
    places: readonly (Position & { what: FieldClass })[],
  ): Promise<unknown[]> {
    if (places.length === 0) return [];
    const { docs } = await client.mget({
      docs: places.map(({ what, atMs, id }) => ({
        _index: indexOf(prefix, what, dayOf(atMs)),
        _id: id,
      })),
    });
    return docs.map((doc) => {
      if ("error" in doc) {
        if (doc.error.type === "index_not_found_exception") return null;
        throw unavailable(address, itemWords(doc.error));
      }
      return "found" in doc && doc.found ? (doc._source ?? null) : null;
    });
  }

  async function find(id: FlowId): Promise<FlowRecord | null> {
    const byId = { ...WHOLE, index: metas, query: { ids: { values: [id] } }, size: 1 };
    let [hit] = (await client.search(byId)).hits.hits;
    if (hit === undefined) {
      // It may have come within the last second.
      await refresh(client, metas);
      [hit] = (await client.search(byId)).hits.hits;
    }
    if (hit === undefined) return null;
    const atMs = Date.parse(readMeta(hit._source).started_at);
    const [whole = null] = await readWhole([{ atMs, id, meta: hit._source }]);
    return whole;
  }

  async function readWhole(found: readonly Found[]): Promise<FlowRecord[]> {
    const there = found.filter(({ meta }) => meta !== null);
    const places = there.flatMap((each) => [
      { ...each, what: "headers" as const },
      { ...each, what: "body" as const },
    ]);
    const sources = await readDocuments(places);
    return there.map(({ meta }, at) =>
      fromDocuments(meta, sources[at * 2] ?? null, sources[at * 2 + 1] ?? null),
    );
  }

  async function* scan(query: FlowQuery): AsyncIterable<FlowRecord> {
    filtersOf(query);
    const index = query.text === undefined ? metas : everything;
    const pit = await guarded(address, () =>
      client
        .openPointInTime({ index, keep_alive: KEEP_ALIVE, allow_partial_search_results: false })
        .then(
          ({ id }) => id,
          (error: unknown) => {
            if (isMissing(error)) return null;
            throw error;
          },
        ),
    );
    if (pit === null) return;
    try {
      for (let from: Position | null = null; ; ) {
        const look1 = { from, wanted: SCAN_ROWS, pit };
        const found: Found[] = await guarded(address, () => look(query, look1));
        for (const group of bySize(found)) yield* await guarded(address, () => readWhole(group));
        from = found.at(-1) ?? null;
        if (found.length < SCAN_ROWS) return;
      }
    } finally {
      // It ends by itself after a while.
      await client.closePointInTime({ id: pit }).catch(() => {});
    }
  }

  async function totals(query: FlowQuery, by: FlowGroup): Promise<FlowTotals> {
    if (query.text !== undefined) return countTotals(await allWith(query), by);
    return guarded(address, async () => {
      const answer = await client.search({
        ...WHOLE,
        index: metas,
        query: { bool: { filter: filtersOf(query) } },
        size: 0,
        aggregations: totalsOf(by),
      });
      return readTotals(answer.aggregations, by);
    });
  }

  /** A text is in any of a flow's documents, and the flow counts once: so they are read. */
  async function allWith(query: FlowQuery): Promise<FlowRecord[]> {
    const all: FlowRecord[] = [];
    for (let from: Position | null = null; ; ) {
      const found: Found[] = await guarded(address, () =>
        look(query, { from, wanted: SOURCES_MAX }),
      );
      all.push(...found.flatMap(({ meta }) => (meta === null ? [] : [readMeta(meta)])));
      from = found.at(-1) ?? null;
      if (found.length < SOURCES_MAX) return all;
      if (all.length < COUNTED_MAX) continue;
      const detail = `text: it is in more than ${COUNTED_MAX} flows; narrow the search to count them`;
      throw new Problem("invalid_request", detail);
    }
  }

  async function countBySource(sourceIds: readonly string[]): Promise<Map<string, number>> {
    await refresh(client, metas);
    const counts = new Map(sourceIds.map((id) => [id, 0]));
    for (let at = 0; at < sourceIds.length; at += SOURCES_MAX) {
      const ids = sourceIds.slice(at, at + SOURCES_MAX);
      const answer = await client.search<
        unknown,
        { sources: { buckets: { key: string; doc_count: number }[] } }
      >({
        ...WHOLE,
        index: metas,
        query: { terms: { "autocode.source_id": ids } },
        size: 0,
        aggregations: { sources: { terms: { field: "autocode.source_id", size: SOURCES_MAX } } },
      });
      for (const { key, doc_count } of answer.aggregations?.sources.buckets ?? []) {
        counts.set(key, doc_count);
      }
    }
    return counts;
  }

  async function describe(): Promise<string> {
    const [first, ...others] = await listDays(client, metas);
    const sizes = await client.cat.indices({
      index: everything,
      format: "json",
      bytes: "b",
      h: ["index", "store.size"],
    });
    const bytes = sizes.reduce((sum, each) => sum + Number(each["store.size"] ?? 0), 0);
    const days =
      first === undefined
        ? "no records yet"
        : `${others.length + 1} days since ${new Date(first.startMs).toISOString().slice(0, 10)}`;
    return `Elasticsearch at ${address}, ${days}, ${Math.ceil(bytes / 1e6)} MB`;
  }
}

async function clientOptions(config: ElasticsearchOptions): Promise<ClientOptions> {
  const { url, apiKey, username, password, authorityFile } = config;
  const ca = authorityFile === null ? null : await readFile(authorityFile, "utf8");
  return {
    node: url,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // What is sent again, and when, we decide by item.
    maxRetries: 0,
    ...(ca === null ? {} : { tls: { ca } }),
    ...(apiKey !== null
      ? { auth: { apiKey } }
      : username !== null && password !== null
        ? { auth: { username, password } }
        : {}),
  };
}

/** In their order, each group of at least one and of at most so many bytes. */
function bySize(found: readonly Found[]): Found[][] {
  const groups: Found[][] = [];
  let room = 0;
  for (const each of found) {
    const own = (each.meta as { autocode: { content_bytes: number } } | null)?.autocode;
    const bytes = own?.content_bytes ?? 0;
    const group = groups.at(-1);
    if (group === undefined || bytes > room) {
      groups.push([each]);
      room = SCAN_BYTES - bytes;
    } else {
      group.push(each);
      room -= bytes;
    }
  }
  return groups;
}
