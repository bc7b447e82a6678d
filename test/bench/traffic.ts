/**
 * Bench: records a second into each store, whole records with bodies of 2 KB, in batches as the
 * shipper sends them, one process; a database server of its own with disk flushes on, and the real
 * Elasticsearch where it is installed.
 *
 *     node test/bench/traffic.ts [--json] [--records=5000]
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { FlowRecord } from "../../orchestrator/contract/flows.ts";
import { systemClock as clock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { createElasticsearchTraffic } from "../../orchestrator/traffic/elasticsearch.ts";
import { createPostgresTraffic } from "../../orchestrator/traffic/postgres.ts";
import type { Traffic } from "../../orchestrator/traffic/traffic.ts";
import { ENGINE, openElasticsearch } from "../support/elasticsearch-server.ts";
import { openTestEmbedded, openTestFolder } from "../support/embedded.ts";
import { flowRecord, textBody } from "../support/flow-records.ts";

const BATCH = 500;
const BODY = "0123456789abcdef".repeat(128);

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    records: { type: "string", default: "5000" },
  },
});
const wanted = Number(values.records);
const ids = createIds(clock, systemRandom);
const rates = new Map<string, number | null>();

{
  await using folder = await openTestFolder();
  await using database = await openTestEmbedded(folder.path, {});
  rates.set(
    "postgres",
    await measure(createPostgresTraffic(database, { clock, log: createLog("error") })),
  );
}
if (existsSync(join(ENGINE, "java-home"))) {
  await using server = await openElasticsearch();
  const nobody = { apiKey: null, username: null, password: null, authorityFile: null };
  await using traffic = await createElasticsearchTraffic(
    { ...nobody, url: server.url, prefix: "bench" },
    { clock, log: createLog("error") },
  );
  rates.set("elasticsearch", await measure(traffic));
} else {
  rates.set("elasticsearch", null);
}

if (values.json) {
  for (const [store, rate] of rates) {
    process.stdout.write(
      `${JSON.stringify({ bench: "traffic", store, records_per_second: rate })}\n`,
    );
  }
} else {
  process.stdout.write("store           records/s\n");
  for (const [store, rate] of rates) {
    process.stdout.write(
      `${store.padEnd(14)} ${(rate === null ? "absent" : String(rate)).padStart(10)}\n`,
    );
  }
}

/** After a tenth that is not counted: templates, partitions, plans. */
async function measure(traffic: Traffic): Promise<number> {
  await run(traffic, Math.max(BATCH, wanted / 10));
  const startMs = performance.now();
  const count = await run(traffic, wanted);
  return Math.round((count / (performance.now() - startMs)) * 1_000);
}

async function run(traffic: Traffic, count: number): Promise<number> {
  let done = 0;
  while (done < count) {
    const batch: FlowRecord[] = Array.from({ length: BATCH }, () =>
      flowRecord(ids, clock.now(), { response: { body: textBody(BODY, "text/plain") } }),
    );
    await traffic.append(batch);
    done += batch.length;
  }
  return done;
}
