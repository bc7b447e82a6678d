/**
 * Goal: no connection is left out. One that its session may not have, or that nobody knows, is
 * closed whatever its client does; one that has gone is counted by nobody.
 */
import assert from "node:assert/strict";
import { getEventListeners, once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { systemClock } from "../../../../orchestrator/runtime/clock.ts";
import { createPresence } from "../../../../proxy/egress/embedded/presence.ts";
import { openEmbeddedProxy } from "../../../../proxy/egress/embedded.ts";
import { eventually } from "../../../support/eventually.ts";
import { openSocket, openTunnel } from "../clients.ts";
import { createTestGuard, ids, log, type OpenEngine, openWorld, type World } from "../world.ts";

const WORD = `Basic ${btoa("worker:pass")}`;
const CONNECT = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n";
const GET = "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n";
const UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
const policy = {
  rules: [{ action: "allow" as const, hosts: ["api.test"], is_private: true }],
};

interface Limits {
  connectionsMax?: number;
  strangersMax?: number;
  headTimeoutMs?: number;
}

function openOf(limits: Limits): OpenEngine {
  return ({ guard, sink, authority, extraCa }) =>
    openEmbeddedProxy(
      { guard, sink, authority, ids, clock: systemClock, log },
      { host: "127.0.0.1", port: 0, extraCa, ...limits },
    );
}

/** Asks so, and never closes its side; `answer` is what has come by now. */
async function askHalfOpen(world: World, head: string, word: string) {
  const { hostname, port } = new URL(world.proxy.url);
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
  socket.on("error", () => undefined);
  const asked = { socket, answer: "" };
  socket.on("data", (chunk: Buffer) => {
    asked.answer += chunk.toString("latin1");
  });
  await once(socket, "connect");
  socket.write(`${head}Proxy-Authorization: ${word}\r\n\r\n`);
  return asked;
}

async function askMany(world: World, word: string) {
  const heads = [CONNECT, GET, `${GET}${UPGRADE}`, GET.replace("GET", "POST")];
  return await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      askHalfOpen(world, heads[index % heads.length] ?? GET, word),
    ),
  );
}

/** Bytes to a connection that the proxy has closed are answered by a reset. */
async function assertGone(asked: readonly { socket: Socket }[]): Promise<void> {
  await eventually(
    () => {
      const open = asked.filter(({ socket }) => !socket.closed);
      for (const { socket } of open) socket.write("x");
      return open.length;
    },
    (count) => count === 0,
  );
}

test("connections beyond what a worker may have are closed though it holds its side open", async () => {
  const perSession = { connectionsMax: 1 };
  await using world = await openWorld(openOf({ connectionsMax: 25 }), { policy, perSession });
  const held = await openTunnel(world, "api.test:443");
  assert.match(held.head, /^HTTP\/1\.1 200 /);
  // Were they left, the second twenty would find no place at the proxy.
  for (const _ of [1, 2]) {
    const asked = await askMany(world, WORD);
    await eventually(
      () => asked.filter(({ answer }) => !answer.includes('"code":"too_many"')).length,
      (count) => count === 0,
    );
    for (const { answer } of asked) {
      assert.match(answer, /^HTTP\/1\.1 429 /);
      assert.match(answer, /\r\nconnection: close\r\n/i);
    }
    await assertGone(asked);
  }
  assert.equal(held.socket.closed, false, "what it may have stays");
  held.socket.destroy();
});

test("of connections that said no name the oldest makes room, and nobody else's", {
  timeout: 60_000,
}, async () => {
  // Longer than the test: those that say nothing are closed by the bound alone.
  const limits = { strangersMax: 3, headTimeoutMs: 120_000 };
  await using world = await openWorld(openOf(limits), { policy });
  const answerOf = async (socket: Socket, head: string) => {
    socket.write(`${head}\r\n`);
    const closed = once(socket, "close").then(() => assert.fail("closed without an answer"));
    closed.catch(() => undefined);
    const [answer] = (await Promise.race([once(socket, "data"), closed])) as [Buffer];
    return answer.toString("latin1");
  };
  const wrong = `Proxy-Authorization: Basic ${btoa("worker:wrong")}\r\n`;
  const right = `Proxy-Authorization: ${WORD}\r\n`;
  const { socket: held, head } = await openTunnel(world, "api.test:443");
  assert.match(head, /^HTTP\/1\.1 200 /);
  const refused = await openSocket(world);
  assert.match(await answerOf(refused, `${GET}${wrong}`), /^HTTP\/1\.1 407 /);
  // A wrong name is none, and these have not said any yet: with the next they are four.
  const silent = [await openSocket(world), await openSocket(world), await openSocket(world)];
  await eventually(() => refused.closed, Boolean);
  for (const socket of silent) {
    assert.match(await answerOf(socket, `${CONNECT}${right}`), /^HTTP\/1\.1 200 /);
  }
  // Known by now, they make room for nobody.
  const later = [];
  for (let count = 0; count < 4; count++) later.push(await openSocket(world));
  const [oldest, ...others] = later;
  await eventually(() => oldest?.closed, Boolean);
  for (const socket of others) {
    assert.match(await answerOf(socket, `${GET}${wrong}`), /^HTTP\/1\.1 407 /);
  }
  for (const socket of [held, ...silent]) {
    assert.match(await answerOf(socket, "GET / HTTP/1.1\r\nHost: api.test\r\n"), /^HTTP\/1\.1 /);
  }
  for (const socket of [held, ...silent, ...others]) socket.destroy();
});

test("a proxy closes though those that it refused hold their side open", {
  timeout: 60_000,
}, async () => {
  const perSession = { connectionsMax: 1 };
  await using world = await openWorld(openOf({ connectionsMax: 100 }), { policy, perSession });
  const held = await openTunnel(world, "api.test:443");
  assert.match(held.head, /^HTTP\/1\.1 200 /);
  const asked = [
    ...(await askMany(world, WORD)),
    ...(await askMany(world, `Basic ${btoa("worker:wrong")}`)),
  ];
  await eventually(
    () => asked.filter(({ answer }) => answer === "").length,
    (count) => count === 0,
  );
  await world.proxy[Symbol.asyncDispose]();
  await assertGone([...asked, held]);
});

/** Both ends of a connection. */
async function openPair(): Promise<AsyncDisposable & { client: Socket; socket: Socket }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  client.on("error", () => undefined);
  const [socket] = (await once(server, "connection")) as [Socket];
  socket.on("error", () => undefined);
  return {
    ...{ client, socket },
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("one that goes while its name is looked up is counted by nobody", async () => {
  const guard = createTestGuard({ policy, perSession: { connectionsMax: 1 } });
  const session = await guard.session("worker", "pass");
  assert.ok(session !== null);
  const { promise, resolve } = Promise.withResolvers<typeof session>();
  const presence = createPresence({ session: () => promise }, 10);
  await using pair = await openPair();
  const { client, socket } = pair;
  presence.meet(socket);
  const asked = presence.authenticate(socket, WORD);
  socket.resume();
  const closed = new Promise<void>((done) => socket.once("close", () => done()));
  client.resetAndDestroy();
  await closed;
  resolve(session);
  assert.deepEqual(await asked, { session, denial: null }, "what it asked is its session's");
  assert.equal(getEventListeners(session.signal, "abort").length, 0);
  assert.equal(session.places.enter("connection").outcome, "entered");
});

test("what is asked at the same time on one connection counts it once", async () => {
  const guard = createTestGuard({ policy, perSession: { connectionsMax: 1 } });
  const presence = createPresence(guard, 10);
  await using pair = await openPair();
  presence.meet(pair.socket);
  const both = [WORD, WORD].map((word) => presence.authenticate(pair.socket, word));
  for (const present of await Promise.all(both)) assert.equal(present?.denial, null);
});

test("all of them are closed at once, whoever's they are", async () => {
  const guard = createTestGuard({ policy, perSession: { connectionsMax: 1 } });
  const presence = createPresence(guard, 10);
  await using own = await openPair();
  await using denied = await openPair();
  await using stranger = await openPair();
  const sockets = [own, denied, stranger].map(({ socket }) => socket);
  for (const socket of sockets) presence.meet(socket);
  const first = await presence.authenticate(own.socket, WORD);
  assert.equal(first?.denial, null);
  const second = await presence.authenticate(denied.socket, WORD);
  assert.equal(second?.denial?.decision.reason, "too_many");
  const third = await presence.authenticate(stranger.socket, "Basic d3Jvbmc6");
  assert.equal(third, null);
  presence.closeAll();
  assert.deepEqual(
    sockets.map(({ destroyed }) => destroyed),
    [true, true, true],
  );
});
