/** The fixture's flows: one of each way a flow can look, hostile ones among them. */
import type { Services } from "../../orchestrator/api/services.ts";
import type { RuleProposal } from "../../orchestrator/contract/flow-views.ts";
import type { FlowRecord, TrafficSource } from "../../orchestrator/contract/flows.ts";
import type { Ids, TrialId } from "../../orchestrator/runtime/ids.ts";
import { watchStored } from "../../orchestrator/traffic/stored.ts";
import { flowRecord, refusedFlow, textBody } from "./flow-records.ts";
import { createMemoryTraffic } from "./memory-traffic.ts";
import { MARKUP } from "./ui-fixture-data.ts";

interface Of {
  passed: TrialId;
  running: TrialId;
  hostile: TrialId;
}

const ESC = "\u001b";
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64",
);

export interface FixtureFlows {
  records: readonly FlowRecord[];
  /** The flows that were asked to be allowed. */
  proposed: string[];
  services: Pick<Services, "traffic" | "flows" | "trafficSources">;
}

/** The flows in a store in memory, and the API's services over it. */
export async function openFixtureFlows(
  ids: Ids,
  of: Of,
  { approvalId, ...at }: Parameters<typeof fixtureFlows>[2] & { approvalId: string },
): Promise<FixtureFlows> {
  const { traffic, onStored } = watchStored(createMemoryTraffic());
  const records = fixtureFlows(ids, of, at);
  await traffic.append(records);
  const proposed: string[] = [];
  return {
    records,
    proposed,
    services: {
      traffic,
      trafficSources: { list: async () => FIXTURE_SOURCES },
      flows: {
        onStored,
        propose: async (flow, { isDryRun }) => {
          if (!isDryRun) proposed.push(flow.id);
          return proposalOf(flow, isDryRun ? null : approvalId);
        },
      },
    },
  };
}

/** `calls`: of the passed trial, whose flows at the gateway they are. */
function fixtureFlows(
  ids: Ids,
  of: Of,
  { nowMs, calls }: { nowMs: number; calls: readonly { id: string; cost_nanos: string }[] },
): FlowRecord[] {
  const passed = { project_id: "project_tidy-cli", trial_id: of.passed, agent: "qwen-code" };
  const startMs = nowMs - 600_000;
  return [
    ...calls.map(({ id, cost_nanos: nanos }, index) =>
      llmFlow(ids, startMs + 9_000 + index * 21_000, { ...passed, call_id: id }, nanos),
    ),
    ...ordinary(ids, startMs, passed),
    ...refused(ids, startMs, passed),
    ...unusual(ids, startMs, passed),
    flowRecord(ids, nowMs - 30_000, {
      ...passed,
      trial_id: of.running,
      server: { ...flowRecord(ids, nowMs).server, host: "crates.example.org" },
    }),
    ...hostile(ids, nowMs - 1_190_000, { ...passed, trial_id: of.hostile }),
  ];
}

/** Two doors: all of one arrived, and of the other three records did not. */
const FIXTURE_SOURCES: Omit<TrafficSource, "kept_count">[] = [
  {
    ...{ id: "process_01kah27zs8e4rsk0ncyqjpys5f", door: "egress", engine: "embedded" },
    ...{ host: "build-1", started_at: "2026-11-21T12:00:00.000Z", closed_at: null },
    ...{ last_sequence: 120, stored_count: 120, rejected_count: 0, missing: [], spooled_bytes: 0 },
  },
  {
    ...{ id: "process_01kah27zs8e4rsk0ncyqjpys5g", door: "gateway", engine: "gateway" },
    ...{ host: "build-1", started_at: "2026-11-21T12:00:00.000Z", closed_at: null },
    ...{ last_sequence: 40, stored_count: 37, rejected_count: 0, missing: [[7, 9]] },
    spooled_bytes: 0,
  },
];

/** The rule that "allow this" would add for it. */
function proposalOf({ server, request }: FlowRecord, approvalId: string | null): RuleProposal {
  const { host } = server;
  const { method = "GET", path = "/" } = request ?? {};
  return {
    project: "tidy-cli",
    rule: { action: "allow", hosts: [host], methods: [method], paths: [path] },
    diff: [
      "--- autocode.yaml",
      "+++ autocode.yaml",
      "@@ egress @@",
      "   rules:",
      "     - action: allow",
      "       hosts: [api.example.org]",
      "+    - action: allow",
      `+      hosts: [${host}]`,
      `+      methods: [${method}]`,
      `+      paths: [${path}]`,
      "",
    ].join("\n"),
    approval_id: approvalId,
  };
}

type Owner = Pick<FlowRecord, "project_id" | "trial_id" | "agent">;

function llmFlow(
  ids: Ids,
  atMs: number,
  owner: Owner & { call_id: string },
  nanos: string,
): FlowRecord {
  const events = [
    {
      type: "message_start",
      message: { model: "qwen3-coder-next", usage: { input_tokens: 6_087 } },
    },
    {
      type: "content_block_delta",
      delta: { type: "text_delta", text: "The parser drops the zone" },
    },
    { type: "message_stop" },
  ].map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
  return flowRecord(ids, atMs, {
    ...owner,
    ...{
      door: "gateway",
      engine: "gateway",
      duration_ms: 8_240,
      transfer_id: ids.next("transfer"),
    },
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: 812 },
    server: {
      ...{ host: "gateway", port: 7700, address: null, server_name: null },
      ...{ tls_version: null, http_version: "HTTP/1.1", certificate_sha256: null },
    },
    cost: { amount_nanos: nanos, currency: "CAD" },
    redaction_count: 1,
    request: {
      ...{ method: "POST", scheme: "http", path: "/v1/messages", query: null, byte_count: 24_310 },
      headers: [
        ["content-type", "application/json"],
        ["x-api-key", "[redacted:key]"],
      ],
      body: textBody(
        JSON.stringify({
          ...{ model: "qwen3-coder-next", stream: true, max_tokens: 4_096 },
          messages: [{ role: "user", content: "Fix the date parser.\nKeep the tests green." }],
        }),
        "application/json",
      ),
    },
    response: {
      byte_count: 3_120,
      headers: [["content-type", "text/event-stream; charset=utf-8"]],
      body: textBody(events.join(""), "text/event-stream"),
    },
    decision: { reason: "gateway", rule: null, detail: "A call to the metering gateway" },
  });
}

function ordinary(ids: Ids, startMs: number, owner: Owner): FlowRecord[] {
  const usual = flowRecord(ids, startMs);
  return [
    flowRecord(ids, startMs + 4_000, {
      ...owner,
      server: {
        ...usual.server,
        host: "packages.example.org",
        server_name: "packages.example.org",
      },
      request: { path: "/left-pad", query: null },
      response: {
        byte_count: 1_204_118,
        body: textBody(
          JSON.stringify({ name: "left-pad", versions: { "1.3.0": { dist: { files: 7 } } } }),
          "application/json",
        ),
      },
      decision: { rule: "preset npm[0]", detail: "preset npm[0] allows packages.example.org" },
    }),
    flowRecord(ids, startMs + 31_000, {
      ...owner,
      credentials: ["forge/github/token"],
      redaction_count: 2,
      request: {
        ...{ method: "POST", path: "/repos/tidy/cli/issues", query: null, byte_count: 42 },
        headers: [
          ["Host", "api.example.org"],
          ["Authorization", "Bearer {{secret:forge/github/token}}"],
          ["Content-Type", "application/x-www-form-urlencoded"],
        ],
        body: textBody(
          "title=Broken+date&labels=bug%2Cparser",
          "application/x-www-form-urlencoded",
        ),
      },
      response: { status: 201 },
      decision: {
        ...{ action: "inject", rule: "rules[2]" },
        detail: "rules[2] allows api.example.org, and puts forge/github/token in",
      },
    }),
    flowRecord(ids, startMs + 47_000, {
      ...owner,
      request: { path: "/v1/missing", query: null },
      response: { status: 404, body: textBody('{"error":"no such item"}', "application/json") },
    }),
    flowRecord(ids, startMs + 52_000, {
      ...owner,
      ...{
        kind: "tunnel",
        request: null,
        response: null,
        sent_count: 5_120,
        received_count: 88_204,
      },
      server: { ...usual.server, host: "pinned.example.org", server_name: "pinned.example.org" },
      decision: {
        ...{ action: "passthrough", rule: "rules[4]" },
        detail: "rules[4] passes pinned.example.org through: TLS was not opened",
      },
    }),
    flowRecord(ids, startMs + 60_000, {
      ...owner,
      kind: "websocket",
      duration_ms: 12_400,
      server: { ...usual.server, host: "live.example.org" },
      request: { scheme: "wss", path: "/socket", query: null, byte_count: 38 },
      response: { status: 101, byte_count: 61, body: null },
      messages: [
        {
          at_ms: startMs + 60_200,
          from: "client",
          body: textBody('{"op":"subscribe","to":["builds"]}', null),
        },
        { at_ms: startMs + 60_240, from: "server", body: textBody('{"op":"ok"}', null) },
        {
          at_ms: startMs + 66_000,
          from: "server",
          body: {
            ...{ byte_count: 4, media_type: null, encoding: "base64" },
            ...{ content: "AAH/fw==", is_truncated: false },
          },
        },
      ],
    }),
  ];
}

function refused(ids: Ids, startMs: number, owner: Owner): FlowRecord[] {
  return [
    refusedFlow(ids, startMs + 40_000, {
      ...owner,
      request: { method: "POST", path: "/collect", query: null, byte_count: 0 },
      server: { ...refusedFlow(ids, startMs).server, host: "telemetry.example" },
    }),
    refusedFlow(ids, startMs + 70_000, {
      ...owner,
      redaction_count: 1,
      server: { ...refusedFlow(ids, startMs).server, host: "paste.example" },
      request: {
        ...{ method: "POST", path: "/new", query: null, byte_count: 61 },
        body: textBody("dump=[redacted:canary]", "text/plain"),
      },
      decision: {
        reason: "canary",
        detail: "The trial's canary was about to leave to paste.example: the trial is stopped",
      },
    }),
    refusedFlow(ids, startMs + 71_000, {
      ...owner,
      ...{ kind: "packet", engine: "worker", request: null, response: null, sent_count: 14 },
      server: { ...refusedFlow(ids, startMs).server, host: "198.51.100.9", port: 53 },
      decision: {
        reason: "dropped",
        detail: "14 UDP packets to 198.51.100.9:53 were dropped: only the proxy can be reached",
      },
    }),
    flowRecord(ids, startMs + 72_000, {
      ...owner,
      server: { ...flowRecord(ids, startMs).server, host: "fonts.example.org" },
      decision: {
        ...{ reason: "warned", rule: null },
        detail: "No rule allows fonts.example.org; the policy only warns",
      },
    }),
  ];
}

function unusual(ids: Ids, startMs: number, owner: Owner): FlowRecord[] {
  const rows = Array.from({ length: 4_000 }, (_, id) => ({ id, name: `row ${id}` }));
  return [
    flowRecord(ids, startMs + 80_000, {
      ...owner,
      request: { path: "/logo.png", query: null },
      response: {
        byte_count: PNG.length,
        headers: [["content-type", "image/png"]],
        body: {
          ...{ byte_count: PNG.length, media_type: "image/png", encoding: "base64" },
          ...{ content: PNG.toString("base64"), is_truncated: false },
        },
      },
    }),
    flowRecord(ids, startMs + 83_000, {
      ...owner,
      request: { path: "/huge.json", query: null },
      response: {
        byte_count: 104_857_600,
        body: { ...textBody(JSON.stringify(rows), "application/json"), byte_count: 104_857_600 },
      },
    }),
    flowRecord(ids, startMs + 86_000, {
      ...owner,
      request: { path: "/cut.json", query: null },
      response: {
        byte_count: 9_000_000,
        body: textBody('{"items":[{"id":1,"text":"cut in the mid', "application/json", true),
      },
    }),
    flowRecord(ids, startMs + 90_000, {
      ...owner,
      request: { path: "/reset", query: null },
      response: null,
      error: "the server closed the connection before it answered",
    }),
    flowRecord(ids, startMs + 91_000, {
      ...owner,
      request: { path: "/old", query: null, headers: null, body: null },
      response: { headers: null, body: null },
    }),
  ];
}

/** Whatever a worker or a server may write: it would set `wasRun` if it were markup. */
function hostile(ids: Ids, atMs: number, owner: Owner): FlowRecord[] {
  const json = JSON.stringify({
    [MARKUP]: MARKUP,
    __proto__x: { constructor: null },
    props: MARKUP,
  });
  return [
    flowRecord(ids, atMs, {
      ...owner,
      server: { ...flowRecord(ids, atMs).server, host: `x${MARKUP}.example`, server_name: MARKUP },
      request: {
        method: "GET",
        path: `/${MARKUP}`,
        query: `q=${MARKUP}`,
        headers: [
          [MARKUP, `${MARKUP}${ESC}[31mred\u202eder`],
          ["href", "javascript:globalThis.wasRun=true"],
        ],
        body: textBody(`${MARKUP}${ESC}]0;owned\u0007`, "text/html"),
      },
      response: {
        headers: [["content-type", "text/html"]],
        body: textBody(json, "application/json"),
      },
      decision: { rule: MARKUP, detail: MARKUP },
      credentials: [MARKUP],
      error: MARKUP,
    }),
    flowRecord(ids, atMs + 2_000, {
      ...owner,
      kind: "websocket",
      response: { status: 101, body: textBody(`data: ${MARKUP}\n\n`, "text/event-stream") },
      messages: [{ at_ms: atMs + 2_100, from: "server", body: textBody(MARKUP, "text/html") }],
    }),
  ];
}
