/**
 * Goal: Filebeat with our configuration brings the meta of every record that we spooled to an
 * Elasticsearch, each once and as our own shipper would have written it, whoever dies or is away in
 * between; and it leaves nothing on our disk.
 *
 * Method: `npm run engines filebeat elasticsearch`, `npm run test:filebeat`: Filebeat and
 * Elasticsearch themselves, our spool, our shipper into our own database.
 */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { FlowRecord } from "../../orchestrator/contract/flows.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { toDocuments } from "../../orchestrator/traffic/ecs.ts";
import { indexTemplates } from "../../orchestrator/traffic/ecs-templates.ts";
import { indexOf } from "../../orchestrator/traffic/elasticsearch-bulk.ts";
import { withoutContents } from "../../orchestrator/traffic/filter.ts";
import { createPostgresTraffic } from "../../orchestrator/traffic/postgres.ts";
import { createShipper } from "../../orchestrator/traffic/shipper.ts";
import { createTrafficSources } from "../../orchestrator/traffic/sources-postgres.ts";
import { openSpool } from "../../orchestrator/traffic/spool.ts";
import { openTestDatabase } from "../support/database.ts";
import { elasticsearchSkip } from "../support/elasticsearch.ts";
import { openElasticsearchFront } from "../support/elasticsearch-front.ts";
import { type OwnElasticsearch, openElasticsearch } from "../support/elasticsearch-server.ts";
import { eventually } from "../support/eventually.ts";
import { filebeatSkip, openFilebeat } from "../support/filebeat.ts";
import { flowRecord, refusedFlow, textBody } from "../support/flow-records.ts";

const skip = filebeatSkip || elasticsearchSkip;
const log = createLog("silent");
const ids = createIds(systemClock, systemRandom);
const NOON_MS = Date.UTC(2026, 10, 21, 12);
const DAY_MS = 86_400_000;
const WITHIN_MS = 120_000;
const INDICES = "autocode-flows-meta-*";

interface Hit {
  readonly _id: string;
  readonly _index: string;
  readonly _source: Record<string, unknown>;
}

let server: OwnElasticsearch | null = null;

before(async () => {
  if (skip === false) server = await openElasticsearch();
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
});

async function openWorld() {
  const elasticsearch = server as OwnElasticsearch;
  await using opening = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "autocode-filebeat-spool-"));
  opening.defer(() => rm(dir, { recursive: true, force: true }));
  const database = opening.use(await openTestDatabase());
  const store = opening.use(createPostgresTraffic(database, { clock: systemClock, log }));
  const sources = createTrafficSources(database, systemClock);
  opening.defer(() => forget(elasticsearch.url));
  const front = opening.use(await openElasticsearchFront(elasticsearch.url));
  const filebeat = opening.use(await openFilebeat(dir, front.url));
  const deps = { spoolDir: dir, store, sources, log, clock: systemClock, random: systemRandom };
  const shipper = createShipper(deps, { keptBytesMax: 2 ** 30 });
  const facts = { door: "egress", engine: "embedded", host: "here", startedAtMs: NOON_MS } as const;
  const wanted = new Map<string, FlowRecord>();
  const opened = opening.move();
  return {
    ...{ dir, elasticsearch, filebeat, wanted, record, kept, hits, allThere },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  /** Through a spool of its own, in segments of a few, until our own store has them. */
  async function record(records: readonly FlowRecord[]): Promise<void> {
    const id = ids.next("process");
    const source = { id, ...facts };
    const spool = await openSpool({ dir, source, bytesMax: 2 ** 30, log, segmentBytes: 6_000 });
    for (const given of records) {
      const { source_id: _, sequence: __, ...rest } = given;
      const sequence = await spool.append(JSON.stringify(rest));
      wanted.set(given.id, { ...given, source_id: id, sequence });
    }
    await spool[Symbol.asyncDispose]();
    await shipper.drain();
  }

  async function kept(): Promise<string[]> {
    return (await readdir(join(dir, "kept")).catch(() => [])).sort();
  }

  /** Of all days, in the order of their ids; none while the server is away. */
  async function hits(): Promise<Hit[]> {
    const { url } = elasticsearch;
    await fetch(`${url}/${INDICES}/_refresh`, { method: "POST" });
    const answer = await fetch(`${url}/${INDICES}/_search?size=10000&sort=event.id`);
    const { hits: found } = (await answer.json()) as { hits?: { hits: Hit[] } };
    return found?.hits ?? [];
  }

  /** Each once: no id is there that is not wanted, and none in two indices. */
  async function allThere(): Promise<Hit[]> {
    const found = await eventually(
      () => hits(),
      (each) => each.length >= wanted.size,
      WITHIN_MS,
    );
    assert.deepEqual(
      found.map(({ _id: id }) => id),
      [...wanted.keys()].sort(),
    );
    return found;
  }
}

/** Filebeat leaves out what is null in a line. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).filter(([, each]) => each !== null);
  return Object.fromEntries(members.map(([name, each]) => [name, withoutNulls(each)]));
}

/** By their names: a server may refuse to delete by a pattern. */
async function forget(url: string): Promise<void> {
  const path = `${url}/${INDICES}/_settings?filter_path=*.settings.index.uuid`;
  const found = (await (await fetch(path)).json()) as object;
  for (const name of Object.keys(found)) await fetch(`${url}/${name}`, { method: "DELETE" });
}

const some = (count: number) =>
  Array.from({ length: count }, (_, at) => flowRecord(ids, NOON_MS + at));

test("Filebeat takes the configuration, and has nothing to say against it", { skip }, async () => {
  await using world = await openWorld();
  const { filebeat } = world;
  assert.match(await filebeat.command("test", "config"), /^Config OK/m);
  assert.match(await filebeat.command("test", "output"), /talk to server\.\.\. OK/);
  await world.record(some(1));
  await filebeat.start();
  await world.allThere();
  const said = await filebeat.log();
  const against = said.filter((line) => ["error", "warn"].includes(line["log.level"]));
  assert.deepEqual(against, []);
  assert.doesNotMatch(JSON.stringify(said), /deprecat/i);
  const { url } = world.elasticsearch;
  const answer = await fetch(`${url}/_index_template/autocode-flows-meta`);
  const { index_templates: templates } = (await answer.json()) as {
    index_templates: { index_template: { template: { mappings: object } } }[];
  };
  const [ours] = indexTemplates("autocode");
  assert.deepEqual(templates[0]?.index_template.template.mappings, ours?.template.mappings);
});

test("what it ships is what our own shipper writes, each kind of record", { skip }, async () => {
  await using world = await openWorld();
  const large = textBody("x".repeat(12 * 2 ** 20), "text/plain");
  await world.record([
    flowRecord(ids, NOON_MS),
    flowRecord(ids, NOON_MS + DAY_MS, { request: { body: large, byte_count: large.byte_count } }),
    refusedFlow(ids, NOON_MS),
    flowRecord(ids, NOON_MS, {
      ...{ kind: "tunnel", request: null, response: null },
      ...{ sent_count: 12, received_count: 34, error: "it broke off" },
    }),
    flowRecord(ids, NOON_MS, {
      ...{ kind: "packet", transport: "udp", request: null, response: null, sent_count: 3 },
    }),
    flowRecord(ids, NOON_MS, { request: { path: "/größe/\u{1f600}", query: null } }),
  ]);
  const wrong = [`no record at all${".".repeat(200)}`, '{"id":"cut', '{"hello":1}', "[]", "3"];
  await writeFile(join(world.dir, "kept", "wrong.ndjson"), `${wrong.join("\n")}\n`);
  await world.filebeat.start();
  for (const hit of await world.allThere()) {
    const given = world.wanted.get(hit._id) as FlowRecord;
    const [ours] = toDocuments(withoutContents(given));
    assert.equal(hit._index, indexOf("autocode", "meta", ours?.day ?? ""));
    assert.deepEqual(
      withoutNulls(hit._source),
      withoutNulls(JSON.parse(JSON.stringify(ours?.source))),
    );
  }
  await eventually(world.kept, (names) => names.length === 0, WITHIN_MS);
});

test("each once, though Filebeat is killed, and Elasticsearch is away", { skip }, async (t) => {
  await using world = await openWorld();
  const { filebeat, elasticsearch } = world;
  await filebeat.start();
  for (let round = 0; round < 3; round++) {
    const before = world.wanted.size;
    await world.record(some(200));
    // In the middle of it, when it can be caught there.
    const found = await eventually(
      () => world.hits(),
      (each) => each.length > before,
      WITHIN_MS,
    );
    await filebeat.kill();
    t.diagnostic(`killed with ${found.length} of ${world.wanted.size} there`);
    await filebeat.start();
    await world.allThere();
  }
  await elasticsearch.kill();
  await world.record(some(100));
  await eventually(filebeat.unacknowledged, (count) => count >= 100, WITHIN_MS);
  await filebeat.kill();
  await world.record(some(100));
  await filebeat.start();
  await eventually(filebeat.unacknowledged, (count) => count >= 200, WITHIN_MS);
  t.diagnostic(`${(await world.kept()).length} segments wait while Elasticsearch is away`);
  await elasticsearch.restart();
  await world.allThere();
  // Killed once more: what it carried it does not carry again, and what it carried is gone.
  await filebeat.kill();
  await filebeat.start();
  await eventually(world.kept, (names) => names.length === 0, WITHIN_MS);
  await world.allThere();
});

test("what it has read is not lost when we remove the segment", { skip }, async () => {
  await using world = await openWorld();
  const { filebeat, elasticsearch } = world;
  await filebeat.start();
  await world.record(some(20));
  await world.allThere();
  await elasticsearch.kill();
  await world.record(some(50));
  await eventually(filebeat.unacknowledged, (count) => count >= 50, WITHIN_MS);
  for (const name of await world.kept()) await rm(join(world.dir, "kept", name), { force: true });
  await elasticsearch.restart();
  await world.allThere();
  assert.deepEqual(await world.kept(), []);
});
