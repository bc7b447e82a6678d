/** What one worker may have at a time: what is beyond it is refused at once, and recorded. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { eventually } from "../../../support/eventually.ts";
import { openTls, openTunnel, readAll } from "../clients.ts";
import { type OpenEngine, openWorld, startUpstream, type World } from "../world.ts";
import { draftsOf, onlyDraft } from "./http.ts";

function allow(port: number, perSession: object) {
  const hosts = ["api.test"];
  const rules = [{ action: "allow" as const, hosts, ports: [port], is_private: true }];
  return { policy: { rules }, perSession };
}

async function assertTooMany(world: World, answer: string): Promise<void> {
  assert.match(answer, /^HTTP\/1\.1 429 /);
  assert.match(answer, /retry-after: 1\r\n/i);
  assert.match(answer, /"code":"too_many"/);
  const [draft] = await draftsOf(world, 1);
  assert.equal(draft?.decision.action, "deny");
  assert.equal(draft?.decision.reason, "too_many");
  assert.match(draft?.decision.detail ?? "", /at a time.*try again/);
}

export function testBounds(name: string, open: OpenEngine): void {
  test(`${name}: a request beyond what a worker may have at a time is refused until one ends`, async () => {
    const answers: ServerResponse[] = [];
    await using server = await startUpstream((_, response) => answers.push(response));
    await using world = await openWorld(open, allow(server.port, { exchangesMax: 2 }));
    const authority = `api.test:${server.port}`;
    const ask = async () => {
      const socket = await openTls(world, authority);
      const answer = readAll(socket);
      socket.write(`GET / HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n\r\n`);
      return { socket, answer };
    };
    const first = await ask();
    const second = await ask();
    await eventually(
      () => answers.length,
      (count) => count === 2,
    );
    const third = await ask();
    await assertTooMany(world, await third.answer);
    answers[0]?.end("done");
    assert.match((await Promise.race([first.answer, second.answer])) ?? "", /^HTTP\/1\.1 200 /);
    await draftsOf(world, 2);
    const fourth = await ask();
    await eventually(
      () => answers.length,
      (count) => count === 3,
    );
    for (const answer of answers) answer.end("done");
    assert.match(await fourth.answer, /^HTTP\/1\.1 200 /);
  });

  test(`${name}: a connection beyond what a worker may have is refused until one closes`, async () => {
    await using server = await startUpstream((_, response) => response.end("done"));
    await using world = await openWorld(open, allow(server.port, { connectionsMax: 2 }));
    const authority = `api.test:${server.port}`;
    const first = await openTunnel(world, authority);
    const second = await openTunnel(world, authority);
    assert.match(first.head + second.head, /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 200 /);
    const third = await openTunnel(world, authority);
    const rest = await readAll(third.socket);
    await assertTooMany(world, third.head + rest);
    first.socket.destroy();
    const again = await eventually(
      () => openTunnel(world, authority),
      ({ head }) => head.startsWith("HTTP/1.1 200 "),
    );
    for (const { socket } of [second, again]) socket.destroy();
  });

  test(`${name}: what a worker's memory at the proxy does not hold passes, and is not kept`, async () => {
    const size = 4_000;
    await using server = await startUpstream((request, response) => {
      request.resume();
      request.once("end", () => response.end("a".repeat(size)));
    });
    await using world = await openWorld(open, allow(server.port, { heldBytesMax: 1_000 }));
    const authority = `api.test:${server.port}`;
    const keptCounts: number[] = [];
    for (const round of [1, 2]) {
      const socket = await openTls(world, authority);
      const answer = readAll(socket);
      const head = `POST / HTTP/1.1\r\nHost: ${authority}\r\nConnection: close\r\n`;
      socket.write(`${head}Content-Length: ${size}\r\n\r\n${"q".repeat(size)}`);
      assert.ok((await answer).includes("a".repeat(size)));
      const draft = (await draftsOf(world, round))[round - 1];
      assert.equal(draft?.request?.body?.byteCount, size);
      assert.equal(draft.response?.body?.byteCount, size);
      const { request, response } = draft;
      keptCounts.push((request?.body?.kept.length ?? 0) + (response?.body?.kept.length ?? 0));
    }
    const [kept = 0, again] = keptCounts;
    assert.ok(kept > 0 && kept <= 1_000, `${kept}`);
    assert.equal(again, kept, "given back when the exchange before it ended");
  });

  test(`${name}: a WebSocket's message that is larger than its worker's memory is cut`, async () => {
    await using server = await startUpstream((_, response) => response.end());
    const sockets = new WebSocketServer({ server: server.server });
    let arrived = 0;
    sockets.on("connection", (socket) => {
      socket.on("error", () => undefined);
      socket.on("message", () => {
        arrived += 1;
      });
    });
    await using world = await openWorld(open, allow(server.port, { heldBytesMax: 10_000 }));
    const authority = `api.test:${server.port}`;
    const socket = await openTls(world, authority);
    const lines = ["GET / HTTP/1.1", `Host: ${authority}`, "Upgrade: websocket"];
    const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const more = ["Connection: Upgrade", "Sec-WebSocket-Version: 13", key, "", ""];
    socket.write([...lines, ...more].join("\r\n"));
    await once(socket, "data");
    const closed = once(socket, "close");
    socket.resume();
    // A text's first part (RFC 6455, 5.2): masked by zeros, and others are to follow.
    const part = (byte: number) =>
      Buffer.concat([
        Buffer.from([byte, 0xfe, 4_000 >> 8, 4_000 & 0xff, 0, 0, 0, 0]),
        Buffer.alloc(4_000, "x"),
      ]);
    for (const byte of [0x01, 0x00, 0x00, 0x00]) socket.write(part(byte));
    await closed;
    const draft = await onlyDraft(world);
    assert.match(draft.error ?? "", /memory/);
    assert.equal(arrived, 0);
    sockets.close();
  });
}
