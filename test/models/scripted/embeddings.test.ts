/** Goal: a vector for each text, the same for the same text, in both encodings. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { embed } from "../../../models/scripted/embeddings.ts";

interface List {
  data: { index: number; embedding: number[] | string }[];
  usage: { prompt_tokens: number };
}

const of = (more: object) => embed({ model: "scripted-normal", ...more }, 40) as List;

test("one vector for each text", () => {
  const { data, usage } = of({ input: ["a", "b", "a"] });
  assert.deepEqual(
    data.map(({ index }) => index),
    [0, 1, 2],
  );
  assert.deepEqual(data[0]?.embedding, data[2]?.embedding);
  assert.notDeepEqual(data[0]?.embedding, data[1]?.embedding);
  assert.equal(usage.prompt_tokens, 10);
  assert.equal(of({ input: [1, 2, 3] }).data.length, 1);
  assert.equal(of({ input: [[1], [2]] }).data.length, 2);
});

test("base64 holds the same numbers", () => {
  const [plain] = of({ input: "a" }).data;
  const [packed] = of({ input: "a", encoding_format: "base64" }).data;
  const bytes = Buffer.from(String(packed?.embedding), "base64");
  const floats = Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readFloatLE(4 * at));
  assert.deepEqual(floats, plain?.embedding);
});

test("what is no request is refused", () => {
  for (const body of [null, {}, { model: "m" }, { model: "m", input: [] }, { model: 1 }]) {
    assert.throws(() => embed(body, 1), { name: "ScriptedProblem", status: 400 });
  }
});
