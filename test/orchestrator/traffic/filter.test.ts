/** Goal: a filter means one thing, and a list shows of a flow what it may: its meta. */
import assert from "node:assert/strict";
import test from "node:test";
import { Value } from "typebox/value";
import { FlowRecord, FlowSummary } from "../../../orchestrator/contract/flows.ts";
import { createIds, type ProjectId } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { matchesQuery, summaryOf, withoutContents } from "../../../orchestrator/traffic/filter.ts";
import { watchStored } from "../../../orchestrator/traffic/stored.ts";
import type { FlowQuery } from "../../../orchestrator/traffic/traffic.ts";
import { flowRecord, refusedFlow, textBody } from "../../support/flow-records.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const AT_MS = Date.UTC(2026, 10, 21, 12);
const ids = createIds({ now: () => AT_MS }, seededRandom(6));
const projectId = ids.next("project");
const flow = flowRecord(ids, AT_MS, {
  project_id: projectId,
  trial_id: ids.next("trial"),
  request: { method: "POST", byte_count: 9, body: textBody("needle in", "text/plain") },
});

test("everything that is given must hold", () => {
  const fits: FlowQuery[] = [
    {},
    { projectId },
    { trial_id: flow.trial_id ?? "" },
    { host: "API.example.org" },
    { host: "*.example.org" },
    { path: "/v1" },
    { method: "post" },
    { status: "200" },
    { status: "2xx" },
    { action: "allow", reason: "rule", door: "egress" },
    { text: "NEEDLE" },
    { text: "theme=dark" },
    { text: "sort=name" },
    { since: "2026-11-21T12:00:00Z", until: "2026-11-21T12:00:00.001Z" },
  ];
  for (const query of fits) assert.ok(matchesQuery(query, flow), JSON.stringify(query));
  const refuses: FlowQuery[] = [
    { projectId: ids.next("project") as ProjectId },
    { host: "example.org" },
    { host: "*.api.example.org" },
    { path: "/v2" },
    { method: "GET" },
    { status: "404" },
    { status: "4xx" },
    { action: "deny" },
    { reason: "canary" },
    { door: "gateway" },
    { text: "haystack" },
    { since: "2026-11-21T12:00:00.001Z" },
    { until: "2026-11-21T12:00:00Z" },
  ];
  for (const query of refuses) assert.ok(!matchesQuery(query, flow), JSON.stringify(query));
  assert.ok(!matchesQuery({ status: "4xx" }, flowRecord(ids, AT_MS, { response: null })));
});

test("bytes that are no text are not looked into", () => {
  const body = { ...textBody("bmVlZGxl", "image/png"), encoding: "base64" as const };
  assert.ok(!matchesQuery({ text: "bmVl" }, flowRecord(ids, AT_MS, { response: { body } })));
});

test("a summary and a record without contents are the contract's, and hold no content", () => {
  const dropped = { ...refusedFlow(ids, AT_MS), kind: "packet" as const, sent_count: 7 };
  for (const each of [flow, dropped, flowRecord(ids, AT_MS, { request: null, response: null })]) {
    assert.deepEqual(Value.Errors(FlowSummary, summaryOf(each)), []);
    const meta = withoutContents(each);
    assert.deepEqual(Value.Errors(FlowRecord, meta), []);
    assert.doesNotMatch(JSON.stringify([summaryOf(each), meta]), /needle|theme=dark|"items"/);
  }
  assert.equal(summaryOf(dropped).sent_bytes, 0, "packets are counted, not weighed");
  assert.equal(summaryOf(flow).sent_bytes, 9);
});

test("a watched store tells what it took, and not what it refused or lost", async () => {
  const memory = createMemoryTraffic();
  const refused = refusedFlow(ids, AT_MS);
  const { traffic, onStored } = watchStored({
    ...memory,
    append: async (flows) => {
      await memory.append(flows.filter(({ id }) => id !== refused.id));
      return new Map([[refused.id as `flow_${string}`, "too large"]]);
    },
  });
  const told: string[] = [];
  const subscription = onStored((flows) => told.push(...flows.map(({ id }) => id)));
  await traffic.append([flow, refused]);
  assert.deepEqual(told, [flow.id]);
  memory.fault = "away";
  await assert.rejects(traffic.append([flow]), /away/);
  memory.fault = null;
  subscription[Symbol.dispose]();
  await traffic.append([flow]);
  assert.deepEqual(told, [flow.id]);
});
