/**
 * Goal: a record is what its schema says, no more and no less, through the spool and back.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import Value from "typebox/value";
import { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { toRecord } from "../../../orchestrator/traffic/record.ts";
import { createRedactor } from "../../../orchestrator/traffic/redact.ts";
import { NO_SECRETS } from "../../../orchestrator/traffic/secret-forms.ts";
import { captureOf, flowDraft } from "../../support/flow-drafts.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const ids = createIds({ now: () => NOW_MS }, seededRandom(4));
const LIMITS = { bodyBytesMax: 10_000, messageBytesMax: 10_000 };

async function recorded(change: Parameters<typeof flowDraft>[2] = {}): Promise<FlowRecord> {
  const redaction = createRedactor(NO_SECRETS).begin([]);
  const record = await toRecord(flowDraft(ids, NOW_MS, change), "egress", redaction, LIMITS);
  return { ...record, source_id: ids.next("process"), sequence: 1 };
}

test("what the sink makes is a record by the schema, and is the same after a line of the spool", async () => {
  const drafts = [
    {},
    { request: { query: "a=1", body: captureOf("x") }, error: "broken" },
    { kind: "tunnel" as const, sentCount: 5, receivedCount: 6 },
    { server: { ...flowDraft(ids, NOW_MS).server, host: "h".repeat(900) }, durationMs: -3 },
    { request: { path: `/${"p".repeat(9_000)}`, query: "q".repeat(20_000) } },
  ];
  for (const change of drafts) {
    const record = await recorded(change);
    assert.ok(Value.Check(FlowRecord, record), JSON.stringify(Value.Errors(FlowRecord, record)));
    assert.deepEqual(JSON.parse(JSON.stringify(record)), record);
  }
});

test("a key that the schema does not know, or one too few, is no record", async () => {
  const record = await recorded();
  assert.ok(!Value.Check(FlowRecord, { ...record, more: 1 }));
  assert.ok(!Value.Check(FlowRecord, { ...record, schema_version: 2 }));
  const { decision: _, ...less } = record;
  assert.ok(!Value.Check(FlowRecord, less));
});
