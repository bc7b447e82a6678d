/** Goal: the k-th equal request has the k-th answer; nothing is made up; the first lack is told. */
import assert from "node:assert/strict";
import test from "node:test";
import { type Asked, createPlayback, createProgress } from "../../../proxy/replay/playback.ts";
import { cassetteOf } from "../../support/cassettes.ts";

const PATH = "/v1/chat/completions";
const OLD = "/data/allocation_01m800pk4jfderxa8xg1q27ncp";
const NOW = "/srv/allocation_01m800rkddf8m9w58d2b5m7gan";

function call(body: unknown, path = PATH): Asked {
  const text = body === undefined ? null : JSON.stringify(body);
  return { door: "gateway", method: "POST", origin: null, path, body: text };
}

function read(path: string, method = "GET"): Asked {
  return { door: "egress", method, origin: "https://npm.example:443", path, body: null };
}

function textOf(played: ReturnType<ReturnType<typeof createPlayback>["ask"]>): string {
  assert.equal(played.outcome, "played", JSON.stringify(played));
  return played.outcome === "played" ? String(played.response?.body ?? "cut") : "";
}

test("requests are answered in any order, equal ones in the order they were recorded", () => {
  const playback = createPlayback(
    cassetteOf([
      { body: { m: "one" }, answer: "1" },
      { body: { m: "two" }, answer: "2" },
      { body: { m: "one" }, answer: "3" },
      { body: { m: "gone" }, answer: null },
    ]),
  );
  const asked = [{ m: "two" }, { m: "one" }, { m: "one" }, { m: "gone" }];
  assert.deepEqual(
    asked.map((body) => textOf(playback.ask(call(body)))),
    ["2", "1", "3", "cut"],
  );
  assert.equal(playback.left(), 0);
});

test("a changed instruction diverges at the first exchange; what follows is told as no first", () => {
  const playback = createPlayback(
    cassetteOf([{ body: { messages: [{ content: "fix the median" }] } }, { body: { m: 2 } }]),
  );
  const [first, second] = [1, 2].map(() =>
    playback.ask(call({ messages: [{ content: "fix the mean" }] })),
  );
  assert.deepEqual(first, {
    outcome: "diverged",
    isFirst: true,
    divergence: {
      position: 1,
      expected: `POST ${PATH}, messages[0].content: fix the median`,
      asked: `POST ${PATH}, messages[0].content: fix the mean`,
    },
  });
  assert.equal(second?.outcome === "diverged" && second.isFirst, false);
});

test("a paid answer is played once; beyond the record there is nothing", () => {
  const playback = createPlayback(cassetteOf([{ body: { m: 1 } }]));
  textOf(playback.ask(call({ m: 1 })));
  assert.deepEqual(playback.ask(call({ m: 1 })), {
    outcome: "diverged",
    isFirst: true,
    divergence: { position: 2, expected: "nothing more", asked: `POST ${PATH}` },
  });
});

test("another path, and a body where none was", () => {
  const playback = createPlayback(cassetteOf([{ body: { m: 1 } }, { path: "/v1/x" }]));
  const other = playback.ask(call({ m: 1 }, "/v1/messages"));
  assert.deepEqual(other.outcome === "diverged" ? other.divergence : null, {
    position: 1,
    expected: `POST ${PATH}`,
    asked: "POST /v1/messages",
  });
  assert.equal(playback.ask(call({ m: 1 }, "/v1/x")).outcome, "diverged");
  assert.equal(playback.ask(call(undefined, "/v1/x")).outcome, "played");
});

test("at the egress door host, method and path decide; what was read may be read again", () => {
  const at = { door: "egress", host: "npm.example" } as const;
  const playback = createPlayback(
    cassetteOf([
      { ...at, method: "GET", path: "/left-pad", query: "v=1", answer: "a" },
      { ...at, method: "GET", path: "/left-pad", query: "v=1", answer: "b" },
      { ...at, method: "POST", path: "/audit", body: { any: 1 }, answer: "c" },
      { body: { m: 1 }, answer: "d" },
    ]),
  );
  const got = [1, 2, 3].map(() => textOf(playback.ask(read("/left-pad?v=1"))));
  assert.deepEqual(got, ["a", "b", "b"]);
  // The body of the recorded request is not asked for here.
  assert.equal(textOf(playback.ask(read("/audit", "POST"))), "c");
  assert.equal(playback.ask(read("/audit", "POST")).outcome, "diverged");
  const elsewhere = { ...read("/left-pad?v=1"), origin: "https://other.example:443" };
  assert.equal(playback.ask(elsewhere).outcome, "diverged");
  assert.equal(textOf(playback.ask(call({ m: 1 }))), "d");
});

test("an answer names the replay's folder, also later than the request that told it", () => {
  const playback = createPlayback(
    cassetteOf([
      { body: { cwd: `${OLD}/workspace` }, answer: `{"open":"${OLD}/workspace/a"}` },
      {
        body: { m: 2 },
        answer: `data: {"t":"${OLD.slice(0, 9)}"}\n\ndata: {"t":"${OLD.slice(9)}"}\n\n`,
        mediaType: "text/event-stream",
      },
    ]),
  );
  assert.equal(
    textOf(playback.ask(call({ cwd: `${NOW}/workspace` }))),
    `{"open":"${NOW}/workspace/a"}`,
  );
  const pieces = textOf(playback.ask(call({ m: 2 })));
  const told = [...pieces.matchAll(/"t":"([^"]*)"/g)].map(([, text]) => text).join("");
  assert.equal(told, NOW);
});

test("a run goes on with its record read anew: what was played, told and learned stays", () => {
  const cassette = cassetteOf([
    { body: { cwd: `${OLD}/workspace` }, answer: "1" },
    { body: { m: 2 }, answer: `${OLD}/x` },
  ]);
  const progress = createProgress();
  const playback = () => createPlayback(cassette, undefined, progress);
  assert.equal(textOf(playback().ask(call({ cwd: `${NOW}/workspace` }))), "1");
  const again = [1, 2].map(() => playback().ask(call({ cwd: `${NOW}/workspace` })));
  assert.deepEqual(
    again.map((played) => played.outcome === "diverged" && played.isFirst),
    [true, false],
  );
  assert.equal(playback().left(), 1);
  assert.equal(textOf(playback().ask(call({ m: 2 }))), `${NOW}/x`);
});

test("a request is compared after what its record was redacted by", () => {
  const redact = (text: string) => text.replaceAll("hunter2", "[redacted:password]");
  const playback = createPlayback(
    cassetteOf([{ body: { m: "the password is [redacted:password]" } }]),
    redact,
  );
  assert.equal(playback.ask(call({ m: "the password is hunter2" })).outcome, "played");
});
