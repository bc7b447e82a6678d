/**
 * Goal: a connection that is gone before it is known whose it is leaves nothing behind at the
 * bridge: no place that its session is short of, and no tunnel. What a server answers is no record
 * that nobody can keep.
 *
 * Method: the addon's end of a real socket, by the test; and a guard that answers when the test
 * says so, with connections that end before.
 */
import assert from "node:assert/strict";
import { createConnection, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { serveBridge } from "../../../proxy/egress/bridge.ts";
import { encodeFrame, type Said } from "../../../proxy/egress/bridge-frames.ts";
import type { EgressGuard } from "../../../proxy/egress/guard.ts";
import { eventually } from "../../support/eventually.ts";
import { createTestGuard, createTestSink, ids, log } from "./world.ts";

const AUTHORIZATION = `Basic ${Buffer.from("worker:pass").toString("base64")}`;
const LIMIT = 3;

/** What the bridge answers has its outcome and more. */
type Told = Said & { readonly outcome?: string; readonly status?: number };

async function openBridge() {
  await using stack = new AsyncDisposableStack();
  const made = createTestGuard({
    policy: { rules: [{ action: "allow", hosts: ["api.test"], is_private: true }] },
    perSession: { connectionsMax: LIMIT, exchangesMax: LIMIT },
  });
  let answering = Promise.withResolvers<void>();
  answering.resolve();
  let asked = 0;
  const guard: EgressGuard = {
    ...made,
    session: async (username, password) => {
      asked += 1;
      await answering.promise;
      return made.session(username, password);
    },
  };
  const authority = { certificatePem: "", keyPem: "" };
  const served = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    const deps = { guard, sink: createTestSink(), authority, ids, clock: systemClock, log };
    const sessionByAddress = () => guard.session("worker", "pass");
    serveBridge(socket, deps, { sessionByAddress, onReady: () => undefined });
    served.resolve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const socket = createConnection(address.port, "127.0.0.1");
  stack.defer(() => void socket.destroy());
  const answers = new Map<number, PromiseWithResolvers<Told>>();
  let unread = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    unread = Buffer.concat([unread, chunk]);
    // Two sizes: of all that follows, and of the JSON that comes first in it.
    while (unread.length >= 8 && unread.length >= 8 + unread.readUInt32BE(0)) {
      const told = JSON.parse(unread.toString("utf8", 8, 8 + unread.readUInt32BE(4))) as Told;
      unread = unread.subarray(8 + unread.readUInt32BE(0));
      answers.get(told.id ?? 0)?.resolve(told);
    }
  });
  await served.promise;
  const owned = stack.move();
  return {
    ...{ made, tell, ask, hold, release },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };

  function tell(said: object): void {
    socket.write(encodeFrame(said));
  }

  function ask(said: Said): Promise<Told> {
    const id = answers.size + 1;
    const answer = Promise.withResolvers<Told>();
    answers.set(id, answer);
    tell({ id, peer: "127.0.0.1", port: 443, host: "api.test", ...said });
    return answer.promise;
  }

  /** From now on nobody is told whose he is; resolves once so many more have asked. */
  function hold(count: number): Promise<unknown> {
    const before = asked;
    answering = Promise.withResolvers<void>();
    return eventually(
      () => asked,
      (now) => now === before + count,
    );
  }

  function release(): void {
    answering.resolve();
  }
}

const HELLO = { server_name: "api.test", protocols: ["h2"], has_encrypted_hello: false };
const QUESTIONS: Readonly<Record<string, Said>> = {
  connect: { kind: "connect", authorization: AUTHORIZATION },
  hello: { kind: "hello", is_transparent: true, is_request: true, hello: HELLO },
  request: {
    ...{ kind: "request", authorization: AUTHORIZATION, method: "GET", scheme: "http" },
    ...{ path: "/", port: 80, http_version: "HTTP/1.1", headers: [["Host", "api.test"]] },
  },
};

for (const [kind, question] of Object.entries(QUESTIONS)) {
  test(`${kind}: connections gone before it is known whose they are leave room for others`, {
    timeout: 20_000,
  }, async () => {
    await using bridge = await openBridge();
    const waiting = bridge.hold(LIMIT);
    const answers = [1, 2, 3].map((client) => bridge.ask({ ...question, client, flow: client }));
    await waiting;
    for (const client of [1, 2, 3]) bridge.tell({ kind: "gone", client });
    // What comes after it on the socket is read after it: the notices were heard.
    await bridge.ask({ kind: "open" });
    bridge.release();
    for (const answer of answers) assert.equal((await answer).outcome, "refuse");
    assert.deepEqual(
      bridge.made.drafts.map(({ decision }) => decision.detail),
      Array<string>(LIMIT).fill("The worker's connection ended before its request was decided"),
    );
    const rest = [4, 5, 6].map((client) => bridge.ask({ ...question, client, flow: client }));
    for (const answer of rest) assert.notEqual((await answer).outcome, "refuse");
    const full = await bridge.ask({ ...question, client: 7, flow: 7 });
    assert.equal(full.outcome, "refuse");
    assert.equal(bridge.made.drafts.at(-1)?.decision.reason, "too_many");
  });
}

test("a question that comes after its connection's end has no number, and takes no place", {
  timeout: 20_000,
}, async () => {
  await using bridge = await openBridge();
  const question = QUESTIONS["connect"] as Said;
  for (let count = 0; count <= LIMIT; count += 1) {
    assert.equal((await bridge.ask({ ...question, client: 0 })).outcome, "refuse");
  }
  assert.equal((await bridge.ask({ ...question, client: 1 })).outcome, "open");
});

test("an answer whose status is none is recorded without it, and says so", {
  timeout: 20_000,
}, async () => {
  await using bridge = await openBridge();
  const statuses = [99_999_999_999, 1_000, 99, 200.5, -1, 100, 999];
  for (const [at, status] of statuses.entries()) {
    const question = QUESTIONS["request"] as Said;
    const answer = await bridge.ask({ ...question, client: 1, flow: at + 1 });
    assert.equal(answer.outcome, "forward");
    bridge.tell({ kind: "flow", client: 1, flow: at + 1, status, headers: [] });
  }
  await bridge.ask({ kind: "open" });
  assert.deepEqual(
    bridge.made.drafts.map(({ response, error }) => response?.status ?? error),
    statuses.map((status) => {
      if (status === 100 || status === 999) return status;
      return `The answer's status is none: ${status}. It is recorded without the answer`;
    }),
  );
});
