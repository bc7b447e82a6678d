/**
 * A request that may pass, and its answer: both streamed with back-pressure, counted, kept in part
 * for the record; the request watched for canaries, the answer scrubbed of what was put in.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Duplex, Readable, Writable } from "node:stream";
import { monotonicMs } from "../../../orchestrator/runtime/clock.ts";
import type { EgressSession, RequestDecision } from "../guard.ts";
import { denied, failureOf } from "../refusal.ts";
import { type ExchangeDependencies, noteAnswer, sendRefusal } from "./answering.ts";
import type { ClientExchange, Denial } from "./client.ts";
import { decoderOf } from "./decode.ts";
import type { Flow, HeaderList } from "./flow.ts";
import { endToEnd, pairsOf, sentHeaders, trailersOf, valuesOf } from "./headers.ts";
import { createScrubber, createWatch, scrubText } from "./needles.ts";

export type Forward = Extract<RequestDecision, { outcome: "forward" }>;

/** Requests that may be sent twice: an idle connection may be closed just as we use it. */
const REPEATABLE: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

const WITHOUT_A_BODY: ReadonlySet<number> = new Set([204, 205, 304]);

interface Passage {
  readonly deps: ExchangeDependencies;
  readonly session: EgressSession;
  readonly client: ClientExchange;
  readonly flow: Flow;
  readonly decided: Forward;
  /** The last byte that was sent. */
  sentAtMs: number;
  /** The answer ended before the request was whole: what comes of it still goes nowhere. */
  isAnsweredEarly: boolean;
  touch(): void;
  isOver(): boolean;
  /** Refused on the way: told where an answer has not begun, else broken off. */
  deny(denial: Denial): void;
  /** The server's fault. */
  fail(message: string): void;
  /** All went through. */
  done(): void;
  /** The worker's doing. */
  gone(): void;
}

/** Carries an exchange to its end and records it; throws nothing. */
export function carry(
  deps: ExchangeDependencies,
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
  decided: Forward,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isOver = false;
  let opened: ClientRequest | null = null;
  const idle = deps.idle.watch((why) => fail(why));
  const passage: Passage = {
    ...{ deps, session, client, flow, decided, sentAtMs: monotonicMs(), isAnsweredEarly: false },
    ...{ touch: idle.touch, isOver: () => isOver, deny, fail, done: () => end(null), gone },
  };
  flow.decision = decided.decision;
  flow.credentials = decided.credentials;
  flow.secrets = [...decided.scrubs.map(({ value }) => value), ...decided.canaries];
  flow.server = { ...flow.server, host: decided.host };
  client.onGone(gone);
  open(false);
  return promise;

  function open(isSecond: boolean): void {
    let up: ClientRequest;
    try {
      up = sendHead(passage);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      deny(denied("bad_request", `The request cannot be sent: ${why}`));
      return;
    }
    opened = up;
    up.on("error", (error: NodeJS.ErrnoException) => {
      if (isOver || up !== opened) return;
      const isStale = up.reusedSocket && error.code === "ECONNRESET" && !client.hasBegun();
      const isRepeatable = !client.hasBody && REPEATABLE.has(client.head.method);
      if (isStale && isRepeatable && !isSecond) open(true);
      else fail(said(error));
    });
    up.on("response", (answer) => receive(passage, up, answer));
    // A server may not change the protocol of a request that did not ask for it.
    up.on("upgrade", (_, socket) => {
      socket.destroy();
      fail("it changed the protocol without being asked");
    });
    if (client.hasBody) sendBody(passage, up);
    else up.end();
  }

  function gone(): void {
    end("The worker broke off");
  }

  function deny(denial: Denial): void {
    if (isOver) return;
    flow.decision = denial.decision;
    tell(denial.refusal);
    end(denial.decision.detail);
  }

  function fail(message: string): void {
    if (isOver) return;
    const error = `${decided.host} failed: ${message}`;
    tell(failureOf("upstream_failed", error));
    end(error);
  }

  function tell(refusal: Denial["refusal"]): void {
    if (client.hasBegun()) {
      client.abort();
      return;
    }
    sendRefusal(client, refusal);
    noteAnswer(flow, refusal);
  }

  function end(error: string | null): void {
    if (isOver) return;
    isOver = true;
    idle.stop();
    flow.error = error;
    if (error !== null) opened?.destroy();
    session.record(flow.draft(session));
    resolve();
  }
}

function sendHead({ deps, session, client, flow, decided }: Passage): ClientRequest {
  const { head, hasBody } = client;
  return deps.upstreams.open(
    {
      owner: session.allocationId,
      isSecure: head.scheme === "https",
      host: decided.host,
      port: head.target.port,
      addresses: decided.addresses,
      ...{ method: head.method, path: head.path },
      headers: sentHeaders(head, decided, hasBody),
    },
    flow,
  );
}

/** The body, as it comes; cut at a canary and at whatever it may not be larger than. */
function sendBody(passage: Passage, up: ClientRequest): void {
  const { deps, session, client, flow, decided } = passage;
  const watch = createWatch(decided.canaries);
  let byteCount = 0;
  let sentCount = 0;
  if (client.expectsContinue) client.sayContinue();
  client.body.on("data", (chunk: Buffer) => {
    if (passage.isOver() || passage.isAnsweredEarly) return;
    passage.touch();
    byteCount += chunk.length;
    flow.requestBody?.add(chunk);
    if (byteCount > decided.requestBytesMax) {
      return passage.deny(tooLarge(`${decided.requestBytesMax} bytes of a request`));
    }
    const safe = watch.push(chunk);
    if (safe === null) return foundCanary(passage);
    pass(safe);
    const isBehind = deps.gate.wait();
    if (isBehind === null) return;
    client.body.pause();
    void isBehind.then(() => client.body.resume());
  });
  client.body.on("end", () => {
    // A stream that the worker reset ends as well: what came of it is not the whole.
    if (passage.isOver() || passage.isAnsweredEarly || client.isGone()) return;
    pass(watch.end());
    if (passage.isOver()) return;
    const declared = client.head.bodyByteCount;
    if (declared !== null && sentCount !== declared) {
      const what = `The request's body has ${sentCount} bytes, not the ${declared} it told of`;
      return passage.deny(denied("bad_request", what));
    }
    // The worker's trailers stay here: the guard decided the head, and never saw them.
    up.end();
    passage.sentAtMs = monotonicMs();
  });

  function pass(safe: Buffer): void {
    if (safe.length === 0) return;
    if (!session.sent(safe.length)) {
      passage.deny(tooLarge("what its trial may send"));
      return;
    }
    passage.sentAtMs = monotonicMs();
    sentCount += safe.length;
    if (up.write(safe)) return;
    client.body.pause();
    up.once("drain", () => {
      passage.touch();
      client.body.resume();
    });
  }
}

function foundCanary({ session, flow, decided, deny }: Passage): void {
  session.onCanary(flow.id, decided.host);
  deny(denied("canary", "The request holds the trial's canary: it is not sent, the trial ends"));
}

function tooLarge(what: string): Denial {
  return denied("too_large", `The request is larger than ${what}: send less, or change the policy`);
}

function receive(passage: Passage, up: ClientRequest, answer: IncomingMessage): void {
  const { client, flow, decided } = passage;
  if (passage.isOver()) return;
  passage.touch();
  const status = answer.statusCode ?? 0;
  if (status < 200 || status > 599) {
    passage.fail(`it answered with the status ${status}`);
    return;
  }
  flow.timings = { ...flow.timings, first_byte_ms: Math.max(0, monotonicMs() - passage.sentAtMs) };
  flow.server = { ...flow.server, http_version: answer.httpVersion };
  answer.on("error", (error) => passage.fail(said(error)));
  answer.on("aborted", () => passage.fail("it broke off its answer"));
  const hasBody = client.head.method !== "HEAD" && !WITHOUT_A_BODY.has(status);
  const headers = framedAs(status, endToEnd(pairsOf(answer.rawHeaders)));
  const isScrubbed = decided.scrubs.length > 0;
  // None was asked for: in pieces a secret could come back cut in two.
  if (isScrubbed && status === 206) {
    passage.fail("it answered a piece (206) of what was asked for as a whole");
    return;
  }
  const decoder = isScrubbed && hasBody ? decoderOf(valuesOf(headers, "content-encoding")) : "none";
  if (decoder === "unknown") {
    passage.fail("it encoded its answer in a way that a secret cannot be looked for in");
    return;
  }
  const sent = isScrubbed ? scrubbedHeaders(headers, decided, hasBody) : headers;
  const out = client.begin(status, sent, hasBody);
  if (out === null) {
    if (client.isGone()) passage.gone();
    else passage.fail("its answer's head cannot be passed on");
    return;
  }
  flow.response = { status, headers: sent };
  const source = decoder === "none" ? answer : decoded(passage, answer, decoder);
  if (hasBody) {
    out.once("finish", () => finished(passage, up));
    pipeBody(passage, up, answer, source, out);
  } else {
    answer.resume();
    closeIfEarly(passage, up);
    client.finish([]);
    finished(passage, up);
  }
}

/**
 * A connection that is owed bytes of a request serves no other: the server would read the next
 * one's body as requests, that nobody decided. Called at the answer's end, before the rest of the
 * request is thrown away.
 */
function closeIfEarly(passage: Passage, up: ClientRequest): void {
  if (up.writableEnded) return;
  passage.isAnsweredEarly = true;
  up.destroy();
}

function finished(passage: Passage, up: ClientRequest): void {
  if (!up.writableFinished) up.destroy();
  passage.done();
}

function decoded(passage: Passage, answer: IncomingMessage, decoder: Duplex): Readable {
  decoder.on("error", () => passage.fail("its answer is not encoded as it says"));
  return answer.pipe(decoder);
}

/** Each chunk goes on at once: a stream of events is one of its own time. */
function pipeBody(
  passage: Passage,
  up: ClientRequest,
  answer: IncomingMessage,
  source: Readable,
  out: Writable,
): void {
  const { client, flow, decided } = passage;
  const scrubber = decided.scrubs.length > 0 ? createScrubber(decided.scrubs) : null;
  let byteCount = 0;
  source.on("data", (chunk: Buffer) => {
    if (passage.isOver()) return;
    passage.touch();
    byteCount += chunk.length;
    if (byteCount > decided.responseBytesMax) {
      const what = `${decided.responseBytesMax} bytes of an answer`;
      return passage.deny(denied("too_large", `The answer is larger than ${what}`));
    }
    pass(scrubber === null ? chunk : scrubber.push(chunk));
  });
  source.on("end", () => {
    if (passage.isOver()) return;
    if (scrubber !== null) pass(scrubber.end());
    closeIfEarly(passage, up);
    const trailers = trailersOf(answer.rawTrailers);
    client.finish(trailers.map(([name, value]) => [name, scrubText(value, decided.scrubs)]));
  });

  function pass(chunk: Buffer): void {
    if (chunk.length === 0) return;
    flow.responseBody?.add(chunk);
    if (out.write(chunk)) return;
    source.pause();
    out.once("drain", () => {
      passage.touch();
      source.resume();
    });
  }
}

/** In HTTP/1.1 a 205 could have a body that HTTP/2 has no place for; it may not (RFC 9110). */
function framedAs(status: number, headers: [string, string][]): [string, string][] {
  if (status !== 205) return headers;
  return [
    ...headers.filter(([name]) => name.toLowerCase() !== "content-length"),
    ["Content-Length", "0"],
  ];
}

/** A body that is scrubbed has another length, and is no longer encoded. */
function scrubbedHeaders(headers: HeaderList, decided: Forward, hasBody: boolean): HeaderList {
  return headers
    .filter(
      ([name]) =>
        !hasBody || !/^(content-length|content-encoding|content-md5|digest|etag)$/i.test(name),
    )
    .map(([name, value]) => [name, scrubText(value, decided.scrubs)]);
}

function said(error: NodeJS.ErrnoException): string {
  return error.code === undefined || error.message.includes(error.code)
    ? error.message
    : `${error.message} (${error.code})`;
}
