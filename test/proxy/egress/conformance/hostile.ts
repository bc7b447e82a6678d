/**
 * What a worker may try: names that disagree, bytes that are no HTTP, requests that two servers
 * would read in two ways. None of it arrives anywhere, and all of it is recorded as refused.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { connect as connectTls } from "node:tls";
import { eventually } from "../../../support/eventually.ts";
import { openSocket, openTls, openTunnel, readAll, sendRaw } from "../clients.ts";
import { type OpenEngine, openWorld, startUpstream, type World } from "../world.ts";

interface Scene extends AsyncDisposable {
  world: World;
  port: number;
  arrived: string[];
}

async function openScene(open: OpenEngine): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const arrived: string[] = [];
  const server = stack.use(
    await startUpstream((request, response) => {
      arrived.push(`${request.method} ${request.headers.host}${request.url}`);
      request.resume();
      response.end("arrived");
    }),
  );
  server.server.on("upgrade", (request, socket) => {
    arrived.push(`upgrade ${request.url}`);
    socket.destroy();
  });
  const hosts = ["api.test", "127.0.0.1"];
  const rules = [{ action: "allow" as const, hosts, ports: [server.port], is_private: true }];
  const world = stack.use(await openWorld(open, { policy: { rules } }));
  return {
    ...{ world, port: server.port, arrived },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Nothing arrived, and every record is a refusal for one of these reasons. */
async function assertRefused({ world, arrived }: Scene, ...reasons: string[]): Promise<void> {
  const { drafts } = world.guard;
  await eventually(
    () => drafts.length,
    (count) => count > 0,
  );
  for (const { decision } of drafts) {
    assert.equal(decision.action, "deny", JSON.stringify(decision));
    assert.ok(reasons.includes(decision.reason), decision.reason);
  }
  assert.deepEqual(arrived, []);
}

export function testHostile(name: string, open: OpenEngine): void {
  test(`${name}: S3: TLS for another server than the tunnel's is refused, readably`, async () => {
    await using scene = await openScene(open);
    const { world, port } = scene;
    const secure = await openTls(world, `api.test:${port}`, { servername: "evil.test" });
    const answer = readAll(secure);
    secure.write("GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    assert.match(await answer, /^HTTP\/1\.1 403 [\s\S]*"code":"name_mismatch"/);
    await assertRefused(scene, "name_mismatch");
  });

  test(`${name}: S3: TLS that names no server, or an address, is refused`, async () => {
    for (const servername of ["", "127.0.0.1"]) {
      await using scene = await openScene(open);
      const { world, port } = scene;
      const { socket } = await openTunnel(world, `api.test:${port}`);
      const secure = connectTls({ socket, rejectUnauthorized: false, servername: "" });
      secure.on("error", () => undefined);
      const answer = readAll(secure);
      secure.once("secureConnect", () => {
        secure.write(`GET / HTTP/1.1\r\nHost: api.test:${port}\r\nConnection: close\r\n\r\n`);
      });
      const told = await answer;
      if (told !== "") assert.match(told, /"code":"no_server_name"/, servername);
      await assertRefused(scene, "no_server_name");
    }
  });

  test(`${name}: S3: a hidden server's name (ECH) below another than the tunnel's is refused`, async () => {
    await using scene = await openScene(open);
    const { socket } = await openTunnel(scene.world, `api.test:${scene.port}`);
    const closed = once(socket, "close");
    socket.resume();
    socket.write(clientHello("outer.test", [ENCRYPTED_HELLO, NO_KEY_YET]));
    await Promise.race([closed, eventually(() => scene.world.guard.drafts.length, Boolean)]);
    await assertRefused(scene, "name_mismatch");
    socket.destroy();
  });

  test(`${name}: S3: an ECH that hides nothing (GREASE), as Chrome sends, is TLS as any`, async () => {
    await using scene = await openScene(open);
    const { socket } = await openTunnel(scene.world, `api.test:${scene.port}`);
    const told = once(socket, "data");
    socket.write(clientHello("api.test", [ENCRYPTED_HELLO, NO_KEY_YET]));
    const [answer] = (await told) as [Buffer];
    // A handshake's record (22), and in it the server's hello (2), which asks for a key.
    assert.deepEqual([answer[0], answer[5]], [22, 2]);
    socket.destroy();
    const [draft] = await eventually(
      () => scene.world.guard.drafts,
      (drafts) => drafts.length > 0,
    );
    assert.equal(draft?.decision.action, "allow");
    assert.equal(draft?.server.server_name, "api.test");
  });

  test(`${name}: S3: an ECH is passed through unopened only where the rule says so`, async () => {
    await using server = await startUpstream((_, response) => response.end());
    for (const allows of [false, true]) {
      const shared = { ports: [server.port], is_private: true, allows_encrypted_hello: allows };
      const rules = [{ action: "passthrough" as const, hosts: ["api.test"], ...shared }];
      await using world = await openWorld(open, { policy: { rules } });
      const { socket } = await openTunnel(world, `api.test:${server.port}`);
      socket.on("error", () => undefined);
      socket.write(clientHello("api.test", [ENCRYPTED_HELLO, NO_KEY_YET]));
      if (allows) {
        const [bytes] = (await once(socket, "data")) as [Buffer];
        assert.deepEqual([bytes[0], bytes[5]], [22, 2], "the server's hello");
        socket.destroy();
      }
      const [draft] = await eventually(
        () => world.guard.drafts,
        (drafts) => drafts.length > 0,
      );
      socket.destroy();
      const { action, reason, detail } = draft?.decision ?? {};
      const told = allows ? ["passthrough", "rule"] : ["deny", "no_server_name"];
      assert.deepEqual([action, reason], told);
      assert.match(detail ?? "", allows ? /a name that it hides$/ : /set allows_encrypted_hello/);
      assert.equal(draft?.server.server_name, "api.test");
    }
  });

  test(`${name}: S3: a Host that is not the tunnel's is refused`, async () => {
    await using scene = await openScene(open);
    const { world, port } = scene;
    const raw = await sendRaw(
      world,
      `api.test:${port}`,
      "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n",
    );
    assert.match(raw, /^HTTP\/1\.1 403 [\s\S]*"code":"name_mismatch"/);
    await assertRefused(scene, "name_mismatch");
  });

  test(`${name}: S3: an :authority that is not the tunnel's is refused`, async () => {
    await using scene = await openScene(open);
    const { world, port } = scene;
    for (const [authority, host] of [
      ["evil.test", undefined],
      [`api.test:${port}`, "evil.test"],
    ] as const) {
      const secure = await openTls(world, `api.test:${port}`, { ALPNProtocols: ["h2"] });
      const session = connectHttp2(`https://api.test:${port}`, { createConnection: () => secure });
      session.on("error", () => undefined);
      const stream = session.request({
        ...{ ":path": "/", ":authority": authority },
        ...(host === undefined ? {} : { host }),
      });
      stream.on("error", () => undefined);
      const [headers] = await Promise.race([once(stream, "response"), once(stream, "close")]);
      if (typeof headers === "object") assert.ok([400, 403].includes(headers[":status"]));
      session.destroy();
    }
    await assertRefused(scene, "name_mismatch", "bad_request");
  });

  test(`${name}: S3: bytes that are neither TLS nor HTTP are refused`, async () => {
    for (const bytes of [
      "SSH-2.0-OpenSSH_9.2\r\n",
      "\x16\x03\x01\xff\xff\x01",
      "\0\0\0\0\0\0\0\0",
    ]) {
      await using scene = await openScene(open);
      const { socket } = await openTunnel(scene.world, `api.test:${scene.port}`);
      const answer = readAll(socket);
      socket.write(bytes, "latin1");
      socket.end();
      const told = await answer;
      assert.ok(told === "" || /^HTTP\/1\.1 4/.test(told) || told.startsWith("\x15"), told);
      const { drafts } = scene.world.guard;
      await eventually(
        () => drafts.length,
        (count) => count > 0,
      );
      assert.deepEqual(scene.arrived, []);
      assert.ok(drafts.every(({ request }) => request === null));
    }
  });

  test(`${name}: S3: a WebSocket to a refused host does not get there`, async () => {
    await using scene = await openScene(open);
    const { socket, head } = await openTunnel(scene.world, "evil.test:443");
    assert.match(head, /^HTTP\/1\.1 403 /);
    socket.destroy();
    const { world, port } = scene;
    const raw = await sendRaw(
      world,
      `api.test:${port}`,
      "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert.match(raw, /^HTTP\/1\.1 403 /);
    await assertRefused(scene, "no_rule", "name_mismatch");
  });

  for (const [what, request] of SMUGGLED) {
    test(`${name}: S9: a request is refused that has ${what}`, async () => {
      await using scene = await openScene(open);
      const { world, port } = scene;
      const raw = await sendRaw(
        world,
        `api.test:${port}`,
        request.replaceAll("HOST", `api.test:${port}`),
      );
      assert.ok(raw === "" || /^HTTP\/1\.1 4\d\d /.test(raw), raw);
      await assertRefused(scene, "bad_request", "bad_target", "name_mismatch", "too_large");
    });
  }

  test(`${name}: S9: a body that comes after its answer is never owed to the next request`, async () => {
    await using server = await startEarlyServer();
    const { port, parsed } = server;
    const hosts = ["api.test"];
    const rules = [
      { action: "allow" as const, hosts, ports: [port], is_private: true, paths: ["/ok"] },
    ];
    await using world = await openWorld(open, { policy: { rules } });
    for (const rest of [NEXT.length, 5_000]) {
      const socket = await openSocket(world);
      let told = "";
      socket.on("data", (chunk: Buffer) => {
        told += chunk.toString("latin1");
      });
      const at = `http://api.test:${port}/ok HTTP/1.1\r\nHost: api.test:${port}\r\n`;
      const credentials = `Proxy-Authorization: Basic ${btoa("worker:pass")}\r\n`;
      socket.write(`POST ${at}${credentials}Content-Length: ${rest + 1}\r\n\r\na`);
      await eventually(
        () => told,
        (text) => text.includes("early"),
      );
      socket.write("a".repeat(rest));
      // Whatever of the first is owed, some of these lines would begin a request.
      const body = `\r\n\r\n${NEXT.replaceAll("HOST", `api.test:${port}`)}`.repeat(200);
      const again = socket.destroyed ? await openSocket(world) : socket;
      again.write(`POST ${at}${credentials}Content-Length: ${body.length}\r\n\r\n${body}`);
      const other = await openSocket(world);
      let last = "";
      other.on("data", (chunk: Buffer) => {
        last += chunk.toString("latin1");
      });
      other.write(`POST ${at}${credentials}Content-Length: 0\r\n\r\n`);
      await eventually(
        () => last,
        (text) => text.includes("early"),
      );
      other.destroy();
      socket.destroy();
      again.destroy();
    }
    await eventually(
      () => world.guard.drafts.length,
      (count) => count >= 6,
    );
    assert.ok(parsed.length >= 4, parsed.join("\n"));
    assert.deepEqual([...new Set(parsed)], ["POST /ok HTTP/1.1"]);
  });

  test(`${name}: a request's trailers do not leave: nobody decided them`, async () => {
    const arrived: string[] = [];
    await using server = await startUpstream((request, response) => {
      request.resume().on("end", () => {
        arrived.push(...request.rawTrailers);
        response.end("whole");
      });
    });
    const { port } = server;
    const rules = [
      { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true },
    ];
    await using world = await openWorld(open, { policy: { rules } });
    const raw = await sendRaw(
      world,
      `api.test:${port}`,
      `POST / HTTP/1.1\r\nHost: api.test:${port}\r\nConnection: close\r\n` +
        "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Told: late\r\n\r\n",
    );
    assert.match(raw, /whole/);
    assert.deepEqual(arrived, []);
  });

  test(`${name}: a tunnel inside of a tunnel is refused`, async () => {
    await using scene = await openScene(open);
    const raw = await sendRaw(
      scene.world,
      `api.test:${scene.port}`,
      "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
    );
    assert.ok(raw === "" || /^HTTP\/1\.1 4\d\d /.test(raw), raw);
    await assertRefused(scene, "bad_request", "bad_target", "name_mismatch");
  });

  test(`${name}: a client that does not trust us is recorded by its server's name`, async () => {
    await using scene = await openScene(open);
    const { socket } = await openTunnel(scene.world, `api.test:${scene.port}`);
    const secure = connectTls({ socket, servername: "api.test", ca: [] });
    secure.on("error", () => undefined);
    await new Promise((resolve) => secure.once("close", resolve));
    const [draft] = await eventually(
      () => scene.world.guard.drafts,
      (all) => all.length > 0,
    );
    assert.deepEqual([draft?.kind, draft?.server.server_name], ["tunnel", "api.test"]);
    assert.notEqual(draft?.error, null);
    assert.deepEqual(scene.arrived, []);
  });

  test(`${name}: what is passed through is not opened, and its bytes are counted`, async () => {
    await using server = await startUpstream((_, response) => response.end("untouched"));
    const rules = [
      {
        action: "passthrough" as const,
        hosts: ["api.test"],
        ports: [server.port],
        is_private: true,
      },
    ];
    await using world = await openWorld(open, { policy: { rules } });
    const { certificatePem } = world.upstream;
    const secure = await openTls(world, `api.test:${server.port}`, { ca: certificatePem });
    const answer = readAll(secure);
    secure.write("GET / HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n");
    assert.match(await answer, /untouched$/);
    const [draft] = await eventually(
      () => world.guard.drafts,
      (all) => all.length > 0,
    );
    assert.equal(draft?.kind, "tunnel");
    assert.equal(draft?.decision.action, "passthrough");
    assert.equal(draft?.request, null);
    assert.ok((draft?.sentCount ?? 0) > 200 && (draft?.receivedCount ?? 0) > 500);
    assert.equal(draft?.error, null);
  });
}

/** Answers each head at once, then reads over the body, on connections that it keeps. */
async function startEarlyServer() {
  const parsed: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let text = "";
    let owed = 0;
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      for (;;) {
        const dropped = Math.min(owed, text.length);
        owed -= dropped;
        text = text.slice(dropped);
        const end = text.indexOf("\r\n\r\n");
        if (owed > 0 || end === -1) return;
        const head = text.slice(0, end);
        text = text.slice(end + 4);
        parsed.push(head.split("\r\n")[0] ?? "");
        owed = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    parsed,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const POST = "POST / HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n";
const NEXT = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n";

const SMUGGLED: readonly (readonly [string, string])[] = [
  [
    "a length and a coding",
    `${POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  ["two lengths", `${POST}Content-Length: 0\r\nContent-Length: 4\r\n\r\nabcd`],
  ["the same length twice", `${POST}Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd`],
  ["a list of lengths", `${POST}Content-Length: 4, 4\r\n\r\nabcd`],
  ["a length with a sign", `${POST}Content-Length: +4\r\n\r\nabcd`],
  ["a length in hexadecimal", `${POST}Content-Length: 0x4\r\n\r\nabcd`],
  ["another coding", `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
  ["a coding in disguise", `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
  [
    "a coding twice",
    `${POST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  ],
  ["a space before a colon", `${POST}Content-Length : 0\r\n\r\n${NEXT}`],
  ["a folded header", `${POST}X-A: b\r\n Content-Length: 4\r\n\r\nabcd`],
  ["a bare line feed", `GET / HTTP/1.1\nHost: HOST\nConnection: close\n\n`],
  ["a bare carriage return", `GET / HTTP/1.1\r\nHost: HOST\r\nX: a\rContent-Length: 4\r\n\r\n`],
  ["a null in a header", `GET / HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n`],
  ["two hosts", `GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.test\r\n\r\n`],
  ["no host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"],
  ["another URL inside of a tunnel", "GET http://evil.test/ HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a method that is none", "G(T / HTTP/1.1\r\nHost: HOST\r\n\r\n"],
  ["a version that is none", "GET / HTTP/1.2\r\nHost: HOST\r\n\r\n"],
  ["a head that is too large", `GET / HTTP/1.1\r\nHost: HOST\r\nX: ${"a".repeat(80_000)}\r\n\r\n`],
];

/** A ClientHello (RFC 8446, 4.1.2) that no client of ours would send. */
/** Of the outer kind (RFC 9849, 5): a suite, a configuration's number, a key, what is encrypted. */
const ENCRYPTED_HELLO = [
  0xfe0d,
  Buffer.concat([
    ...[Buffer.from([0, 0, 1, 0, 1, 42]), u16(32), Buffer.alloc(32, 9)],
    ...[u16(144), Buffer.alloc(144, 7)],
  ]),
] as const;
/** A server of TLS 1.3 answers with its hello, and asks for one. */
const NO_KEY_YET = [51, u16(0)] as const;

function clientHello(serverName: string, further: readonly (readonly [number, Buffer])[]): Buffer {
  const name = Buffer.from(serverName);
  const sni = Buffer.concat([u16(name.length + 3), Buffer.from([0]), u16(name.length), name]);
  const extensions = [
    [0, sni],
    [10, Buffer.concat([u16(2), u16(0x001d)])],
    [13, Buffer.concat([u16(2), u16(0x0403)])],
    [43, Buffer.from([2, 3, 4])],
    ...further,
  ] as const;
  const packed = Buffer.concat(
    extensions.map(([id, data]) => Buffer.concat([u16(id), u16(data.length), data])),
  );
  const body = Buffer.concat([
    ...[u16(0x0303), Buffer.alloc(32, 1), Buffer.from([0])],
    ...[u16(2), u16(0x1301), Buffer.from([1, 0]), u16(packed.length), packed],
  ]);
  const length = Buffer.from([0, body.length >> 8, body.length & 0xff]);
  const handshake = Buffer.concat([Buffer.from([1]), length, body]);
  return Buffer.concat([Buffer.from([0x16, 3, 1]), u16(handshake.length), handshake]);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}
