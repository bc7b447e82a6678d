/** Goal: what is accepted is durable, what waits is bounded, large drafts are made on a thread. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createFlowSink } from "../../../orchestrator/traffic/flow-sink.ts";
import { createShipper } from "../../../orchestrator/traffic/shipper.ts";
import { createTrafficSources } from "../../../orchestrator/traffic/sources-postgres.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";
import { openTestDatabase } from "../../support/database.ts";
import { captureOf, flowDraft } from "../../support/flow-drafts.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const log = createLog("silent");
const SECRET = "a-secret-that-is-known";

async function openWorld(waitingBytesMax: number) {
  const dir = await mkdtemp(join(tmpdir(), "autocode-sink-"));
  const database = await openTestDatabase();
  const clock = { now: () => NOW_MS };
  const ids = createIds(clock, seededRandom(31));
  const sources = createTrafficSources(database, clock);
  const facts = { door: "egress", engine: "embedded", host: "here", startedAtMs: NOW_MS } as const;
  const source = { id: ids.next("process"), ...facts };
  const spool = await openSpool({ dir, source, bytesMax: 2 ** 30, log });
  const values = [{ value: SECRET, kind: "forge_token" }];
  const list = { known: { values, sha256: new Set<string>() } };
  const knownSecrets = () => list.known;
  const sink = createFlowSink({ spool, sources, knownSecrets, log }, { waitingBytesMax });
  const store = createMemoryTraffic();
  const random = seededRandom(1);
  const shipper = createShipper({ spoolDir: dir, store, sources, log, clock, random });
  const draft = (byteCount: number) =>
    flowDraft(ids, NOW_MS, {
      request: { method: "POST", body: captureOf(`${SECRET} ${"word ".repeat(byteCount / 5)}`) },
    });
  const headed = (name: string, value: string) =>
    flowDraft(ids, NOW_MS, { response: { headers: [[name, value]], body: null } });
  return {
    ...{ sink, shipper, store, sources, draft, headed, list },
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await rm(dir, { recursive: true });
    },
  };
}

test("small drafts and large ones become records, redacted and numbered once each", async () => {
  await using world = await openWorld(64 * 2 ** 20);
  const { sink } = world;
  await Promise.all(
    [100, 300_000, 200, 500_000, 300].map((size) => sink.append(world.draft(size))),
  );
  await sink.beat.activate();
  assert.equal((await world.sources.list())[0]?.last_sequence, 5);
  await sink[Symbol.asyncDispose]();
  assert.deepEqual(await world.shipper.drain(), { stored: 5, rejected: 0 });
  const found = await Array.fromAsync(world.store.scan({}));
  assert.deepEqual(found.map(({ sequence }) => sequence).toSorted(), [1, 2, 3, 4, 5]);
  for (const { request, redaction_count: count } of found) {
    assert.match(request?.body?.content ?? "", /^\[redacted:forge_token\] word/);
    assert.equal(count, 1);
  }
});

test("what waits is bounded: behind first, then refused, and none of it when it was written", async () => {
  await using world = await openWorld(50_000);
  const { sink } = world;
  const results = Array.from({ length: 30 }, () => sink.append(world.draft(10_000)));
  assert.equal(sink.isBehind(), true);
  const settled = await Promise.allSettled(results);
  const refused = settled.filter(({ status }) => status === "rejected");
  assert.ok(refused.length > 0 && refused.length < 30, `${refused.length} refused`);
  for (const one of refused)
    assert.equal((one as PromiseRejectedResult).reason.code, "unavailable");
  assert.equal(sink.isBehind(), false);
  await sink.append(world.draft(10_000));
  await sink[Symbol.asyncDispose]();
  assert.deepEqual(await world.shipper.drain(), { stored: 31 - refused.length, rejected: 0 });
});

test("headers count in what waits, as bodies do", async () => {
  await using world = await openWorld(50_000);
  const { sink } = world;
  for (const [name, value] of [
    ["x-long", "v".repeat(60_000)],
    ["n".repeat(60_000), "short"],
  ] as const) {
    const appended = sink.append(world.headed(name, value));
    assert.equal(sink.isBehind(), true);
    await appended;
    assert.equal(sink.isBehind(), false);
  }
  await sink[Symbol.asyncDispose]();
});

test("what is appended as soon as the last was written is waited for at the end, too", async () => {
  await using world = await openWorld(64 * 2 ** 20);
  const { sink } = world;
  const [count, largeCount] = [40, 4];
  const appending = (async () => {
    for (let at = 0; at < count; at++) {
      await sink.append(world.draft(at % (count / largeCount) === 0 ? 100_000 : 100));
    }
  })();
  await Promise.all([appending, sink[Symbol.asyncDispose]()]);
  assert.deepEqual(await world.shipper.drain(), { stored: count, rejected: 0 });
});

test("a secret that becomes known is redacted from the next draft on, small or large", async () => {
  await using world = await openWorld(64 * 2 ** 20);
  const { sink, list } = world;
  await sink.append(world.draft(300_000));
  list.known = {
    values: [...list.known.values, { value: "word word word", kind: "secret" }],
    sha256: list.known.sha256,
  };
  await Promise.all([sink.append(world.draft(100)), sink.append(world.draft(300_000))]);
  await sink[Symbol.asyncDispose]();
  await world.shipper.drain();
  const found = await Array.fromAsync(world.store.scan({}));
  const contents = found
    .toSorted((a, b) => a.sequence - b.sequence)
    .map(({ request }) => request?.body?.content ?? "");
  assert.deepEqual(
    contents.map((content) => content.includes("[redacted:secret]")),
    [false, true, true],
  );
});
