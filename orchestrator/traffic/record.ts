/**
 * From what a door kept of a flow to its record: bodies decompressed, within bounds, and made text
 * where they are; all of it redacted.
 *
 * Invariant: nothing that could not be read is recorded. A body in a coding that we cannot undo, or
 * not to its end, has the content that we saw and no more; compressed bytes are never kept as they
 * came, since a secret in them would be written unseen.
 */
import { isAscii, isUtf8 } from "node:buffer";
import { FLOW_SCHEMA_VERSION, type FlowRecord } from "../contract/flows.ts";
import { rfc3339 } from "../runtime/clock.ts";
import { codingOf, inflate } from "./inflate.ts";
import type { Redaction } from "./redact.ts";
import type { CapturedBody, CapturedMessage, FlowDraft } from "./sink.ts";

/** A record as the spool takes it, which adds the source and the number. */
export type UnnumberedRecord = Omit<FlowRecord, "source_id" | "sequence">;

export interface RecordLimits {
  /** Of a body's content, in bytes. */
  readonly bodyBytesMax: number;
  /** Of the contents of all messages. */
  readonly messageBytesMax: number;
}

type Body = NonNullable<NonNullable<FlowRecord["request"]>["body"]>;
type HeaderList = readonly (readonly [string, string])[];

const HEADER_BYTES_MAX = 128 * 2 ** 10;
const HEADERS_MAX = 1_000;
const PATH_LENGTH_MAX = 8_000;
const QUERY_LENGTH_MAX = 16_000;
const HOST_LENGTH_MAX = 500;
const METHOD_LENGTH_MAX = 100;
const ERROR_LENGTH_MAX = 2_000;
const DETAIL_LENGTH_MAX = 1_000;
const MEDIA_TYPE_LENGTH_MAX = 200;
const MESSAGES_MAX = 10_000;
/** What compresses what, at most: more is no body but an attack. */
const CODINGS_MAX = 3;

/**
 * The record of a draft: at once, unless something in it is compressed. Its `door` is the sink's.
 *
 * @throws RangeError for a draft whose time is none.
 */
export function toRecord(
  draft: FlowDraft,
  door: FlowRecord["door"],
  redaction: Redaction,
  limits: RecordLimits,
): UnnumberedRecord | Promise<UnnumberedRecord> {
  const { text, repeated } = redaction;
  const asked = draft.request && toBody(draft.request.body, draft.request.headers);
  const answered = draft.response && toBody(draft.response.body, draft.response.headers);
  if (asked instanceof Promise || answered instanceof Promise) {
    return Promise.all([asked, answered]).then((both) => assembled(...both));
  }
  return assembled(asked, answered);

  function assembled(requestBody: Body | null, responseBody: Body | null): UnnumberedRecord {
    const { server, decision, messages } = draft;
    return {
      schema_version: FLOW_SCHEMA_VERSION,
      id: draft.id,
      door,
      engine: draft.engine,
      kind: draft.kind,
      ...(draft.transport === undefined ? {} : { transport: draft.transport }),
      project_id: draft.projectId,
      trial_id: draft.trialId,
      allocation_id: draft.allocationId,
      agent: draft.agent,
      started_at: rfc3339(draft.startedAtMs),
      duration_ms: Math.max(0, draft.durationMs),
      timings: draft.timings,
      client: draft.client,
      server: {
        ...server,
        host: short(repeated(server.host), HOST_LENGTH_MAX),
        server_name: server.server_name && short(repeated(server.server_name), HOST_LENGTH_MAX),
      },
      request: draft.request && toRequest(draft.request, requestBody),
      response: draft.response && toResponse(draft.response, responseBody),
      messages: messages && toMessages(messages, draft.startedAtMs),
      sent_count: draft.sentCount,
      received_count: draft.receivedCount,
      decision: { ...decision, detail: short(repeated(decision.detail), DETAIL_LENGTH_MAX) },
      credentials: [...draft.credentials],
      call_id: draft.callId,
      transfer_id: draft.transferId,
      cost: draft.cost,
      error: draft.error === null ? null : short(text(draft.error), ERROR_LENGTH_MAX),
      // After all else.
      redaction_count: redaction.count(),
    };
  }

  function toRequest(
    given: NonNullable<FlowDraft["request"]>,
    body: Body | null,
  ): NonNullable<FlowRecord["request"]> {
    const { method, scheme, path, query, headers } = given;
    return {
      method: short(repeated(method), METHOD_LENGTH_MAX),
      scheme,
      path: cut(path, PATH_LENGTH_MAX, (head, isCut) => redaction.path(head, isCut)),
      query: query && cut(query, QUERY_LENGTH_MAX, (head, isCut) => redaction.query(head, isCut)),
      byte_count: given.body?.byteCount ?? 0,
      headers: toHeaders(headers),
      body,
    };
  }

  function toResponse(
    given: NonNullable<FlowDraft["response"]>,
    body: Body | null,
  ): NonNullable<FlowRecord["response"]> {
    const { status, headers } = given;
    return {
      status,
      byte_count: given.body?.byteCount ?? 0,
      headers: toHeaders(headers),
      body,
    };
  }

  function toHeaders(headers: HeaderList): [string, string][] {
    const kept: [string, string][] = [];
    let room = HEADER_BYTES_MAX;
    for (const [name, value] of headers) {
      room -= name.length + value.length;
      if (room < 0 || kept.length >= HEADERS_MAX) {
        kept.push(["autocode-truncated", "more headers came than are kept"]);
        break;
      }
      kept.push([repeated(name), redaction.header(name, value)]);
    }
    return kept;
  }

  function toBody(body: CapturedBody | null, headers: HeaderList): Body | null | Promise<Body> {
    if (body === null) return null;
    const contentType = headerValue(headers, "content-type");
    const codings = codingsOf(headers);
    if (codings.length > 0) {
      return undo(body, codings, limits.bodyBytesMax).then((opened) => {
        return toContent(opened, body.byteCount, contentType);
      });
    }
    const plain = { bytes: body.kept, isWhole: body.kept.length >= body.byteCount };
    return toContent(plain, body.byteCount, contentType);
  }

  function toContent(
    opened: Opened,
    byteCount: number,
    contentType: string | null,
  ): Body | Promise<Body> {
    const mediaType = mediaTypeOf(contentType);
    const { bodyBytesMax } = limits;
    const isShort = opened.bytes.length <= bodyBytesMax;
    const bytes = isShort ? opened.bytes : opened.bytes.subarray(0, bodyBytesMax);
    const isCut = !opened.isWhole || !isShort;
    const media_type = mediaType === "" ? null : short(repeated(mediaType), MEDIA_TYPE_LENGTH_MAX);
    const shared = { byte_count: byteCount, media_type };
    const content = readText(bytes, isCut, contentType);
    if (content !== null) {
      const clean = redaction.body(content, mediaType, isCut);
      return { ...shared, encoding: "utf8", content: clean, is_truncated: isCut };
    }
    const coding = codingOf(bytes);
    return coding === null ? inBase64() : hidesSecret(bytes, coding).then(unlessHidden);

    function unlessHidden(isHidden: boolean): Body {
      if (!isHidden) return inBase64();
      const marker = "[redacted:compressed]";
      return { ...shared, encoding: "utf8", content: marker, is_truncated: true };
    }

    function inBase64(): Body {
      const clean = redaction.text(bytes.toString("latin1"), isCut);
      const encoded = Buffer.from(clean, "latin1").toString("base64");
      return { ...shared, encoding: "base64", content: encoded, is_truncated: isCut };
    }
  }

  /** An archive says nothing as it is: what it holds is looked at. */
  async function hidesSecret(bytes: Buffer, coding: string): Promise<boolean> {
    const { bytes: inner } = await inflate(bytes, coding, limits.bodyBytesMax);
    // Not across the wait: what is taken out of the other body meanwhile is not in this one.
    const before = redaction.count();
    redaction.text(inner.toString("latin1"), true);
    return redaction.count() > before;
  }

  function toMessages(
    messages: readonly CapturedMessage[],
    startedAtMs: number,
  ): NonNullable<FlowRecord["messages"]> {
    const kept: { message: CapturedMessage; body: Body }[] = [];
    let room = limits.messageBytesMax;
    for (const message of messages.slice(0, MESSAGES_MAX)) {
      const { body, isText } = message;
      const bytes = body.kept.subarray(0, Math.max(0, room));
      room -= bytes.length;
      const isCut = bytes.length < body.byteCount;
      const content = isText ? bytes.toString("utf8") : null;
      const isUtf8 = content !== null;
      const clean = redaction.body(content ?? bytes.toString("latin1"), "", isCut);
      kept.push({
        message,
        body: {
          byte_count: body.byteCount,
          media_type: null,
          encoding: isUtf8 ? "utf8" : "base64",
          content: isUtf8 ? clean : Buffer.from(clean, "latin1").toString("base64"),
          is_truncated: isCut,
        },
      });
    }
    // A secret may be cut up over the texts that one side sends.
    for (const side of ["client", "server"] as const) {
      const texts = kept.filter(
        ({ message, body }) => message.from === side && body.encoding === "utf8",
      );
      const clean = redaction.sequence(texts.map(({ body }) => body.content));
      for (const [at, one] of texts.entries()) one.body.content = clean[at] ?? "";
    }
    return kept.map(({ message, body }) => ({
      at_ms: Math.max(0, message.atMs - startedAtMs),
      from: message.from,
      body,
    }));
  }
}

interface Opened {
  readonly bytes: Buffer;
  readonly isWhole: boolean;
}

async function undo(
  { kept, byteCount }: CapturedBody,
  codings: readonly string[],
  bytesMax: number,
): Promise<Opened> {
  let opened: Opened = { bytes: kept, isWhole: kept.length >= byteCount };
  if (codings.length > CODINGS_MAX) return { bytes: Buffer.alloc(0), isWhole: false };
  for (const coding of codings.toReversed()) {
    if (opened.bytes.length === 0) return opened;
    const inner = await inflate(opened.bytes, coding, bytesMax);
    opened = { bytes: inner.bytes, isWhole: opened.isWhole && inner.isWhole };
  }
  return opened;
}

function codingsOf(headers: HeaderList): string[] {
  const codings: string[] = [];
  for (const [name, value] of headers) {
    if (!isNamed(name, "content-encoding")) continue;
    for (const given of value.toLowerCase().split(",")) {
      const coding = given.trim();
      if (coding !== "" && coding !== "identity") codings.push(coding);
    }
  }
  return codings;
}

function headerValue(headers: HeaderList, wanted: string): string | null {
  for (const [name, value] of headers) if (isNamed(name, wanted)) return value;
  return null;
}

/** @param wanted in lower case. */
function isNamed(name: string, wanted: string): boolean {
  return name.length === wanted.length && name.toLowerCase() === wanted;
}

function mediaTypeOf(contentType: string | null): string {
  return (contentType ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** Null when it is no text. */
function readText(bytes: Buffer, isCut: boolean, contentType: string | null): string | null {
  const wide = wideCharset(bytes, contentType);
  if (wide !== null) return new TextDecoder(wide).decode(bytes);
  const whole = isCut ? withoutHalf(bytes) : bytes;
  if (!isUtf8(whole)) {
    const charset = /charset="?(iso-8859-1|latin1|windows-1252|us-ascii)/i.exec(contentType ?? "");
    return charset === null ? null : new TextDecoder("windows-1252").decode(bytes);
  }
  const isSaid = /^text\/|[/+](?:json|xml|javascript|x-www-form-urlencoded|x-ndjson)\b/i;
  if (whole.includes(0) && !isSaid.test(contentType ?? "")) return null;
  return whole.toString(isAscii(whole) ? "latin1" : "utf8");
}

function wideCharset(bytes: Buffer, contentType: string | null): "utf-16le" | "utf-16be" | null {
  const said = /charset="?utf-16(le|be)?/i.exec(contentType ?? "");
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  if (said === null) return null;
  return said[1]?.toLowerCase() === "be" ? "utf-16be" : "utf-16le";
}

/** Without a character that was cut in two at the end. */
function withoutHalf(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(4, bytes.length); back++) {
    const byte = bytes[bytes.length - back] as number;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.subarray(0, bytes.length - back) : bytes;
  }
  return bytes;
}

function cut(
  given: string,
  lengthMax: number,
  redact: (head: string, isCut: boolean) => string,
): string {
  return short(redact(given.slice(0, lengthMax), given.length > lengthMax), lengthMax);
}

function short(text: string, lengthMax: number): string {
  return text.length <= lengthMax ? text : text.slice(0, lengthMax).toWellFormed();
}
