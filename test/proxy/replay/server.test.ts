/**
 * Goal: in the gateway's place the record answers a trial's key, streams as they were, and errors
 * in the dialect's envelope; nobody else is answered, and nothing is forwarded.
 *
 * Method: the server over real HTTP; keys that say who asks.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Cassette, Divergence } from "../../../orchestrator/contract/cassettes.ts";
import type { Grant, Keys } from "../../../orchestrator/keys/keys.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds, type KeyId, type TrialId } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { createReplays } from "../../../proxy/replay/replays.ts";
import { createReplayServer } from "../../../proxy/replay/server.ts";
import { cassetteOf, type ExchangeDraft } from "../../support/cassettes.ts";

const SOURCE = "trial_01m800p1qhetn8r52gxtfk7ezm" as TrialId;
const REPLAY = "trial_01m800pk34fnhvf9ef5gkq4w02" as TrialId;
const PATH = "/v1/chat/completions";

async function open(drafts: readonly ExchangeDraft[], read = () => cassetteOf(drafts)) {
  const told: [TrialId, Divergence][] = [];
  const ids = createIds(systemClock, systemRandom);
  const replays = createReplays({
    clock: systemClock,
    sourceOf: async (id) => (id === REPLAY ? SOURCE : null),
    cassetteOf: async (): Promise<Cassette> => read(),
    onDiverged: async (id, divergence) => void told.push([id, divergence]),
  });
  const keys: Pick<Keys, "find"> = {
    find: async (secret) =>
      secret.startsWith("key")
        ? { outcome: "granted", keyId: secret as KeyId, grant: { trialId: REPLAY } as Grant }
        : { outcome: "unknown" },
  };
  const server = createReplayServer({ keys, replays, ids, log: createLog("silent") });
  const { url } = await server.listen();
  return { ask, replays, told, url, [Symbol.asyncDispose]: () => server.close() };

  function ask(body: unknown, { path = PATH, key = "key1", method = "POST" } = {}) {
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const sent = method === "GET" ? {} : { body: JSON.stringify(body) };
    return fetch(`${url}${path}`, { method, headers, ...sent });
  }
}

test("an answer is played with its status, its headers and its stream's events", async () => {
  const stream = 'data: {"a":1}\n\ndata: {"a":2}\n\ndata: [DONE]\n\n';
  await using t = await open([
    { body: { m: 1 }, answer: stream, mediaType: "text/event-stream" },
    { body: { m: 2 }, answer: '{"error":{}}', status: 403 },
  ]);
  const streamed = await t.ask({ m: 1 });
  assert.equal(streamed.status, 200);
  assert.equal(streamed.headers.get("content-type"), "text/event-stream");
  assert.equal(streamed.headers.get("x-request-id"), "call_1");
  assert.equal(streamed.headers.get("content-length"), null);
  assert.equal(await streamed.text(), stream);
  const refused = await t.ask({ m: 2 });
  assert.deepEqual([refused.status, await refused.json()], [403, { error: {} }]);
  assert.deepEqual(t.told, []);
});

test("what the record has not is an error of the dialect, told once; nobody retries it", async () => {
  await using t = await open([{ body: { m: "what was" } }]);
  const openai = await t.ask({ m: "what is" });
  assert.equal(openai.status, 400);
  assert.equal(openai.headers.get("x-should-retry"), "false");
  const { error } = (await openai.json()) as { error: { code: string; message: string } };
  assert.equal(error.code, "replay_diverged");
  assert.match(error.message, /At 1 it was: .*what was\. Now it is: .*what is/);
  const anthropic = await t.ask({ m: "x" }, { path: "/v1/messages" });
  const body = (await anthropic.json()) as { type: string; error: { code: string } };
  assert.deepEqual([body.type, body.error.code], ["error", "replay_diverged"]);
  const where = `POST ${PATH}, m: `;
  const divergence = { position: 1, expected: `${where}what was`, asked: `${where}what is` };
  assert.deepEqual(t.told, [[REPLAY, divergence]]);
});

test("a connection that broke when it was recorded breaks", async () => {
  await using t = await open([{ body: { m: 1 }, answer: null }]);
  await assert.rejects(t.ask({ m: 1 }), /fetch failed/);
});

test("a new key begins anew, of both doors; requests at the proxy belong to the run", async () => {
  const npm = { door: "egress", host: "npm.example", method: "GET", path: "/x" } as const;
  await using t = await open([
    { body: { m: 1 }, answer: "1" },
    { ...npm, answer: "n" },
  ]);
  const head = {
    ...{ method: "GET", scheme: "https" as const, target: { host: "NPM.example", port: 443 } },
    ...{ authority: null, serverName: null, path: "/x", headers: [], bodyByteCount: null },
  };
  for (const key of ["key1", "key2"]) {
    assert.equal(await (await t.ask({ m: 1 }, { key })).text(), "1");
    const played = await t.replays.decide(SOURCE, REPLAY, head);
    assert.equal(played.outcome === "answer" && played.body.toString(), "n");
    assert.deepEqual([played.decision.action, played.decision.reason], ["allow", "replayed"]);
    assert.equal((await t.ask({ m: 1 }, { key })).status, 400);
  }
  const other = await t.replays.decide(SOURCE, REPLAY, { ...head, path: "/y" });
  assert.equal(other.outcome, "refuse");
  assert.equal(other.decision.reason, "diverged");
  assert.equal(other.outcome === "refuse" && other.refusal.status, 403);
});

test("models are those of the record; a stranger's key is refused", async () => {
  await using t = await open([{ body: { model: "a" } }, { body: { model: "b" } }]);
  const listed = (await (await t.ask(null, { method: "GET", path: "/v1/models" })).json()) as {
    data: { id: string }[];
  };
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    ["a", "b"],
  );
  assert.equal((await t.ask(null, { method: "GET", path: "/v1/models/b" })).status, 200);
  assert.equal((await t.ask(null, { method: "GET", path: "/v1/models/c" })).status, 404);
  assert.equal((await t.ask({ model: "a" }, { key: "stranger" })).status, 401);
  assert.equal((await fetch(t.url)).status, 200);
});

test("a record that is no longer whole is said, and nothing is made up", async () => {
  await using t = await open([], () => {
    throw new Problem("conflict", "flow_1: its answer's body is gone");
  });
  const answer = await t.ask({ m: 1 });
  assert.equal(answer.status, 503);
  assert.equal(answer.headers.get("x-should-retry"), "false");
  assert.match(await answer.text(), /flow_1: its answer's body is gone/);
});

test("what passes by itself may be asked for again", async () => {
  await using t = await open([], () => {
    throw new Problem("unavailable", "there is no room for another record");
  });
  const answer = await t.ask({ m: 1 });
  assert.deepEqual([answer.status, answer.headers.get("x-should-retry")], [503, null]);
  assert.match(await answer.text(), /there is no room for another record/);
});
