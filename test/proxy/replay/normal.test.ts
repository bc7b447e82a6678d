/** Goal: two runs of one agent ask for the same once what is chance is taken out; no more is. */
import assert from "node:assert/strict";
import test from "node:test";
import { differenceOf, normalise, normalisePath } from "../../../proxy/replay/normal.ts";

const FOLDERS = [
  "/data/a/shared/allocations/allocation_01m800pk4jfderxa8xg1q27ncp",
  "/elsewhere/allocations/allocation_01m800rkddf8m9w58d2b5m7gan",
];

function both(text: (folder: string, run: number) => string): [string, string] {
  const [first = "", second = ""] = FOLDERS;
  return [normalise(text(first, 0)).text, normalise(text(second, 1)).text];
}

for (const [what, text] of Object.entries<(folder: string, run: number) => string>({
  "the allocation's folder, wherever it stands": (folder) =>
    JSON.stringify({ system: `CWD: ${folder}/workspace`, path: [`${folder}/home/.config`] }),
  "a folder that a CLI names after it": (folder) =>
    JSON.stringify({ text: `.claude/projects/${folder.replaceAll(/[/_.]/g, "-")}-workspace/x` }),
  "a scheduler's own folder": (_, run) =>
    JSON.stringify({ text: `/opt/alloc/9f1b0c2${run}-1111-4222-8333-444455556666/task/x.ts` }),
  "ids, sessions and devices": (_, run) =>
    JSON.stringify({
      id: `msg_825dd60${run}-bb85-5f45-ae44-ebac0ad9b60b`,
      user_id: JSON.stringify({ device_id: `${run}a`.repeat(32), session_id: "" }),
      text: `trial_01m800pk4jfderxa8xg1q27nc${run}`,
    }),
  "dates and times": (_, run) =>
    JSON.stringify({
      text: `Date: 2026-11-2${run}; Sat Nov 2${run} 2026 at 21:3${run}:05; November 2${run}, 2026`,
      at: 1_795_000_000_000 + run,
    }),
  "how long things took": (_, run) =>
    JSON.stringify({
      text: `duration_ms ${run}4.5125; ok 1 - x (${run}.3ms); Wall time: 0.0${run}2 seconds`,
    }),
  "what is left of money and time": (_, run) =>
    JSON.stringify({
      text: `Your allowance: 0.4${run}00 CAD of 0.5000 CAD for model calls, and ${run + 20} minutes.`,
      tool: `{"available_nanos":"4${run}","percent_used":${run},"seconds_left":1${run}}`,
    }),
  "ports and processes": (_, run) =>
    JSON.stringify({ text: `http://127.0.0.1:4${run}000/v1, pid 12${run}` }),
  "the order of what ran at once, in each dialect": (_, run) => {
    const inTurn = <Item>(items: Item[]) => (run === 0 ? items : items.toReversed());
    const result = (id: string) => ({ type: "tool_result", tool_use_id: id, content: id });
    return JSON.stringify({
      messages: [
        { role: "user", content: inTurn([result("a"), result("b")]) },
        ...inTurn([
          { role: "tool", tool_call_id: "c", content: "1" },
          { role: "tool", tool_call_id: "d", content: "2" },
        ]),
        ...inTurn([
          { type: "function_call_output", call_id: "e", output: "1" },
          { type: "function_call_output", call_id: "f", output: "2" },
        ]),
      ],
    });
  },
  "where a cache may end": (_, run) =>
    JSON.stringify({ content: { text: "x", ...(run === 0 ? {} : { cache_control: {} }) } }),
  "the order of an object's keys": (_, run) =>
    JSON.stringify(run === 0 ? { a: { b: 1, c: 2 }, d: 3 } : { d: 3, a: { c: 2, b: 1 } }),
  "text that is no JSON": (folder) => `cd ${folder}/workspace && ls`,
})) {
  test(`taken out: ${what}`, () => {
    const [first, second] = both(text);
    assert.equal(first, second);
  });
}

for (const [what, first, second] of [
  ["a word", { text: "fix the median" }, { text: "fix the mean" }],
  ["a number", { max_tokens: 8192 }, { max_tokens: 4096 }],
  [
    "a file below the folder",
    { p: `${FOLDERS[0]}/workspace/a` },
    { p: `${FOLDERS[0]}/workspace/b` },
  ],
  [
    "the order of messages",
    { m: [{ role: "user" }, { role: "x" }] },
    { m: [{ role: "x" }, { role: "user" }] },
  ],
  ["a key", { a: 1 }, { a: 1, b: 2 }],
  ["a version", { text: "node 24.1" }, { text: "node 24.2" }],
] as const) {
  test(`not taken out: ${what}`, () => {
    assert.notEqual(normalise(JSON.stringify(first)).text, normalise(JSON.stringify(second)).text);
  });
}

test("the first difference is named by its place, with what stands around it", () => {
  const said = (text: string) =>
    normalise(JSON.stringify({ messages: [{ role: "user", content: [{ text }] }], n: 1 }));
  const found = differenceOf(said("The median is wrong here."), said("The median is right here."));
  assert.deepEqual(found, {
    where: "messages[0].content[0].text",
    expected: "The median is wrong here.",
    asked: "The median is right here.",
  });
  assert.equal(differenceOf(said("x"), said("x")), null);
  assert.deepEqual(differenceOf(normalise('{"a":[1]}'), normalise('{"a":[1,2]}')), {
    where: "a[1]",
    expected: "(nothing)",
    asked: "2",
  });
});

test("the folders are told in their order, each once", () => {
  const [first = "", second = ""] = FOLDERS;
  const text = JSON.stringify({ a: `${second}/x ${first}/y`, b: `${second}/z` });
  assert.deepEqual(normalise(text).folders, [second, first]);
});

test("a path is compared without its ids", () => {
  const path = (run: number) => `/v1/files/825dd60${run}-bb85-5f45-ae44-ebac0ad9b60b?x=1`;
  assert.equal(normalisePath(path(1)), normalisePath(path(2)));
  assert.notEqual(normalisePath("/v1/a"), normalisePath("/v1/b"));
});
