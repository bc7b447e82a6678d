/** What takes its time: events, large bodies, WebSockets, and the ways in which they break off. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { open as openFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { WebSocket, WebSocketServer } from "ws";
import { eventually } from "../../../support/eventually.ts";
import { curl, openTls, openTunnel, readAll } from "../clients.ts";
import { BODY_BYTES_MAX, CANARY, type OpenEngine, openWorld, startUpstream } from "../world.ts";
import { draftsOf, onlyDraft } from "./http.ts";

const MIB = 1024 * 1024;
const SECRET = "s3cr3t-value-0123456789";

/** All of one test server, and what more is said. */
function allow(port: number, more: object = {}) {
  const rule = { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true };
  return { policy: { rules: [{ ...rule, ...more }] } };
}

export function testStreams(name: string, open: OpenEngine): void {
  testWebSocketPieces(name, open);
  test(`${name}: each event goes on when it comes: the next is sent once it was seen`, async () => {
    const answers: ServerResponse[] = [];
    await using server = await startUpstream((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      answers.push(response);
    });
    await using world = await openWorld(open, allow(server.port));
    const socket = await openTls(world, `api.test:${server.port}`);
    let seen = "";
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    socket.write(`GET /events HTTP/1.1\r\nHost: api.test:${server.port}\r\n\r\n`);
    for (let count = 1; count <= 4; count++) {
      await eventually(
        () => seen,
        (text) => text.includes(`data: ${count}\n\n`),
      );
      answers[0]?.write(`data: ${count + 1}\n\n`);
    }
    answers[0]?.end();
    const draft = await onlyDraft(world);
    assert.match(draft.response?.body?.kept.toString() ?? "", /^data: 1\n\n.*data: 5\n\n$/s);
    socket.destroy();
  });

  test(`${name}: 100 MB go both ways with bounded memory, and a capped record`, async () => {
    const size = 100 * MIB;
    let arrived = 0;
    const chunk = Buffer.alloc(256 * 1024, "x");
    await using server = await startUpstream(async (request, response) => {
      for await (const part of request) arrived += (part as Buffer).length;
      response.writeHead(200, { "content-length": size });
      for (let sent = 0; sent < size; sent += chunk.length) {
        if (!response.write(chunk)) await once(response, "drain");
      }
      response.end();
    });
    await using world = await openWorld(open, allow(server.port));
    const file = join(world.folder, "large");
    await using handle = await openFile(file, "w");
    await handle.truncate(size);
    let most = 0;
    const before = process.memoryUsage().rss;
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss - before);
    }, 50);
    const ran = await curl(
      world,
      ...["-o", "/dev/null", "-w", "%{size_upload} %{size_download}", "-T", file],
      `https://api.test:${server.port}/`,
    );
    clearInterval(watch);
    assert.equal(ran.stdout, `${size} ${size}`, ran.stderr);
    assert.equal(arrived, size);
    const draft = await onlyDraft(world);
    assert.equal(draft.request?.body?.byteCount, size);
    assert.equal(draft.request?.body?.kept.length, BODY_BYTES_MAX);
    assert.equal(draft.response?.body?.byteCount, size);
    assert.equal(draft.response?.body?.kept.length, BODY_BYTES_MAX);
    assert.ok(most < 150 * MIB, `${Math.round(most / MIB)} MiB more in the test's own process`);
  });

  test(`${name}: a worker that breaks off ends the server's request, and the record says so`, async () => {
    const { promise: left, resolve } = Promise.withResolvers<void>();
    const { promise: asked, resolve: isAsked } = Promise.withResolvers<void>();
    await using server = await startUpstream((request, response) => {
      response.once("close", resolve);
      request.resume();
      response.write("first");
      isAsked();
    });
    await using world = await openWorld(open, allow(server.port));
    const socket = await openTls(world, `api.test:${server.port}`);
    socket.write(`GET / HTTP/1.1\r\nHost: api.test:${server.port}\r\n\r\n`);
    await asked;
    await once(socket, "data");
    socket.destroy();
    await left;
    const draft = await onlyDraft(world);
    assert.notEqual(draft.error, null);
    assert.equal(draft.response?.body?.kept.toString(), "first");
  });

  test(`${name}: a server that breaks off breaks off the answer, too`, async () => {
    await using server = await startUpstream((_, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write("half", () => response.destroy());
    });
    await using world = await openWorld(open, allow(server.port));
    const ran = await curl(world, `https://api.test:${server.port}/`);
    assert.notEqual(ran.status, 0);
    assert.equal(ran.stdout, "half");
    assert.notEqual((await onlyDraft(world)).error, null);
  });

  test(`${name}: when its allocation ends, what is open is closed and recorded`, async () => {
    await using server = await startUpstream((_, response) => response.write("first"));
    await using world = await openWorld(open, allow(server.port));
    const socket = await openTls(world, `api.test:${server.port}`);
    socket.write(`GET / HTTP/1.1\r\nHost: api.test:${server.port}\r\n\r\n`);
    await once(socket, "data");
    world.guard.end();
    await once(socket, "close");
    assert.notEqual((await onlyDraft(world)).error, null);
    const { head } = await openTunnel(world, `api.test:${server.port}`);
    assert.match(head, /^HTTP\/1\.1 407 /);
  });

  test(`${name}: a proxy that stops in the middle of a flow records it`, async () => {
    await using server = await startUpstream((_, response) => response.write("first"));
    await using world = await openWorld(open, allow(server.port));
    const socket = await openTls(world, `api.test:${server.port}`);
    socket.write(`GET / HTTP/1.1\r\nHost: api.test:${server.port}\r\n\r\n`);
    await once(socket, "data");
    await world.proxy[Symbol.asyncDispose]();
    assert.notEqual((await onlyDraft(world)).error, null);
  });

  test(`${name}: a client that reads nothing is not read for: the server waits`, async () => {
    let written = 0;
    const chunk = Buffer.alloc(256 * 1024);
    await using server = await startUpstream(async (_, response) => {
      response.on("error", () => undefined);
      const closed = new Promise((resolve) => response.once("close", resolve));
      while (written < 400 * MIB && !response.destroyed) {
        written += chunk.length;
        if (!response.write(chunk)) await Promise.race([once(response, "drain"), closed]);
      }
    });
    await using world = await openWorld(open, allow(server.port));
    const socket = await openTls(world, `api.test:${server.port}`);
    socket.pause();
    socket.write(`GET / HTTP/1.1\r\nHost: api.test:${server.port}\r\n\r\n`);
    let last = -1;
    // It stands still once all buffers on the way are full.
    await eventually(
      async () => {
        const before = written;
        await new Promise((resolve) => setTimeout(resolve, 300));
        last = written;
        return written > 0 && written === before;
      },
      Boolean,
      20_000,
    );
    assert.ok(last < 100 * MIB, `${Math.round(last / MIB)} MiB were taken`);
    socket.destroy();
    await onlyDraft(world);
  });

  test(`${name}: S4: a canary in a body does not leave, and is told`, async () => {
    const arrived: string[] = [];
    await using server = await startUpstream((request, response) => {
      let body = "";
      request.on("data", (part) => {
        body += part;
      });
      request.on("error", () => undefined);
      request.once("close", () => arrived.push(body));
      request.once("end", () => response.end("taken"));
    });
    await using world = await openWorld(open, allow(server.port));
    const socket = await openTls(world, `api.test:${server.port}`);
    const answer = readAll(socket);
    const half = CANARY.length / 2;
    socket.write(
      `POST / HTTP/1.1\r\nHost: api.test:${server.port}\r\nContent-Length: 100\r\n\r\nxx` +
        CANARY.slice(0, half),
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.write(CANARY.slice(half).padEnd(100 - 2 - half, "y"));
    assert.match(await answer, /^HTTP\/1\.1 403 [\s\S]*"code":"canary"/);
    const draft = await onlyDraft(world);
    assert.equal(draft.decision.reason, "canary");
    assert.ok(draft.secrets.includes(CANARY));
    assert.deepEqual(world.guard.canaries, ["api.test"]);
    assert.ok(arrived.every((body) => !body.includes(CANARY)));
  });

  test(`${name}: a request, and a trial, that sends more than it may is cut with 413`, async () => {
    await using server = await startUpstream((request, response) => {
      request.on("error", () => undefined);
      request.resume();
      request.once("end", () => response.end("all"));
    });
    const limits = allow(server.port, { request_bytes_max: 1_200 });
    await using world = await openWorld(open, { ...limits, sentMax: 1_500 });
    const post = (size: number) =>
      curl(
        world,
        ...["-H", "Transfer-Encoding: chunked", "-d", "x".repeat(size), "-w", "\n%{http_code}"],
        `https://api.test:${server.port}/`,
      );
    assert.equal((await post(900)).stdout, "all\n200");
    assert.match((await post(1_200)).stdout, /"code":"too_large".*\n413$/s);
    assert.match((await post(900)).stdout, /"code":"too_large".*\n413$/s);
    const drafts = await draftsOf(world, 3);
    assert.deepEqual(
      drafts.map(({ decision }) => decision.reason),
      ["rule", "too_large", "too_large"],
    );
  });

  test(`${name}: an answer that is encoded, against what was asked, is scrubbed all the same`, async () => {
    const asked: (string | undefined)[] = [];
    await using server = await startUpstream((request, response) => {
      asked.push(request.headers["accept-encoding"] as string | undefined);
      response.writeHead(200, { "content-encoding": "gzip" });
      response.end(gzipSync(`before ${SECRET} after`));
    });
    const credential = { secret: "a", header: "X-Key" };
    const limits = allow(server.port, { action: "inject", credential });
    await using world = await openWorld(open, { ...limits, secrets: { a: SECRET } });
    const ran = await curl(world, "--compressed", `https://api.test:${server.port}/`);
    assert.deepEqual(asked, ["identity"]);
    assert.equal(ran.stdout, "before {{secret:a}} after");
    await onlyDraft(world);
  });

  test(`${name}: a secret that was put in does not come back in ranges`, async () => {
    await using server = await startUpstream((request, response) => {
      const all = `you sent ${request.headers["x-key"]}`;
      const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
      if (from !== undefined) response.writeHead(206);
      response.end(from === undefined ? all : all.slice(Number(from), Number(to) + 1));
    });
    const credential = { secret: "a", header: "X-Key" };
    const limits = allow(server.port, { action: "inject", credential });
    await using world = await openWorld(open, { ...limits, secrets: { a: SECRET } });
    for (const range of ["0-15", "16-40"]) {
      const ran = await curl(world, "-r", range, `https://api.test:${server.port}/`);
      assert.equal(ran.stdout, "you sent {{secret:a}}");
    }
  });

  test(`${name}: nor in pieces that nobody asked for`, async () => {
    await using server = await startUpstream((request, response) => {
      response.writeHead(206);
      response.end(String(request.headers["x-key"]).slice(0, 9));
    });
    const credential = { secret: "a", header: "X-Key" };
    const limits = allow(server.port, { action: "inject", credential });
    await using world = await openWorld(open, { ...limits, secrets: { a: SECRET } });
    const ran = await curl(world, "-i", `https://api.test:${server.port}/`);
    assert.match(ran.stdout, /^HTTP\/[\d.]+ 502/);
    assert.ok(!ran.stdout.includes(SECRET.slice(0, 9)), ran.stdout);
    assert.match((await onlyDraft(world)).error ?? "", /a piece \(206\)/);
  });

  test(`${name}: nothing is read from workers while too much waits to be recorded`, async () => {
    let arrived = 0;
    await using server = await startUpstream((request, response) => {
      arrived++;
      request.resume();
      response.end("ok");
    });
    await using world = await openWorld(open, allow(server.port));
    world.sink.isFull = true;
    const running = curl(world, `https://api.test:${server.port}/`);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(arrived, 0);
    world.sink.isFull = false;
    assert.equal((await running).stdout, "ok");
  });

  test(`${name}: what nothing moves in is ended`, async () => {
    await using server = await startUpstream((_: IncomingMessage, response) => response.write("x"));
    await using world = await openWorld(open, allow(server.port), { idleTimeoutMs: 300 });
    const ran = await curl(world, `https://api.test:${server.port}/`);
    assert.notEqual(ran.status, 0);
    assert.notEqual((await onlyDraft(world)).error, null);
  });

  for (const perMessageDeflate of [false, true]) {
    const how = perMessageDeflate ? "compressed" : "plain";
    test(`${name}: a WebSocket's messages go both ways and are recorded, ${how}`, async () => {
      await using server = await startUpstream((_, response) => response.end());
      const sockets = new WebSocketServer({ server: server.server, perMessageDeflate });
      sockets.on("connection", (one) =>
        one.on("message", (data, isBinary) => one.send(data, { binary: isBinary })),
      );
      await using world = await openWorld(open, allow(server.port));
      const client = await openWebSocket(world, server.port, perMessageDeflate);
      const long = "long ".repeat(20_000);
      for (const text of ["hello", long]) {
        client.send(text);
        const [echoed] = await once(client, "message");
        assert.equal(String(echoed), text);
      }
      client.send(Buffer.from([0, 1, 2]));
      await once(client, "message");
      client.close(1000);
      await once(client, "close");
      const draft = await onlyDraft(world);
      assert.deepEqual(
        [draft.kind, draft.request?.scheme, draft.response?.status],
        ["websocket", "wss", 101],
      );
      assert.deepEqual(
        draft.messages?.map(({ from, isText, body }) => [from, isText, body.byteCount]),
        [
          ...[
            ["client", true, 5],
            ["server", true, 5],
          ],
          ...[
            ["client", true, long.length],
            ["server", true, long.length],
          ],
          ...[
            ["client", false, 3],
            ["server", false, 3],
          ],
        ],
      );
      assert.equal(draft.messages?.[0]?.body.kept.toString(), "hello");
      const kept = draft.messages?.reduce((sum, { body }) => sum + body.kept.length, 0);
      assert.ok((kept ?? 0) <= BODY_BYTES_MAX, `${kept} bytes kept`);
    });

    test(`${name}: S4: a canary in a WebSocket's message does not leave, ${how}`, async () => {
      const arrived: string[] = [];
      await using server = await startUpstream((_, response) => response.end());
      const sockets = new WebSocketServer({ server: server.server, perMessageDeflate });
      sockets.on("connection", (one) => one.on("message", (data) => arrived.push(String(data))));
      await using world = await openWorld(open, allow(server.port));
      const client = await openWebSocket(world, server.port, perMessageDeflate);
      client.on("error", () => undefined);
      client.send("first");
      await eventually(
        () => arrived.length,
        (count) => count === 1,
      );
      client.send(`so it is ${CANARY}`.padEnd(5_000, "."));
      await once(client, "close");
      assert.deepEqual(arrived, ["first"]);
      assert.equal((await onlyDraft(world)).decision.reason, "canary");
      assert.deepEqual(world.guard.canaries, ["api.test"]);
    });
  }
}

/** Ways for a text to leave by a WebSocket, other than in one message. */
const PIECES: readonly (readonly [string, (one: WebSocket, text: string) => void])[] = [
  ["a ping", (one, text) => one.ping(text)],
  ["a pong", (one, text) => one.pong(text)],
  ["a close", (one, text) => one.close(4000, text)],
  [
    "two messages",
    (one, text) => {
      one.send(text.slice(0, 8));
      one.ping("between");
      one.send(text.slice(8));
    },
  ],
  [
    "a message and a ping",
    (one, text) => {
      one.send(text.slice(0, 8));
      one.ping(text.slice(8));
    },
  ],
];

/** Whatever comes at one end of a WebSocket, one after the other. */
function listen(one: WebSocket): Buffer[] {
  const arrived: Buffer[] = [];
  for (const type of ["message", "ping", "pong"] as const) {
    one.on(type, (data: Buffer) => arrived.push(data));
  }
  one.on("close", (_: number, reason: Buffer) => arrived.push(reason));
  one.on("error", () => undefined);
  return arrived;
}

function testWebSocketPieces(name: string, open: OpenEngine): void {
  for (const [how, send] of PIECES) {
    test(`${name}: S4: a canary does not leave by a WebSocket in ${how}`, async () => {
      let arrived: Buffer[] = [];
      await using server = await startUpstream((_, response) => response.end());
      const sockets = new WebSocketServer({ server: server.server });
      sockets.on("connection", (one) => {
        arrived = listen(one);
      });
      await using world = await openWorld(open, allow(server.port));
      const client = await openWebSocket(world, server.port, false);
      client.on("error", () => undefined);
      send(client, CANARY);
      await once(client, "close");
      assert.equal((await onlyDraft(world)).decision.reason, "canary");
      assert.deepEqual(world.guard.canaries, ["api.test"]);
      const seen = String(Buffer.concat(arrived)).replaceAll("between", "");
      assert.ok(!seen.includes(CANARY.slice(8)), seen);
    });

    test(`${name}: a secret that was put in does not come back by a WebSocket in ${how}`, async () => {
      await using server = await startUpstream((_, response) => response.end());
      const sockets = new WebSocketServer({ server: server.server });
      sockets.on("connection", (one, request) => {
        one.on("error", () => undefined);
        one.once("message", () => send(one, String(request.headers["x-key"])));
      });
      const credential = { secret: "a", header: "X-Key" };
      const limits = allow(server.port, { action: "inject", credential });
      await using world = await openWorld(open, { ...limits, secrets: { a: SECRET } });
      const client = await openWebSocket(world, server.port, false);
      const arrived = listen(client);
      client.send("go");
      await once(client, "close");
      assert.notEqual((await onlyDraft(world)).error, null);
      const seen = String(Buffer.concat(arrived)).replaceAll("between", "");
      assert.ok(!seen.includes(SECRET.slice(8)), seen);
    });
  }
}

async function openWebSocket(
  world: Parameters<typeof openTls>[0],
  port: number,
  perMessageDeflate: boolean,
): Promise<WebSocket> {
  const socket = await openTls(world, `api.test:${port}`);
  const client = new WebSocket(`ws://api.test:${port}/socket`, {
    perMessageDeflate: perMessageDeflate ? { threshold: 0 } : false,
    createConnection: () => socket,
  });
  await once(client, "open");
  return client;
}
