/**
 * Goal: no answer of a server, and nothing that a worker does to its stream meanwhile, ends the
 * embedded engine's process: what cannot be passed on is told as 502 and recorded.
 *
 * Method: servers that write raw bytes; an exception nobody catches fails the test that runs.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { test } from "node:test";
import { systemClock } from "../../../../orchestrator/runtime/clock.ts";
import { openEmbeddedProxy } from "../../../../proxy/egress/embedded.ts";
import { eventually } from "../../../support/eventually.ts";
import { openTls, sendRaw } from "../clients.ts";
import { ids, log, type OpenEngine, openWorld, startUpstream, type World } from "../world.ts";

const open: OpenEngine = ({ guard, sink, authority, extraCa }) =>
  openEmbeddedProxy(
    { guard, sink, authority, ids, clock: systemClock, log },
    { host: "127.0.0.1", port: 0, extraCa },
  );

const OK = "HTTP/1.1 200 OK\r\n";
const BODY = "Content-Length: 2\r\n\r\nok";

/** What, the server's bytes, the status that the worker sees. */
const ANSWERS: readonly (readonly [string, string, number])[] = [
  ["two types", `${OK}Content-Type: text/plain\r\nContent-Type: text/html\r\n${BODY}`, 200],
  ["two codings", `${OK}Content-Encoding: a\r\nContent-Encoding: b\r\n${BODY}`, 200],
  ["a status over all", `HTTP/1.1 999 Nope\r\n${BODY}`, 502],
  ["a status under all", `HTTP/1.1 099 Nope\r\n${BODY}`, 502],
  ["a status of nothing", `HTTP/1.1 000 Nope\r\n${BODY}`, 502],
  ["a body where none may be", `HTTP/1.1 205 Reset\r\n${BODY}`, 205],
  ["a header named as a prototype", `${OK}__proto__: x\r\n${BODY}`, 200],
  [
    "trailers said twice",
    `${OK}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\netag: a\r\netag: b\r\nage: 1\r\nage: 2\r\n\r\n`,
    200,
  ],
];

for (const [what, bytes, expected] of ANSWERS) {
  test(`embedded: an answer with ${what} ends nothing but itself, by HTTP/1.1 and HTTP/2`, async () => {
    await using server = await startUpstream(({ socket }) => void socket.write(bytes));
    await using world = await openAllowed(server.port);
    const at = `api.test:${server.port}`;
    const raw = await sendRaw(
      world,
      at,
      `GET / HTTP/1.1\r\nHost: ${at}\r\nConnection: close\r\n\r\n`,
    );
    assert.match(raw, new RegExp(`^HTTP/1\\.1 ${expected} `));
    const second = await askHttp2(world, at);
    assert.equal(second.status, expected);
    if (expected === 200) {
      assert.equal(second.text, "ok");
      assert.ok(raw.includes("ok"));
    }
    const drafts = await eventually(
      () => world.guard.drafts,
      (all) => all.length === 2,
    );
    for (const { response, error } of drafts) {
      assert.equal(response?.status, expected);
      if (expected === 502) assert.match(error ?? "", /^api\.test failed: it answered with/);
      else assert.equal(error, null);
    }
  });
}

test("embedded: a stream reset while its body waits is the worker's end", async () => {
  const answers: (() => void)[] = [];
  await using server = await startUpstream((request, response) => {
    // The body is not read: the worker's stream is paused by then.
    if (request.method === "POST") answers.push(() => response.end("late"));
    else response.end("served");
  });
  await using world = await openAllowed(server.port);
  const at = `api.test:${server.port}`;
  const secure = await openTls(world, at, { ALPNProtocols: ["h2"] });
  const session = connectHttp2(`https://${at}`, { createConnection: () => secure });
  session.on("error", () => undefined);
  const stream = session.request({ ":path": "/", ":method": "POST" });
  stream.on("error", () => undefined);
  for (let part = 0; part < 16; part++) stream.write(Buffer.alloc(1 << 20));
  await eventually(
    () => answers.length,
    (count) => count === 1,
  );
  stream.close(constants.NGHTTP2_CANCEL);
  const [draft] = await eventually(
    () => world.guard.drafts,
    (all) => all.length === 1,
  );
  assert.equal(draft?.error, "The worker broke off");
  answers[0]?.();
  session.destroy();
  assert.deepEqual(await askHttp2(world, at), { status: 200, text: "served" });
});

function openAllowed(port: number): Promise<World> {
  const rules = [
    { action: "allow" as const, hosts: ["api.test"], ports: [port], is_private: true },
  ];
  return openWorld(open, { policy: { rules } });
}

async function askHttp2(world: World, at: string): Promise<{ status: unknown; text: string }> {
  const secure = await openTls(world, at, { ALPNProtocols: ["h2"] });
  const session = connectHttp2(`https://${at}`, { createConnection: () => secure });
  session.on("error", () => undefined);
  const stream = session.request({ ":path": "/" });
  const [headers] = await once(stream, "response");
  let text = "";
  stream.setEncoding("utf8");
  for await (const chunk of stream) text += chunk;
  session.destroy();
  return { status: headers[":status"], text };
}
