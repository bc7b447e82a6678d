/**
 * Goal: an export is a HAR 1.2 that a browser reads, and nothing of a flow is lost in it.
 *
 * Method: every kind of flow becomes an entry; the archive is checked against the schema of HAR
 * 1.2's text, and read as a browser's importer reads it.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { harEntry, harPieces } from "../../../orchestrator/traffic/har.ts";
import { flowRecord, refusedFlow, textBody } from "../../support/flow-records.ts";

const AT_MS = Date.UTC(2026, 10, 21, 12);
const ids = createIds({ now: () => AT_MS }, seededRandom(5));

/** HAR 1.2 as its specification words it; names that begin with "_" are anybody's. */
const open = <Props extends Parameters<typeof Type.Object>[0]>(properties: Props) =>
  Type.Object(properties, {
    additionalProperties: false,
    patternProperties: { "^_": Type.Unknown() },
  });
const Pair = open({ name: Type.String(), value: Type.String() });
const Time = Type.Number({ minimum: -1 });
const Har = open({
  log: open({
    version: Type.Literal("1.2"),
    creator: open({ name: Type.String(), version: Type.String() }),
    entries: Type.Array(
      open({
        startedDateTime: Type.String({
          pattern: "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d+Z$",
        }),
        time: Type.Number({ minimum: 0 }),
        request: open({
          method: Type.String({ minLength: 1 }),
          url: Type.String({ minLength: 1 }),
          httpVersion: Type.String(),
          cookies: Type.Array(Pair),
          headers: Type.Array(Pair),
          queryString: Type.Array(Pair),
          postData: Type.Optional(
            open({ mimeType: Type.String(), params: Type.Array(Pair), text: Type.String() }),
          ),
          headersSize: Type.Integer({ minimum: -1 }),
          bodySize: Type.Integer({ minimum: -1 }),
        }),
        response: open({
          status: Type.Integer({ minimum: 0 }),
          statusText: Type.String(),
          httpVersion: Type.String(),
          cookies: Type.Array(Pair),
          headers: Type.Array(Pair),
          content: open({
            size: Type.Integer({ minimum: 0 }),
            mimeType: Type.String(),
            text: Type.Optional(Type.String()),
            encoding: Type.Optional(Type.Literal("base64")),
          }),
          redirectURL: Type.String(),
          headersSize: Type.Integer({ minimum: -1 }),
          bodySize: Type.Integer({ minimum: -1 }),
        }),
        cache: open({}),
        timings: open({
          blocked: Time,
          dns: Time,
          connect: Time,
          send: Type.Number({ minimum: 0 }),
          wait: Type.Number({ minimum: 0 }),
          receive: Type.Number({ minimum: 0 }),
          ssl: Time,
        }),
        serverIPAddress: Type.Optional(Type.String()),
      }),
    ),
  }),
});

const bytes = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 255]);
const binary = {
  byte_count: bytes.length,
  media_type: "image/png",
  encoding: "base64" as const,
  content: bytes.toString("base64"),
  is_truncated: true,
};
const flows: Record<string, FlowRecord> = {
  usual: flowRecord(ids, AT_MS, { trial_id: ids.next("trial") }),
  refused: refusedFlow(ids, AT_MS),
  posted: flowRecord(ids, AT_MS, {
    request: {
      method: "POST",
      query: null,
      byte_count: 11,
      body: textBody("a=1&b=%20x", "application/x-www-form-urlencoded"),
    },
    response: { status: 302, headers: [["Location", "/elsewhere"]], body: null },
  }),
  binary: flowRecord(ids, AT_MS, { response: { byte_count: 6, body: binary } }),
  sentBinary: flowRecord(ids, AT_MS, { request: { method: "PUT", byte_count: 6, body: binary } }),
  tunnel: flowRecord(ids, AT_MS, {
    ...{ kind: "tunnel", request: null, response: null, sent_count: 512, received_count: 4096 },
    decision: { action: "passthrough" },
  }),
  packet: flowRecord(ids, AT_MS, {
    ...{ kind: "packet", engine: "worker", request: null, response: null, sent_count: 3 },
    server: { ...refusedFlow(ids, AT_MS).server, host: "2001:db8::1", port: 53 },
    decision: { action: "deny", reason: "dropped", rule: null },
  }),
  failed: flowRecord(ids, AT_MS, { response: null, error: "the connection was reset" }),
  websocket: flowRecord(ids, AT_MS, {
    kind: "websocket",
    request: { scheme: "wss", path: "/socket", query: null },
    response: { status: 101, byte_count: 0, body: null },
    messages: [
      { at_ms: AT_MS + 20, from: "client", body: textBody("ping", null) },
      { at_ms: AT_MS + 31.5, from: "server", body: binary },
    ],
  }),
  forgotten: flowRecord(ids, AT_MS, {
    request: { headers: null, body: null },
    response: { headers: null, body: null },
  }),
  cost: flowRecord(ids, AT_MS, {
    ...{ door: "gateway", engine: "gateway", call_id: ids.next("call") },
    cost: { amount_nanos: "1250000", currency: "CAD" },
    timings: { dns_ms: null, connect_ms: null, tls_ms: null, first_byte_ms: 900 },
  }),
};

test("every kind of flow is a valid entry of HAR 1.2", async () => {
  for (const [name, flow] of Object.entries(flows)) {
    assert.deepEqual(Value.Errors(FlowRecord, flow), [], `the test's own record: ${name}`);
    const har = await archive([flow]);
    assert.deepEqual(Value.Errors(Har, har), [], name);
  }
  assert.deepEqual(Value.Errors(Har, await archive([])), []);
});

test("a browser's importer reads it: addresses, sums of times, bodies as they were", async () => {
  const { log } = await archive(Object.values(flows));
  assert.equal(log.entries.length, Object.keys(flows).length);
  for (const [index, entry] of log.entries.entries()) {
    const flow = Object.values(flows)[index];
    assert.ok(URL.canParse(entry.request.url), entry.request.url);
    const { ssl, ...parts } = entry.timings;
    const sum = (Object.values(parts) as number[]).reduce(
      (total, ms) => total + Math.max(0, ms),
      0,
    );
    assert.ok(Math.abs(entry.time - sum) < 1e-9);
    assert.ok(
      Math.abs(entry.time - (flow?.duration_ms ?? 0)) < 1e-9,
      "the times make its duration",
    );
    assert.ok(ssl <= entry.timings.connect || ssl === -1);
    assert.equal(entry._autocode.flow_id, flow?.id);
  }
});

test("what HAR has no place for stands in fields of our own", () => {
  const { tunnel, packet, websocket, cost, refused } = flows as Required<typeof flows>;
  assert.deepEqual(pick(tunnel, "method", "url"), ["CONNECT", "https://api.example.org:443/"]);
  assert.deepEqual(pick(packet, "method", "url"), ["CONNECT", "https://[2001:db8::1]:53/"]);
  assert.deepEqual(harEntry(websocket as FlowRecord)._webSocketMessages, [
    { type: "send", time: (AT_MS + 20) / 1000, opcode: 1, data: "ping" },
    { type: "receive", time: (AT_MS + 31.5) / 1000, opcode: 2, data: binary.content },
  ]);
  assert.deepEqual(harEntry(cost as FlowRecord)._autocode.cost, {
    amount_nanos: "1250000",
    currency: "CAD",
  });
  assert.equal(harEntry(refused as FlowRecord)._autocode.decision.reason, "no_rule");
  assert.equal(harEntry(flows["failed"] as FlowRecord).response._error, "the connection was reset");
});

test("cookies, forms, redirects and base64 are told as HAR tells them", () => {
  const usual = harEntry(flows["usual"] as FlowRecord);
  assert.deepEqual(usual.request.cookies, [
    { name: "a", value: "1" },
    { name: "theme", value: "dark" },
  ]);
  assert.deepEqual(usual.response.cookies, [{ name: "b", value: "2" }]);
  assert.deepEqual(usual.request.queryString, [
    { name: "page", value: "2" },
    { name: "sort", value: "name" },
  ]);
  const posted = harEntry(flows["posted"] as FlowRecord);
  assert.deepEqual(posted.request.postData?.params, [
    { name: "a", value: "1" },
    { name: "b", value: " x" },
  ]);
  assert.equal(posted.response.redirectURL, "/elsewhere");
  const { content } = harEntry(flows["binary"] as FlowRecord).response;
  assert.deepEqual(content, {
    size: 6,
    mimeType: "image/png",
    text: binary.content,
    encoding: "base64",
  });
});

test("the archive comes in pieces, none of them larger than a flow", async () => {
  let given = 0;
  async function* many(): AsyncGenerator<FlowRecord> {
    for (let count = 0; count < 1_000; count++) {
      given += 1;
      yield flows["usual"] as FlowRecord;
    }
  }
  const pieces = harPieces(many(), "1.0.0");
  await pieces.next();
  await pieces.next();
  assert.equal(given, 1, "no flow is asked for before its turn");
  let longest = 0;
  let text = "";
  for await (const piece of pieces) {
    longest = Math.max(longest, piece.length);
    text += piece;
  }
  assert.ok(longest < 4_000, `${longest}`);
  assert.ok(text.endsWith("\n]}}\n"));
});

function pick(flow: FlowRecord | undefined, ...names: ("method" | "url")[]): string[] {
  const { request } = harEntry(flow as FlowRecord);
  return names.map((name) => request[name]);
}

// biome-ignore lint/suspicious/noExplicitAny: what was parsed has no type of its own
async function archive(of: readonly FlowRecord[]): Promise<any> {
  async function* each(): AsyncGenerator<FlowRecord> {
    yield* of;
  }
  let text = "";
  for await (const piece of harPieces(each(), "1.2.3")) text += piece;
  return JSON.parse(text);
}
