/**
 * Goal: a body is recorded as what it says, within its bounds, however it was sent; what cannot be
 * read is not recorded, and a bomb costs what any body of the bound does.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  brotliCompressSync,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from "node:zlib";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { seededRandom } from "../../../orchestrator/runtime/random.ts";
import { codingOf, inflate } from "../../../orchestrator/traffic/inflate.ts";
import { toRecord } from "../../../orchestrator/traffic/record.ts";
import { createRedactor } from "../../../orchestrator/traffic/redact.ts";
import { NO_SECRETS } from "../../../orchestrator/traffic/secret-forms.ts";
import { captureOf, flowDraft } from "../../support/flow-drafts.ts";

const NOW_MS = Date.UTC(2026, 10, 21, 12);
const BYTES_MAX = 1_000;
const ids = createIds({ now: () => NOW_MS }, seededRandom(4));

async function bodyOf(bytes: Buffer | string, headers: [string, string][], byteCount?: number) {
  const captured = captureOf(bytes);
  const body = { ...captured, byteCount: byteCount ?? captured.byteCount };
  const draft = flowDraft(ids, NOW_MS, { response: { headers, body } });
  const redaction = createRedactor(NO_SECRETS).begin([]);
  const limits = { bodyBytesMax: BYTES_MAX, messageBytesMax: BYTES_MAX };
  const record = await toRecord(draft, "egress", redaction, limits);
  const { content, encoding, is_truncated, byte_count } = record.response?.body ?? {};
  return { content, encoding, is_truncated, byte_count };
}

const said = (content: string, byte_count: number, is_truncated = false) => ({
  ...{ content, encoding: "utf8", is_truncated, byte_count },
});

test("every coding is undone; what was cut gives what came out before", async () => {
  const text = "hello ".repeat(50);
  const codings: [string, Buffer][] = [
    ["gzip", gzipSync(text)],
    ["x-gzip", gzipSync(text)],
    ["deflate", deflateSync(text)],
    ["deflate", deflateRawSync(text)],
    ["br", brotliCompressSync(text)],
    ["zstd", zstdCompressSync(text)],
    ["deflate, gzip", gzipSync(deflateSync(text))],
  ];
  for (const [coding, bytes] of codings) {
    const body = await bodyOf(bytes, [["content-encoding", coding]]);
    assert.deepEqual(body, said(text, bytes.length), coding);
  }
  const letters = Buffer.from(seededRandom(1).bytes(300)).toString("hex");
  const whole = gzipSync(letters);
  const cut = await bodyOf(whole.subarray(0, 200), [["content-encoding", "gzip"]], whole.length);
  assert.ok(cut.is_truncated && letters.startsWith(cut.content ?? "-") && cut.content !== "");
});

test("bytes in a coding that is not known, or is none, are not recorded", async () => {
  for (const [coding, bytes] of [
    ["snappy", Buffer.from("whatever")],
    ["gzip", Buffer.from("this is no gzip")],
    ["gzip, gzip, gzip, gzip", gzipSync("deep")],
  ] as const) {
    const body = await bodyOf(bytes, [["content-encoding", coding]]);
    assert.deepEqual(body, said("", bytes.length, true), coding);
  }
});

test("a bomb of 200 MB ends at the bound", async () => {
  const bomb = gzipSync(Buffer.alloc(2 ** 20)).subarray();
  const bytes = Buffer.concat(Array.from({ length: 200 }, () => bomb));
  const body = await bodyOf(bytes, [["content-encoding", "gzip"]]);
  assert.equal(body.is_truncated, true);
  const { bytes: kept, isWhole } = await inflate(bytes, "gzip", BYTES_MAX);
  assert.deepEqual([kept.length, isWhole], [BYTES_MAX, false]);
});

test("an archive is kept or hidden by what it holds, whatever the other body had in it", async () => {
  const secret = "a-secret-that-is-known";
  const redactor = createRedactor({ values: [{ value: secret, kind: "key" }], sha256: new Set() });
  const limits = { bodyBytesMax: BYTES_MAX, messageBytesMax: BYTES_MAX };
  const contents = {
    clean: gzipSync("nothing to hide"),
    dirty: gzipSync(`it holds ${secret}`),
    text: Buffer.from(`said: ${secret}`),
  };
  const wanted = {
    clean: contents.clean.toString("base64"),
    dirty: "[redacted:compressed]",
    text: "said: [redacted:key]",
  };
  for (const [asked, answered] of [
    ["clean", "text"],
    ["text", "clean"],
    ["clean", "dirty"],
    ["dirty", "clean"],
    ["clean", "clean"],
    ["dirty", "dirty"],
  ] as const) {
    const draft = flowDraft(ids, NOW_MS, {
      request: { body: captureOf(contents[asked]) },
      response: { headers: [], body: captureOf(contents[answered]) },
    });
    const record = await toRecord(draft, "egress", redactor.begin([]), limits);
    assert.deepEqual(
      [record.request?.body?.content, record.response?.body?.content],
      [wanted[asked], wanted[answered]],
      `${asked}, ${answered}`,
    );
  }
});

test("text is text, in whatever it is written; other bytes are base64", async () => {
  assert.deepEqual(await bodyOf("grün €", []), said("grün €", 9));
  const utf16 = Buffer.from("\ufeffgrün", "utf16le");
  assert.equal((await bodyOf(utf16, [])).content, "grün");
  const latin = [["content-type", "text/plain; charset=iso-8859-1"]] as [string, string][];
  assert.equal((await bodyOf(Buffer.from("grün", "latin1"), latin)).content, "grün");
  const bytes = Buffer.from([0xff, 0, 1, 2]);
  assert.deepEqual(await bodyOf(bytes, []), {
    ...{ content: bytes.toString("base64"), encoding: "base64" },
    ...{ is_truncated: false, byte_count: 4 },
  });
  const long = await bodyOf("é".repeat(800), []);
  assert.deepEqual(long, said("é".repeat(500), 1_600, true));
  const half = Buffer.from("aé").subarray(0, 2);
  assert.deepEqual(await bodyOf(half, [], 90), said("a", 90, true));
});

test("bytes say themselves how they are compressed", () => {
  assert.equal(codingOf(gzipSync("a")), "gzip");
  assert.equal(codingOf(zstdCompressSync("a")), "zstd");
  assert.equal(codingOf(deflateSync("a")), "deflate");
  assert.equal(codingOf(Buffer.from("plain")), null);
});
