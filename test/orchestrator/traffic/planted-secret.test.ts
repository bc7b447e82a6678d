/**
 * Goal: a secret that a worker sends, or is sent, in any of 30 places is neither in the log, nor in
 * the spool, nor in the store, nor in an export, in any form that can be read back.
 *
 * Method: two secrets, one that the installation knows and one that looks like a token, are planted
 * one place after the other; the real sink, spool and shipper carry the records. Whatever comes out
 * is looked through as it is and with every run of base64 and every escape undone.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { FLOW_SCHEMA_VERSION, type FlowRecord } from "../../../orchestrator/contract/flows.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { createFlowSink } from "../../../orchestrator/traffic/flow-sink.ts";
import { createShipper } from "../../../orchestrator/traffic/shipper.ts";
import type { CapturedMessage, FlowDraft } from "../../../orchestrator/traffic/sink.ts";
import { createTrafficSources } from "../../../orchestrator/traffic/sources-postgres.ts";
import { openSpool } from "../../../orchestrator/traffic/spool.ts";
import { segmentsIn } from "../../../orchestrator/traffic/spool-folder.ts";
import { openTestDatabase } from "../../support/database.ts";
import { captureOf, type DraftChange, flowDraft } from "../../support/flow-drafts.ts";
import { createMemoryTraffic } from "../../support/memory-traffic.ts";

const KNOWN = 'corp/"S3cret"+value&42 of ours';
const TOKEN = `ghp_${"Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1Wx2"}`;
const NOW_MS = Date.UTC(2026, 10, 21, 12);

type Plant = (secret: string) => DraftChange;

const request = (content: string | Buffer, type: string, coding?: string): DraftChange => ({
  request: { method: "POST", headers: headersOf(type, coding), body: captureOf(content) },
});
const response = (content: string | Buffer, type: string, coding?: string): DraftChange => ({
  response: { headers: headersOf(type, coding), body: captureOf(content) },
});
const header = (name: string, value: string): DraftChange => ({
  request: { headers: [[name, value]] },
});

function headersOf(type: string, coding?: string): [string, string][] {
  const encoding: [string, string][] = coding === undefined ? [] : [["Content-Encoding", coding]];
  return [["Content-Type", type], ...encoding];
}

function messages(texts: readonly string[]): CapturedMessage[] {
  return texts.map((text, at) => ({
    atMs: NOW_MS + at,
    from: "client",
    isText: true,
    body: captureOf(text),
  }));
}

/** A few characters an event. */
function pieces(secret: string): string[] {
  return `I will write ${secret} down.`.match(/[\s\S]{1,5}/g) ?? [];
}

const json = (secret: string) => JSON.stringify({ note: `use ${secret} here`, count: 3 });
const multipart = (secret: string) =>
  `--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx ${secret}\r\n--b--\r\n`;

const PLACES: Readonly<Record<string, Plant>> = {
  "the authorization header": (s) => header("Authorization", `Bearer ${s}`),
  "a header of an API": (s) => header("X-Api-Key", s),
  "a header of no meaning": (s) => header("X-Note", `see ${s}.`),
  "basic credentials": (s) =>
    header("Authorization", `Basic ${Buffer.from(`user:${s}`).toString("base64")}`),
  "a cookie": (s) => header("Cookie", `a=1; session=${encodeURIComponent(s)}`),
  "a cookie that is set": (s) => ({
    response: { headers: [["Set-Cookie", `session=${encodeURIComponent(s)}; Path=/`]] },
  }),
  "the query": (s) => ({ request: { query: `a=1&note=${encodeURIComponent(s)}` } }),
  "a parameter named so": (s) => ({ request: { query: `access_token=${encodeURIComponent(s)}` } }),
  "the path": (s) => ({ request: { path: `/hooks/${encodeURIComponent(s)}/x` } }),
  "credentials in a URL": (s) =>
    response(`clone https://bot:${encodeURIComponent(s)}@forge.example/r.git`, "text/plain"),
  "a redirect": (s) => ({
    response: {
      status: 302,
      headers: [["Location", `https://a.example/?code=${encodeURIComponent(s)}`]],
    },
  }),
  "a body of JSON": (s) => request(json(s), "application/json"),
  "JSON in JSON": (s) => request(JSON.stringify({ log: json(s) }), "application/json"),
  "JSON with escapes": (s) =>
    request(
      json(s).replaceAll(/[ghcS]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`),
      "application/json",
    ),
  "a form": (s) => request(new URLSearchParams({ note: s }).toString(), FORM),
  "a form's password": (s) => request(new URLSearchParams({ password: s }).toString(), FORM),
  "a form in parts": (s) => request(multipart(s), "multipart/form-data; boundary=b"),
  "a gzip body": (s) => request(gzipSync(json(s)), "application/json", "gzip"),
  "a deflate body": (s) => request(deflateSync(json(s)), "application/json", "deflate"),
  "a br body": (s) => response(brotliCompressSync(json(s)), "application/json", "br"),
  "a zstd body": (s) => response(zstdCompressSync(json(s)), "application/json", "zstd"),
  "gzip in gzip": (s) => response(gzipSync(gzipSync(json(s))), "text/plain", "gzip, gzip"),
  "an archive": (s) => request(gzipSync(`a file with ${s}\n`), "application/gzip"),
  base64: (s) =>
    request(
      JSON.stringify({ content: Buffer.from(`some file\nwith ${s}\nin it`).toString("base64") }),
      "application/json",
    ),
  "base64 in lines": (s) =>
    request(
      Buffer.from(`${"x".repeat(50)} ${s} ${"y".repeat(80)}`)
        .toString("base64")
        .replaceAll(/.{76}/g, "$&\r\n"),
      "text/plain",
    ),
  "bytes that are no text": (s) =>
    request(Buffer.concat([Buffer.from([0, 255, 1]), Buffer.from(s), Buffer.from([0])]), BYTES),
  "a stream, whole": (s) => response(`data: ${json(s)}\n\ndata: [DONE]\n\n`, "text/event-stream"),
  "a stream, in pieces": (s) =>
    response(
      pieces(s)
        .map((text) => `data: ${JSON.stringify({ choices: [{ delta: { content: text } }] })}\n\n`)
        .join(""),
      "text/event-stream",
    ),
  "a socket's message": (s) => ({ kind: "websocket", messages: messages([json(s)]) }),
  "a socket's messages, in pieces": (s) => ({
    kind: "websocket",
    messages: messages(pieces(s).map((text) => JSON.stringify({ delta: text }))),
  }),
  "an error": (s) => ({ error: `connect failed for https://u:${encodeURIComponent(s)}@x/: ${s}` }),
  "a stack trace": (s) => response(`Error: bad key ${s}\n    at f (/a/b.js:1:2)\n`, "text/plain"),
  "the host's name": (s) => ({
    server: { ...flowDraft(IDS, NOW_MS).server, host: `${encodeURIComponent(s)}.evil.example` },
  }),
  "the decision's words": (s) => ({
    decision: { action: "deny", reason: "no_rule", rule: null, detail: `No rule for /${s}` },
  }),
  "the end of what was kept": (s) => ({
    request: { body: { kept: Buffer.from(`tail ${s.slice(0, 20)}`), byteCount: 9_000 } },
  }),
};

const FORM = "application/x-www-form-urlencoded";
const BYTES = "application/octet-stream";
const IDS = createIds({ now: () => NOW_MS }, seededRandom(11));

test(`a secret in ${Object.keys(PLACES).length} places is nowhere afterwards`, async (t) => {
  assert.ok(Object.keys(PLACES).length >= 30);
  const dir = await mkdtemp(join(tmpdir(), "autocode-planted-"));
  await using database = await openTestDatabase();
  const logFile = join(dir, "log");
  const log = createLog("debug", logFile);
  const ids = createIds({ now: () => NOW_MS }, seededRandom(12));
  const store = createMemoryTraffic();
  const clock = { now: () => NOW_MS };
  const sources = createTrafficSources(database, clock);
  const spool = await openSpool({
    dir: join(dir, "spool"),
    source: {
      ...{ id: ids.next("process"), door: "egress", engine: "embedded" },
      ...{ host: "here", startedAtMs: NOW_MS },
    },
    bytesMax: 2 ** 30,
    log,
  });
  const knownSecrets = () => ({
    values: [{ value: KNOWN, kind: "forge_token" }],
    sha256: new Set<string>(),
  });
  const sink = createFlowSink({ spool, sources, knownSecrets, log }, { threadBytesMin: 700 });
  const placed = new Map<string, string>();
  for (const [place, plant] of Object.entries(PLACES)) {
    for (const secret of [KNOWN, TOKEN]) {
      const draft: FlowDraft = flowDraft(ids, NOW_MS, plant(secret));
      placed.set(draft.id, `${place}: ${secret === KNOWN ? "known" : "token"}`);
      await sink.append(draft);
    }
  }
  await sink[Symbol.asyncDispose]();
  const spooled = await spoolText(join(dir, "spool", spool.source.id));
  const shipper = createShipper({
    ...{ spoolDir: join(dir, "spool"), store, sources, log, clock, random: seededRandom(1) },
  });
  const count = 2 * Object.keys(PLACES).length;
  assert.deepEqual(await shipper.drain(), { stored: count, rejected: 0 });

  let seen = 0;
  for await (const flow of store.scan({})) {
    seen++;
    const place = placed.get(flow.id) ?? "";
    await t.test(place, () => assertClean(flow, place));
  }
  assert.equal(seen, count);
  assertNoSecret(spooled, "the spool");
  assertNoSecret(await readFile(logFile, "utf8"), "the log");
  await rm(dir, { recursive: true });
});

function assertClean(flow: FlowRecord, place: string): void {
  assert.equal(flow.schema_version, FLOW_SCHEMA_VERSION);
  assert.ok(flow.redaction_count > 0, "nothing was redacted");
  assertNoSecret(JSON.stringify(flow), place);
  // As whoever reads it back would join it.
  const body = flow.response?.body?.content ?? "";
  const events = [...body.matchAll(/"content":"((?:[^"\\]|\\.)*)"/g)].map(([, text]) => text);
  const sent = (flow.messages ?? []).map((message) => message.body.content).join("");
  const deltas = [...sent.matchAll(/"delta":"((?:[^"\\]|\\.)*)"/g)].map(([, text]) => text);
  for (const joined of [events.join(""), deltas.join("")]) {
    assertNoSecret(joined.replaceAll('\\"', '"'), `${place}, joined`);
  }
}

function assertNoSecret(text: string, where: string): void {
  for (const form of [text, opened(text), opened(opened(text))]) {
    for (const secret of [KNOWN, TOKEN]) {
      assert.ok(!form.includes(secret), `${where} has a secret`);
      assert.ok(!form.includes(secret.slice(0, 20)), `${where} has a secret's beginning`);
    }
  }
}

/** With escapes and base64 undone, each beside what it was. */
function opened(text: string): string {
  const plain = text
    .replaceAll(/\\u00([0-9a-f]{2})/gi, (_, code) => String.fromCharCode(Number.parseInt(code, 16)))
    .replaceAll(/\\(["\\/])/g, "$1");
  const unescaped = plain.replaceAll(/%([0-9A-Fa-f]{2})/g, (_, code) => {
    return String.fromCharCode(Number.parseInt(code, 16));
  });
  const joined = text.replaceAll(/\\r\\n/g, "");
  const runs = [...joined.matchAll(/[A-Za-z0-9+/_-]{16,}/g)].flatMap(([run]) =>
    [0, 1, 2, 3].map((skip) => Buffer.from(run.slice(skip), "base64").toString("latin1")),
  );
  return [plain, unescaped, unescaped.replaceAll("+", " "), ...runs].join("\n");
}

async function spoolText(folder: string): Promise<string> {
  const segments = await segmentsIn(folder);
  return (await Promise.all(segments.map(({ path }) => readFile(path, "utf8")))).join("");
}
