/**
 * WebSockets: the handshake is a request like any other; then frames go through as they are, and
 * their messages are read from a copy. Where something must not pass (a canary, a secret that was
 * put in), a message or control frame waits until all of it was looked at, after those before it.
 */
import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { EgressSession, Place } from "../guard.ts";
import { denied, failureOf } from "../refusal.ts";
import {
  type ExchangeDependencies,
  noteAnswer,
  openRequestFlow,
  refuse,
  sendRefusal,
} from "./answering.ts";
import { type ClientExchange, LINGER_MS, type Tunnel } from "./client.ts";
import { decide } from "./exchange.ts";
import type { Flow, HeaderList } from "./flow.ts";
import { createFrames } from "./frames.ts";
import { endToEnd, pairsOf, sentHeaders } from "./headers.ts";
import { readHttp1 } from "./http1.ts";
import { createMessageReader, knownExtensions } from "./messages.ts";
import { createWatch, scrubText } from "./needles.ts";
import type { Forward } from "./passage.ts";

const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
const SWITCHING = "HTTP/1.1 101 Switching Protocols\r\n";

/** Serves an upgrade to its end; throws nothing. */
export async function serveUpgrade(
  deps: ExchangeDependencies,
  session: EgressSession,
  { incoming, socket, first }: { incoming: IncomingMessage; socket: Socket; first: Buffer },
  tunnel: Tunnel | null,
): Promise<void> {
  const response = new ServerResponse(incoming);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once("finish", () => socket.end());
  const client = readHttp1(incoming, response, tunnel);
  const place = session.places.enter("exchange");
  if (place.outcome === "refuse") {
    return refuse(session, client, openRequestFlow(deps, client, "websocket", null), place);
  }
  try {
    const flow = openRequestFlow(deps, client, "websocket", place);
    await serve({ ...deps, place }, session, client, flow, { response, socket, first });
  } finally {
    place.leave();
  }
}

interface PlacedDependencies extends ExchangeDependencies {
  /** Whose memory holds what is not whole yet, and what is kept for the record. */
  place: Place;
}

async function serve(
  deps: PlacedDependencies,
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
  ends: Ends,
): Promise<void> {
  const decided = await decide(deps, session, client, flow);
  if (decided === null) return;
  if (decided.outcome === "refuse") return refuse(session, client, flow, decided);
  if (decided.outcome === "answer") {
    const detail = "A WebSocket is not replayed from the record";
    return refuse(session, client, flow, denied("diverged", detail));
  }
  flow.decision = decided.decision;
  flow.credentials = decided.credentials;
  flow.secrets = [...decided.scrubs.map(({ value }) => value), ...decided.canaries];
  flow.server = { ...flow.server, host: decided.host };
  await shakeHands(deps, session, client, flow, decided, ends);
}

interface Ends {
  response: ServerResponse;
  socket: Socket;
  /** What the worker has sent already, after its head. */
  first: Buffer;
}

async function shakeHands(
  deps: PlacedDependencies,
  session: EgressSession,
  client: ClientExchange,
  flow: Flow,
  decided: Forward,
  { response, socket, first }: Ends,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isOver = false;
  const up = deps.upstreams.open(
    {
      owner: session.allocationId,
      isSecure: client.head.scheme === "wss",
      host: decided.host,
      port: client.head.target.port,
      addresses: decided.addresses,
      ...{ method: client.head.method, path: client.head.path },
      headers: handshakeHeaders(client, decided),
    },
    flow,
  );
  const onGone = () => end("The worker broke off");
  socket.once("close", onGone);
  up.on("error", (error) => fail(error.message));
  up.on("response", (answer) => {
    answer.resume();
    fail(`it answered ${answer.statusCode} to a WebSocket's handshake`);
  });
  up.on("upgrade", (answer, upSocket, upFirst) => {
    if (isOver) return void upSocket.destroy();
    if (!/^websocket$/i.test(answer.headers.upgrade ?? "")) {
      upSocket.destroy();
      return fail("it changed to a protocol that is no WebSocket");
    }
    socket.off("close", onGone);
    response.detachSocket(socket);
    const headers = endToEnd(pairsOf(answer.rawHeaders)).map(([name, value]): [string, string] => [
      name,
      scrubText(value, decided.scrubs),
    ]);
    flow.response = { status: 101, headers };
    flow.server = { ...flow.server, http_version: answer.httpVersion };
    socket.write(headText(headers));
    const extensions = answer.headers["sec-websocket-extensions"];
    const ends = { client: socket, server: upSocket, clientFirst: first, serverFirst: upFirst };
    void relay(deps, session, flow, decided, { ...ends, extensions }).then(end);
  });
  up.end();
  await promise;

  function fail(message: string): void {
    if (isOver) return;
    const error = `${decided.host} failed: ${message}`;
    const failure = failureOf("upstream_failed", error);
    sendRefusal(client, failure);
    noteAnswer(flow, failure);
    end(error);
  }

  function end(error: string | null): void {
    if (isOver) return;
    isOver = true;
    flow.error = error;
    up.destroy();
    session.record(flow.draft(session));
    resolve();
  }
}

function handshakeHeaders(client: ClientExchange, decided: Forward): HeaderList {
  const headers = sentHeaders(client.head, decided, false).flatMap(
    ([name, value]): [string, string][] => {
      if (name.toLowerCase() !== "sec-websocket-extensions") return [[name, value]];
      const known = knownExtensions(value);
      return known === "" ? [] : [[name, known]];
    },
  );
  return [...headers, ["Connection", "Upgrade"], ["Upgrade", "websocket"]];
}

function headText(headers: HeaderList): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return Buffer.from(
    `${SWITCHING}${lines}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    "latin1",
  );
}

interface Relayed {
  client: Socket;
  server: Duplex;
  clientFirst: Buffer;
  serverFirst: Buffer;
  extensions: string | undefined;
}

/** Until either end closes; why it was cut, or null. */
function relay(
  deps: PlacedDependencies,
  session: EgressSession,
  flow: Flow,
  decided: Forward,
  { client, server, clientFirst, serverFirst, extensions }: Relayed,
): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const idle = deps.idle.watch((why) => cut(why));
  let keptCount = 0;
  let leaving: NodeJS.Timeout | null = null;
  flow.messages = [];
  let sentCount = 0;
  let receivedCount = 0;
  const canaries = decided.canaries.filter(Boolean);
  const values = decided.scrubs
    .filter(({ value }) => value !== "")
    .map(({ value }) => Buffer.from(value).toString("latin1"));
  const up = createDirection("client", server, canaries, (chunk) => {
    sentCount += chunk.length;
    if (sentCount > decided.requestBytesMax || !session.sent(chunk.length)) {
      deny("too_large", "The WebSocket has sent all that it may");
    }
  });
  const down = createDirection("server", client, values, (chunk) => {
    receivedCount += chunk.length;
    if (receivedCount <= decided.responseBytesMax) return;
    deny("too_large", "The WebSocket has received all that it may");
  });
  for (const [from, to, direction, first] of [
    [client, server, up, clientFirst],
    [server, client, down, serverFirst],
  ] as const) {
    from.on("data", direction.push);
    from.on("error", () => undefined);
    from.once("end", () => direction.end());
    from.once("close", () => {
      direction.end();
      if (to.destroyed) cut(null);
      else leaving ??= setTimeout(() => cut(null), LINGER_MS);
    });
    if (first.length > 0) direction.push(first);
  }
  return promise;

  function cut(why: string | null): void {
    idle.stop();
    if (leaving !== null) clearTimeout(leaving);
    flow.sentCount = sentCount;
    flow.receivedCount = receivedCount;
    client.destroy();
    server.destroy();
    resolve(why);
  }

  function deny(reason: "too_large" | "canary", detail: string): void {
    flow.decision = denied(reason, detail).decision;
    cut(detail);
  }

  function createDirection(
    from: "client" | "server",
    to: Duplex,
    forbidden: readonly string[],
    count: (chunk: Buffer) => void,
  ): { push(chunk: Buffer): void; end(): void } {
    const source = from === "client" ? client : server;
    const frames = createFrames(MESSAGE_BYTES_MAX);
    let partCount = 0;
    const isHeld = forbidden.length > 0;
    const isFromClient = from === "client";
    // What is cut over messages, and over messages and control frames between them.
    const ofMessages = createWatch(forbidden);
    const ofAll = createWatch(forbidden);
    const reader = openReader();
    let isCut = false;
    let working: Promise<void> = Promise.resolve();
    return {
      push,
      /** After what is still being looked at. */
      end: () => void working.then(() => to.end()),
    };

    function push(chunk: Buffer): void {
      if (isCut) return;
      idle.touch();
      count(chunk);
      if (source.destroyed) return;
      if (!isHeld) pass(chunk);
      source.pause();
      working = working.then(() => look(chunk)).then(goOn);
    }

    function goOn(): void {
      if (to.writableNeedDrain) to.once("drain", () => source.resume());
      else source.resume();
    }

    function openReader() {
      try {
        const how = { isFromClient, extensions };
        return createMessageReader(how, MESSAGE_BYTES_MAX, onMessage, onControl);
      } catch (error) {
        cut(error instanceof Error ? error.message : String(error));
        return null;
      }
    }

    async function look(chunk: Buffer): Promise<void> {
      const whole = frames.push(chunk);
      if (whole === null || reader === null)
        return stop(`a message is over ${MESSAGE_BYTES_MAX} bytes`);
      if (!holdsPart(frames.heldCount())) return stop("its worker's messages fill their memory");
      for (const raw of whole) {
        try {
          await reader.read(raw);
        } catch (error) {
          return stop(error instanceof Error ? error.message : String(error));
        }
        if (isCut) return;
        if (isHeld) pass(raw);
      }
    }

    /** Whether there is room for what of a message has come and is not whole. */
    function holdsPart(byteCount: number): boolean {
      const more = byteCount - partCount;
      partCount = byteCount;
      if (more <= 0) deps.place.give(-more, "traffic");
      return more <= 0 || deps.place.hold(more, "traffic") === more;
    }

    function stop(why: string): void {
      isCut = true;
      cut(`The WebSocket was cut: ${why}`);
    }

    function pass(raw: Buffer): void {
      if (!to.destroyed) to.write(raw);
    }

    function onControl(payload: Buffer): void {
      if (ofAll.push(payload) === null) forbid();
    }

    function forbid(): void {
      if (isCut) return;
      isCut = true;
      if (!isFromClient) {
        stop("an answer holds a secret that was put in");
        return;
      }
      session.onCanary(flow.id, decided.host);
      deny("canary", "The message holds the trial's canary: it is not sent, the trial ends");
    }

    function onMessage(message: Buffer, isText: boolean): void {
      const isFound = ofMessages.push(message) === null;
      if (ofAll.push(message) === null || isFound) {
        forbid();
        return;
      }
      const left = Math.max(0, deps.sink.messageBytesMax - keptCount);
      const wanted = Math.min(left, deps.sink.bodyBytesMax, message.length);
      const kept = Buffer.from(message.subarray(0, deps.place.hold(wanted)));
      keptCount += kept.length;
      const body = { kept, byteCount: message.length };
      flow.messages?.push({ atMs: deps.clock.now(), from, isText, body });
    }
  }
}
