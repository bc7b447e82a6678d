/**
 * The embedded store of traffic, held to the port's suite; what is its own: partitions, locks, and
 * numbers that its columns do not hold.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createPostgresTraffic } from "../../../orchestrator/traffic/postgres.ts";
import { createShipper } from "../../../orchestrator/traffic/shipper.ts";
import { createTrafficSources } from "../../../orchestrator/traffic/sources-postgres.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";
import { openTestDatabase } from "../../support/database.ts";
import { openTestFolder } from "../../support/embedded.ts";
import { flowRecord } from "../../support/flow-records.ts";
import { type TrafficFixture, testTraffic } from "./conformance.ts";
import { CLOCK, NOW_MS } from "./conformance-world.ts";

const log = createLog("silent");

testTraffic("postgres", open);

test("a record with a number that no column holds is a dead letter, and holds up no other", async () => {
  await using folder = await openTestFolder();
  await using db = await openTestDatabase();
  await using traffic = createPostgresTraffic(db, { clock: CLOCK, log });
  const random = seededRandom(12);
  const ids = createIds(CLOCK, random);
  const statuses = [200, 99_999_999_999, 404, 200.5, 204];
  const flows = statuses.map((status, at) => {
    return flowRecord(ids, NOW_MS + at, { response: { status } });
  });
  const isKept = (_: unknown, at: number) => at % 2 === 0;
  const sources = createTrafficSources(db, CLOCK);
  const facts = { door: "egress", engine: "mitmproxy", host: "here" } as const;
  const source = { id: ids.next("process"), ...facts, startedAtMs: NOW_MS };
  const spool = await openSpool({ dir: folder.path, source, bytesMax: 2 ** 30, log });
  for (const { source_id: _, sequence: __, ...rest } of flows) {
    await spool.append(JSON.stringify(rest));
  }
  await spool[Symbol.asyncDispose]();
  const deps = { spoolDir: folder.path, store: traffic, sources, log, clock: CLOCK, random };
  const shipper = createShipper(deps);
  assert.deepEqual(await shipper.drain(), { stored: 3, rejected: 2 });
  assert.equal(shipper.fault(), null);
  const found = await Array.fromAsync(traffic.scan({}));
  assert.deepEqual(
    found.map(({ id }) => id),
    flows.filter(isKept).map(({ id }) => id),
  );
  const [told] = await sources.list();
  assert.deepEqual([told?.stored_count, told?.rejected_count, told?.missing], [3, 2, []]);
  const letters = await readFile(join(folder.path, "rejected", `${source.id}.ndjson`), "utf8");
  assert.deepEqual(
    letters
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).reason),
    ["status: 99999999999 is no integer", "status: 200.5 is no integer"],
  );
  // Whole records, which are not lines of a spool, fare the same.
  assert.deepEqual([...(await traffic.append(flows)).keys()], [flows[1]?.id, flows[3]?.id]);
});

async function open(): Promise<TrafficFixture> {
  const db = await openTestDatabase();
  return {
    traffic: createPostgresTraffic(db, { clock: CLOCK, log }),
    settle: async () => {},
    away: () => away(db.url),
    [Symbol.asyncDispose]: () => db[Symbol.asyncDispose](),
  };
}

/** A database that was there when it was opened, and is gone. */
async function away(databaseUrl: string) {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const relay = createServer((from) => {
    const to = connect(Number(target.port), target.hostname);
    for (const socket of [from, to]) {
      sockets.add(socket);
      socket.on("error", () => {});
    }
    from.pipe(to).pipe(from);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const address = relay.address();
  const url = new URL(databaseUrl);
  url.host = `127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  const db = await openPostgresDatabase({ url: url.href, log });
  relay.close();
  for (const socket of sockets) socket.destroy();
  const traffic = createPostgresTraffic(db, { clock: CLOCK, log });
  return { ...traffic, [Symbol.asyncDispose]: () => db[Symbol.asyncDispose]() };
}
