/**
 * Goal: what Filebeat would ship is what our own shipper stores, under the same id in the same
 * index.
 *
 * Method: the configuration is parsed, and its script run over records as Filebeat runs it; the
 * documents are compared with those of `ecs.ts`. Filebeat itself runs in `npm run test:filebeat`.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { parse } from "yaml";
import type { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { toDocuments } from "../../../orchestrator/traffic/ecs.ts";
import { indexTemplates } from "../../../orchestrator/traffic/ecs-templates.ts";
import { withoutContents } from "../../../orchestrator/traffic/filter.ts";
import { flowRecord, refusedFlow } from "../../support/flow-records.ts";
import { ROOT } from "../../support/installation.ts";

const ids = createIds(systemClock, systemRandom);
const AT_MS = Date.UTC(2026, 10, 21, 12);
/** Of Filebeat 9. */
const PROCESSORS = ["drop_event", "script", "drop_event", "timestamp", "drop_fields"];

interface Configuration {
  "filebeat.inputs": { type: string; paths: string[]; parsers: object[] }[];
  processors: Record<string, { source?: string; fields?: string[]; field?: string }>[];
  "output.elasticsearch": { index: string };
  "setup.template": { name: string; pattern: string; json: { path: string; name: string } };
}

const FOLDER = join(ROOT, "proxy/filebeat");
const config = parse(await readFile(join(FOLDER, "filebeat.yml"), "utf8")) as Configuration;

test("it reads what our own store has alone, with processors that Filebeat has", () => {
  const [input, ...others] = config["filebeat.inputs"];
  assert.deepEqual(others, []);
  assert.equal(input?.type, "filestream");
  assert.match(String(input?.paths), /^\$\{AUTOCODE_SPOOL\}\/kept\/\*\.ndjson$/);
  assert.deepEqual(
    config.processors.map((processor) => Object.keys(processor).join()),
    PROCESSORS,
  );
});

test("it writes to the index of the flow's day, whose template is ours", async () => {
  const { index } = config["output.elasticsearch"];
  const { name, pattern, json } = config["setup.template"];
  assert.equal(index, `${name}-%{+yyyy.MM.dd}`);
  assert.equal(json.name, name);
  const [ours, ...others] = indexTemplates("autocode").filter((each) => each.name === name);
  assert.deepEqual(others, []);
  const template = JSON.parse(await readFile(join(FOLDER, json.path), "utf8"));
  assert.deepEqual({ name, ...template }, ours);
  assert.deepEqual([pattern], ours?.index_patterns);
  const stamp = config.processors.find((processor) => "timestamp" in processor)?.["timestamp"];
  assert.equal(stamp?.field, "flow.started_at");
});

for (const [what, record] of [
  ["a request", flowRecord(ids, AT_MS)],
  ["a refusal", refusedFlow(ids, AT_MS)],
  ["a tunnel that failed", tunnel()],
  ["packets that were counted", packets()],
] as const) {
  test(`the document of ${what} is our own shipper's`, () => {
    const [ours] = toDocuments(withoutContents(record));
    const { id, source } = shipped(record);
    assert.equal(id, ours?.id);
    assert.deepEqual({ ...source, "@timestamp": record.started_at }, ours?.source);
  });
}

test("what is no record is not shipped", () => {
  for (const line of [null, undefined, { hello: 1 }, { id: 7 }, { id: "flow_x", server: {} }]) {
    assert.equal(run(line), null);
  }
});

/** What the script makes of a line, without the fields that are dropped after it. */
function shipped(record: FlowRecord): { id: string; source: Record<string, unknown> } {
  const plain = run(JSON.parse(JSON.stringify(record)));
  assert.notEqual(plain, null);
  const { flow, "@metadata._id": id, "@metadata.op_type": kind, ...source } = plain ?? {};
  assert.equal(kind, "create");
  assert.notEqual(flow, undefined);
  return { id: String(id), source };
}

/** The event's fields after the script; null: it cancelled the event. */
function run(flow: unknown): Record<string, unknown> | null {
  const script = config.processors.find((processor) => "script" in processor)?.["script"]?.source;
  const fields: Record<string, unknown> = { flow };
  let isCancelled = false;
  const event = {
    Get: (name: string) => fields[name],
    Put: (name: string, value: unknown) => {
      fields[name] = value;
    },
    Cancel: () => {
      isCancelled = true;
    },
  };
  runInNewContext(`${script}\nprocess(event);`, { event });
  return isCancelled ? null : (JSON.parse(JSON.stringify(fields)) as Record<string, unknown>);
}

function tunnel(): FlowRecord {
  const record = flowRecord(ids, AT_MS);
  return {
    ...record,
    ...{ kind: "tunnel", request: null, response: null, messages: null },
    ...{ sent_count: 12, received_count: 34, error: "it broke off" },
  };
}

function packets(): FlowRecord {
  return {
    ...flowRecord(ids, AT_MS),
    ...{ kind: "packet", transport: "udp", request: null, response: null },
    ...{ messages: null, sent_count: 3, received_count: null },
  };
}
