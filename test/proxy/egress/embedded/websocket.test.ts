/** Goal: what is kept for the record takes no memory that WebSockets' messages need to pass. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { systemClock } from "../../../../orchestrator/runtime/clock.ts";
import { openEmbeddedProxy } from "../../../../proxy/egress/embedded.ts";
import { eventually } from "../../../support/eventually.ts";
import { openTls } from "../clients.ts";
import { ids, log, type OpenEngine, openWorld, startUpstream } from "../world.ts";

const open: OpenEngine = ({ guard, sink, authority, extraCa }) =>
  openEmbeddedProxy(
    { guard, sink, authority, ids, clock: systemClock, log },
    { host: "127.0.0.1", port: 0, extraCa },
  );

const SIZE = 4_000;

/** A part of a text (RFC 6455, 5.2), masked by zeros. */
function part(firstByte: number): Buffer {
  const head = [firstByte, 0xfe, SIZE >> 8, SIZE & 0xff, 0, 0, 0, 0];
  return Buffer.concat([Buffer.from(head), Buffer.alloc(SIZE, "x")]);
}

test("embedded: a WebSocket's message passes while downloads fill what the record may have", async () => {
  const answers: ServerResponse[] = [];
  await using server = await startUpstream((_, response) => {
    answers.push(response);
    response.write("a".repeat(SIZE));
  });
  const sockets = new WebSocketServer({ server: server.server });
  const arrived: string[] = [];
  sockets.on("connection", (socket) => {
    socket.on("error", () => undefined);
    socket.on("message", (data) => void arrived.push(String(data)));
  });
  const rules = [
    { action: "allow" as const, hosts: ["api.test"], ports: [server.port], is_private: true },
  ];
  const perSession = { heldBytesMax: 20_000 };
  await using world = await openWorld(open, { policy: { rules }, perSession });
  const authority = `api.test:${server.port}`;
  // They are kept until they end: 24,000 bytes, had they more than half.
  for (let index = 0; index < 6; index += 1) {
    const socket = await openTls(world, authority);
    let body = "";
    socket.on("data", (chunk: Buffer) => {
      body += chunk.toString("latin1").replace(/[^a]/g, "");
    });
    socket.write(`GET / HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    await eventually(
      () => body.length,
      (count) => count >= SIZE,
    );
  }
  const socket = await openTls(world, authority);
  const lines = ["GET / HTTP/1.1", `Host: ${authority}`, "Upgrade: websocket"];
  const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
  const more = ["Connection: Upgrade", "Sec-WebSocket-Version: 13", key, "", ""];
  socket.write([...lines, ...more].join("\r\n"));
  await once(socket, "data");
  socket.resume();
  for (const byte of [0x01, 0x80]) socket.write(part(byte));
  await eventually(
    () => arrived.length,
    (count) => count === 1,
  );
  assert.equal(arrived[0], "x".repeat(2 * SIZE));
  for (const answer of answers) answer.end();
  sockets.close();
});
