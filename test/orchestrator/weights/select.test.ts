/** Goal: what a server needs of a repository is fetched, and no second copy of the weights. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { neededFiles } from "../../../orchestrator/weights/select.ts";

const of = (...paths: string[]) => paths.map((path) => ({ path }));
const chosen = (...paths: string[]) =>
  neededFiles("made/up", of(...paths))
    .map(({ path }) => path)
    .sort();

test("configuration, tokenizer, template and licence come with the weights; pages do not", () => {
  const needed = [
    ...["config.json", "generation_config.json", "tokenizer.json", "tokenizer.model"],
    ...["vocab.json", "merges.txt", "chat_template.jinja", "LICENSE", "NOTICE", "LICENSE.txt"],
    ...["model-00001-of-00001.safetensors", "model.safetensors.index.json", "USE_POLICY.md"],
  ];
  const beside = [
    ...["README.md", ".gitattributes", "modeling_qwen.py", "figures/plot.png", "model.gguf"],
    ...["original/params.json", "onnx/model.onnx", "tf_model.h5", "training_args.bin"],
  ];
  assert.deepEqual(chosen(...needed, ...beside), [...needed].sort());
  const manifest = chosen("autocode-manifest.json", "model.safetensors");
  assert.deepEqual(manifest, ["model.safetensors"], "the store's own file is no hub's to write");
});

test("pickled weights are left where there are safetensors, and taken where there are none", () => {
  const pickled = ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"];
  assert.deepEqual(chosen("config.json", "model.safetensors", ...pickled), [
    "config.json",
    "model.safetensors",
  ]);
  assert.deepEqual(chosen("config.json", ...pickled), ["config.json", ...pickled]);
});

test("a second form of the same safetensors is left, and taken where it is the only one", () => {
  assert.deepEqual(chosen("consolidated.safetensors", "model.safetensors"), ["model.safetensors"]);
  assert.deepEqual(chosen("consolidated.safetensors"), ["consolidated.safetensors"]);
});

test("a repository without weights is refused", () => {
  assert.throws(
    () => neededFiles("made/up", of("config.json", "model.gguf")),
    (error) => error instanceof Problem && /made\/up has no weights/.test(error.message),
  );
});
