/** Goal: what may have cost something has its transfer, or is told; what is free is left alone. */
import assert from "node:assert/strict";
import test from "node:test";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { callIdOf, matchFlow } from "../../../orchestrator/traffic/match.ts";
import { type FlowChange, flowRecord } from "../../support/flow-records.ts";

const AT = Date.UTC(2026, 10, 21, 12);
const ids = createIds({ now: () => AT }, seededRandom(1));
const CALL = "call_01m800p1qhetn8r52gxtfk7ezm";
const TRANSFER = "transfer_01m800p1qhetn8r52gxtfk7ezm";
const LEDGER = { transferOf: new Map([[CALL, TRANSFER]]), transfers: new Set([TRANSFER]) };
const NOTHING = { transferOf: new Map<string, string>(), transfers: new Set<string>() };
const COST = { amount_nanos: "12", currency: "CAD" };
const PROVIDERS = ["http://10.0.0.7:8000/v1"];

function flow(change: FlowChange) {
  return flowRecord(ids, AT, change);
}

function to(host: string, change: FlowChange = {}, port = 443) {
  const server = { ...flowRecord(ids, AT).server, host, server_name: host, port };
  const request = { method: "POST", path: "/v1/chat/completions", query: null, ...change.request };
  return flow({ ...change, server, request: change.request === null ? null : request });
}

test("a call at the gateway's door is matched by the transfer it names, or by its call", () => {
  const gateway = { door: "gateway", decision: { reason: "gateway" }, call_id: CALL } as const;
  const matched = { outcome: "matched", callId: CALL, transferId: TRANSFER };
  assert.deepEqual(matchFlow(flow({ ...gateway, transfer_id: TRANSFER }), LEDGER, []), matched);
  assert.deepEqual(matchFlow(flow({ ...gateway, cost: COST }), LEDGER, []), matched);
  assert.equal(matchFlow(flow({ ...gateway, call_id: null }), LEDGER, []).outcome, "free");
  const lost = matchFlow(flow({ ...gateway, transfer_id: TRANSFER }), NOTHING, []);
  assert.deepEqual(lost, {
    outcome: "unmatched",
    detail: `its transfer ${TRANSFER} is not in the ledger`,
    mayFollow: true,
  });
  assert.equal(matchFlow(flow({ ...gateway, cost: COST }), NOTHING, []).outcome, "unmatched");
});

test("a call that passed through the proxy is matched by the id in the gateway's answer", () => {
  const through = {
    decision: { reason: "gateway" },
    request: { method: "POST", path: "/v1/messages" },
    response: { headers: [["X-Request-Id", CALL]] },
  } as const satisfies FlowChange as FlowChange;
  assert.equal(callIdOf(flow(through)), CALL);
  assert.equal(matchFlow(flow(through), LEDGER, []).outcome, "matched");
  const unmatched = matchFlow(flow(through), NOTHING, []);
  assert.deepEqual(unmatched, {
    outcome: "unmatched",
    detail: `its call ${CALL} has no entry in the ledger`,
    mayFollow: true,
  });
  const refused = { ...through, response: { ...through.response, status: 403 } };
  assert.equal(matchFlow(flow(refused), NOTHING, []).outcome, "free");
  const anonymous = matchFlow(flow({ ...through, response: { headers: [] } }), LEDGER, []);
  assert.match(anonymous.outcome === "unmatched" ? anonymous.detail : "", /names no call/);
  const list = { ...through, request: { method: "GET", path: "/v1/models" } };
  assert.equal(matchFlow(flow(list), NOTHING, []).outcome, "free");
});

for (const [host, path, port] of [
  ["api.openai.com", "/v1/responses"],
  ["API.Anthropic.com.", "/v1/messages"],
  ["generativelanguage.googleapis.com", "/v1beta/models/gemini-3:streamGenerateContent"],
  ["mine.openai.azure.com", "/openai/deployments/x/chat/completions"],
  ["bedrock-runtime.us-east-1.amazonaws.com", "/model/x/converse-stream"],
  ["openrouter.ai", "/api/v1/chat/completions"],
  ["10.0.0.7", "/v1/completions", 8000],
] as const) {
  test(`a call around the gateway is told at once: ${host}${path}`, () => {
    const match = matchFlow(to(host, { request: { path } }, port), NOTHING, PROVIDERS);
    assert.equal(match.outcome, "unmatched");
    assert.equal(match.outcome === "unmatched" && match.mayFollow, false);
    assert.match(match.outcome === "unmatched" ? match.detail : "", /around the gateway/);
  });
}

test("what was put in is named; a tunnel that nobody read may have been a call", () => {
  const used = matchFlow(to("api.openai.com", { credentials: ["provider/x"] }), NOTHING, []);
  assert.match(used.outcome === "unmatched" ? used.detail : "", /with provider\/x/);
  const tunnel = { kind: "tunnel", request: null, response: null } as const;
  const read = matchFlow(to("api.openai.com", { ...tunnel, sent_count: 900 }), NOTHING, []);
  assert.match(read.outcome === "unmatched" ? read.detail : "", /passed through unread/);
  const empty = to("api.openai.com", { ...tunnel, sent_count: 0, received_count: 0 });
  assert.equal(matchFlow(empty, NOTHING, []).outcome, "free");
});

for (const [what, made] of Object.entries({
  "another host": to("api.example.org"),
  "a host of the same maker": to("s3.us-east-1.amazonaws.com"),
  "a list of models": to("api.openai.com", { request: { method: "GET", path: "/v1/models" } }),
  "a count": to("api.anthropic.com", { request: { path: "/v1/messages/count_tokens" } }),
  telemetry: to("api.anthropic.com", { request: { path: "/api/event_logging/batch" } }),
  "what the server refused": to("api.openai.com", { response: { status: 401 } }),
  "what we refused": to("api.openai.com", { decision: { action: "deny", reason: "no_rule" } }),
  "what a record answered": to("api.openai.com", { decision: { reason: "replayed" } }),
  "a provider's host at another port": to("10.0.0.7", {}, 9000),
})) {
  test(`free: ${what}`, () => {
    assert.equal(matchFlow(made, NOTHING, PROVIDERS).outcome, "free");
  });
}
