/** Goal: what is counted comes out as Prometheus' text, and nothing else of a call does. */
import assert from "node:assert/strict";
import test from "node:test";
import type { FinishedCall } from "../../../proxy/gateway/calls.ts";
import { createMetrics } from "../../../proxy/gateway/metrics.ts";
import { NO_USAGE } from "../../../proxy/gateway/usage.ts";

const CALL: Partial<FinishedCall> = {
  id: "call_1",
  wire: "openai.chat",
  side: "normal",
  resolution: "settle",
  status: 200,
  usage: { ...NO_USAGE, inputTokens: 7, outputTokens: 3 },
  costNanos: 120n,
  isEstimated: false,
  startedAtMs: 1_000,
  firstByteAtMs: 1_020,
  endedAtMs: 1_200,
};

function open() {
  const sources = { callsInFlight: 3, settlementsPending: 2, bodiesDropped: 1, recordsLost: 4 };
  return createMetrics({
    callsInFlight: () => sources.callsInFlight,
    settlementsPending: () => sources.settlementsPending,
    bodiesDropped: () => sources.bodiesDropped,
    recordsLost: () => sources.recordsLost,
  });
}

/** The samples that are not 0, without the help. */
async function samples(metrics: ReturnType<typeof open>): Promise<string[]> {
  const lines = (await metrics.text()).split("\n");
  return lines.filter((line) => line !== "" && !line.startsWith("#") && !line.endsWith(" 0"));
}

test("a call, an estimate, a refusal, and what is read when asked", async () => {
  const metrics = open();
  metrics.countCall(CALL as FinishedCall, "CAD");
  metrics.countCall({ ...CALL, isEstimated: true, usage: NO_USAGE } as FinishedCall, "CAD");
  metrics.countRefusal("unpriced_model");
  const plain = (await samples(metrics)).filter((line) => !line.includes("_seconds"));
  assert.deepEqual(plain, [
    'autocode_gateway_calls_total{wire="openai.chat",side="normal",status="200",resolution="settle"} 2',
    'autocode_gateway_refusals_total{code="unpriced_model"} 1',
    'autocode_gateway_estimated_calls_total{side="normal"} 1',
    'autocode_gateway_tokens_total{kind="input",side="normal"} 7',
    'autocode_gateway_tokens_total{kind="output",side="normal"} 3',
    'autocode_gateway_cost_nanos_total{currency="CAD"} 240',
    "autocode_gateway_calls_in_flight 3",
    "autocode_gateway_settlements_pending 2",
    "autocode_gateway_bodies_dropped 1",
    "autocode_gateway_records_lost 4",
  ]);
});

test("times, in seconds, of calls and of what we add to them", async () => {
  const metrics = open();
  metrics.countCall(CALL as FinishedCall, "CAD");
  // A clock that was set back.
  metrics.countCall({ ...CALL, endedAtMs: 0, firstByteAtMs: null } as FinishedCall, "CAD");
  metrics.addedBefore(1.5);
  metrics.addedAfter(0.05);
  const found = (await samples(metrics)).filter((line) => /_(sum|count)/.test(line));
  assert.deepEqual(found, [
    "autocode_gateway_added_before_seconds_sum 0.0015",
    "autocode_gateway_added_before_seconds_count 1",
    "autocode_gateway_added_after_seconds_sum 0.00005",
    "autocode_gateway_added_after_seconds_count 1",
    "autocode_gateway_first_byte_seconds_sum 0.02",
    "autocode_gateway_first_byte_seconds_count 1",
    "autocode_gateway_call_seconds_sum 0.2",
    "autocode_gateway_call_seconds_count 2",
  ]);
});
