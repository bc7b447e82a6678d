/** Goal: a cassette is all that a trial was answered, in order, or refused by what is gone. */
import assert from "node:assert/strict";
import test from "node:test";
import { Value } from "typebox/value";
import { Cassette } from "../../../orchestrator/contract/cassettes.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { makeCassette, tellUnplayable } from "../../../orchestrator/traffic/cassette.ts";
import { type FlowChange, flowRecord, refusedFlow, textBody } from "../../support/flow-records.ts";

const AT = Date.UTC(2026, 10, 21, 12);
const ids = createIds({ now: () => AT }, seededRandom(1));
const TRIAL = { id: "trial_1", agent: "aider", task: "t", pair: "p", seed: 1, verdict: null };

function call(startedAtMs: number, change: FlowChange = {}) {
  const body = textBody('{"m":1}', "application/json");
  return flowRecord(ids, startedAtMs, {
    door: "gateway",
    engine: "gateway",
    call_id: "call_1",
    decision: { action: "allow", reason: "gateway" },
    ...change,
    request: {
      ...{ method: "POST", scheme: "http", path: "/v1/messages", query: null },
      ...{ byte_count: body.byte_count, body },
      ...change.request,
    },
  });
}

test("both doors in the order of their requests; what was refused or only passed by is left out", () => {
  const flows = [
    call(AT + 20),
    flowRecord(ids, AT + 10),
    refusedFlow(ids, AT + 5),
    flowRecord(ids, AT + 19, { call_id: "call_1", decision: { reason: "gateway" } }),
    flowRecord(ids, AT + 1, { kind: "packet", request: null, response: null }),
    call(AT + 30, { response: null }),
  ];
  const made = makeCassette(TRIAL, flows);
  assert.equal(made.outcome, "made");
  if (made.outcome !== "made") return;
  const { cassette } = made;
  assert.ok(Value.Check(Cassette, cassette));
  assert.deepEqual(
    cassette.exchanges.map(({ position, door, flow_id, response }) => [
      ...[position, door, flow_id],
      response?.status ?? null,
    ]),
    [
      [1, "egress", flows[1]?.id, 200],
      [2, "gateway", flows[0]?.id, 200],
      [3, "gateway", flows[5]?.id, null],
    ],
  );
  assert.equal(cassette.exchanges[0]?.response?.body?.content, '{"items":[{"id":1}],"n":1}');
  assert.equal(cassette.exchanges[1]?.request.body?.content, '{"m":1}');
});

for (const [what, change, why] of [
  [
    "an answer that was cut for the record",
    { response: { body: textBody("x", "text/plain", true) } },
    /its answer's body was not kept whole.*AUTOCODE_BODY_BYTES/,
  ],
  ["an answer that retention took", { response: { body: null } }, /its answer's body is gone/],
  ["headers that retention took", { response: { headers: null } }, /its headers are gone/],
  ["a request that retention took", { request: { body: null } }, /its request's body is gone/],
  ["bytes that were passed through", { kind: "tunnel" }, /its TLS was passed through/],
  ["a WebSocket", { kind: "websocket" }, /messages of a WebSocket/],
] as const) {
  test(`refused by name: ${what}`, () => {
    const gone = call(AT, change as FlowChange);
    const made = makeCassette(TRIAL, [call(AT + 1), gone]);
    assert.equal(made.outcome, "unplayable");
    if (made.outcome !== "unplayable") return;
    assert.deepEqual(
      made.flows.map(({ flowId }) => flowId),
      [gone.id],
    );
    assert.match(tellUnplayable(made.flows), why);
    assert.match(tellUnplayable(made.flows), new RegExp(gone.id));
  });
}

test("of a request at the egress door only its line is compared: its body may be gone", () => {
  const flow = flowRecord(ids, AT, { request: { method: "POST", byte_count: 9, body: null } });
  assert.equal(makeCassette(TRIAL, [flow]).outcome, "made");
});

test("an empty answer is whole", () => {
  const flow = call(AT, { response: { status: 204, byte_count: 0, body: null } });
  assert.equal(makeCassette(TRIAL, [flow]).outcome, "made");
});
