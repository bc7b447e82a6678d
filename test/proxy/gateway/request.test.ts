/** Goal: what bounds a call is read off its bytes and written into them; the rest stays as is. */
import assert from "node:assert/strict";
import test from "node:test";
import type { Wire } from "../../../orchestrator/contract/agents.ts";
import { checkHosted, readRequest, rewriteRequest } from "../../../proxy/gateway/request.ts";

const OWN = { hasContinuousUsage: false, isHosted: false };

function rewrite(wire: Wire, text: string, provider: Partial<typeof OWN> = {}): string {
  const request = readRequest(wire, Buffer.from(text));
  const given = { upstreamName: "up", outputTokens: 7, provider: { ...OWN, ...provider } };
  return rewriteRequest(request, given).toString();
}

test("what a request asks for", () => {
  const text =
    '{"model":"m","stream":true,"n":2,"max_tokens":50,"max_completion_tokens":40,' +
    '"stream_options":{"include_usage":true}}';
  const { bytes: _, object: __, ...read } = readRequest("openai.chat", Buffer.from(text));
  assert.deepEqual(read, {
    wire: "openai.chat",
    model: "m",
    isStream: true,
    outputTokens: 40,
    choices: 2,
    inputs: 1,
    isEchoed: false,
    wantsUsage: true,
    hasOutsideInput: false,
  });
  const bare = readRequest("anthropic.messages", Buffer.from('{"model":"m","max_tokens":null}'));
  assert.deepEqual([bare.outputTokens, bare.isStream, bare.wantsUsage], [null, false, false]);
});

test("the ceiling is written in every field that has one", () => {
  assert.equal(
    rewrite("openai.chat", '{"model":"m","max_tokens":50,"max_completion_tokens":null}'),
    '{"model":"up","max_tokens":7,"max_completion_tokens":7}',
  );
  assert.equal(rewrite("openai.chat", '{"model":"m"}'), '{"max_tokens":7,"model":"up"}');
  assert.equal(
    rewrite("openai.chat", '{"model":"m"}', { isHosted: true }),
    '{"max_completion_tokens":7,"model":"up"}',
  );
  assert.equal(
    rewrite("openai.responses", '{"model":"m"}'),
    '{"max_output_tokens":7,"model":"up"}',
  );
});

test("usage is asked for on chat streams alone", () => {
  const options = (text: string, provider = {}) =>
    JSON.parse(rewrite("openai.chat", text, provider)).stream_options;
  assert.deepEqual(options('{"model":"m","stream":true}'), { include_usage: true });
  assert.deepEqual(
    options('{"model":"m","stream":true,"stream_options":{"include_usage":false,"x":1}}'),
    { include_usage: true, x: 1 },
  );
  assert.deepEqual(options('{"model":"m","stream":true,"stream_options":null}'), {
    include_usage: true,
  });
  assert.deepEqual(options('{"model":"m","stream":true}', { hasContinuousUsage: true }), {
    include_usage: true,
    continuous_usage_stats: true,
  });
  assert.equal(options('{"model":"m"}'), undefined);
  const messages = rewrite("anthropic.messages", '{"model":"m","max_tokens":9,"stream":true}');
  assert.equal(messages, '{"model":"up","max_tokens":7,"stream":true}');
});

test("input that is elsewhere is noticed, in a text it is not", () => {
  const has = (text: string) =>
    readRequest("openai.responses", Buffer.from(`{"model":"m",${text}}`)).hasOutsideInput;
  assert.equal(has('"previous_response_id":"r"'), true);
  assert.equal(has('"previous_response_id":null'), false);
  assert.equal(has('"input":[{"type":"input_image","image_url":"http://x"}]'), true);
  assert.equal(has('"input":[{"type":"input_im\\u0061ge"}]'), true, "however it is escaped");
  assert.equal(has('"input":"{\\"type\\":\\"input_image\\"}"'), false);
  assert.equal(has('"tools":[{"parameters":{"properties":{"file_path":{}}}}]'), false);
});

test("hosted extras are refused where they are billed", () => {
  const check = (more: string) =>
    checkHosted(readRequest("openai.chat", Buffer.from(`{"model":"m",${more}}`)));
  for (const more of ['"service_tier":"priority"', '"tools":[{"type":"web_search"}]']) {
    assert.throws(() => check(more), { name: "RequestError" });
  }
  check('"service_tier":"default","tools":[{"type":"function","function":{"type":"mcp"}}],"n":1');
});

const answers = (text: string) => {
  const { choices, inputs, isEchoed, hasOutsideInput } = readRequest(
    "openai.completions",
    Buffer.from(text),
  );
  return { choices, inputs, isEchoed, hasOutsideInput };
};

test("completions: every prompt, n and best_of count, and an echo is told", () => {
  const one = { choices: 1, inputs: 1, isEchoed: false, hasOutsideInput: false };
  assert.deepEqual(answers('{"model":"m","prompt":"a"}'), one);
  assert.deepEqual(answers('{"model":"m","prompt":[1, 2,3]}'), one);
  assert.deepEqual(answers('{"model":"m","prompt":[]}'), one);
  const many = '{"model":"m","prompt":["a","b,c",[1,2]],"n":2,"best_of":4,"echo":true}';
  assert.deepEqual(answers(many), { ...one, choices: 12, inputs: 3, isEchoed: true });
  for (const [text, message] of [
    ['{"model":"m","best_of":17}', /^best_of: must be at most 16$/],
    ['{"model":"m","n":17}', /^n: must be at most 16$/],
    ['{"model":"m","best_of":"2"}', /^best_of: must be a whole number/],
    ['{"model":"m","echo":1}', /^echo: must be true or false$/],
    [`{"model":"m","prompt":[${'"a",'.repeat(2_048)}"a"]}`, /^prompt: must be at most 2048 texts$/],
  ] as const) {
    assert.throws(() => answers(text), { name: "RequestError", message });
  }
  const hosted = readRequest("openai.completions", Buffer.from('{"model":"m","prompt":"a"}'));
  checkHosted(hosted);
  assert.equal(
    rewrite("openai.completions", '{"model":"m","prompt":"a","stream":true}'),
    '{"max_tokens":7,"stream_options":{"include_usage":true},"model":"up","prompt":"a","stream":true}',
  );
});

test("embeddings: nothing is written but the name, and there is no stream", () => {
  const read = (text: string) => readRequest("openai.embeddings", Buffer.from(text));
  assert.equal(read('{"model":"m","input":["a","b"]}').inputs, 2);
  assert.equal(read('{"model":"m","input":[[1,2],[3]]}').inputs, 2);
  assert.equal(read('{"model":"m","input":[1,2]}').inputs, 1);
  assert.equal(
    rewrite("openai.embeddings", '{"model":"m","input":"a"}'),
    '{"model":"up","input":"a"}',
  );
  assert.throws(() => read('{"model":"m","stream":true}'), /^RequestError: stream: embeddings/);
});

test("several answers share no running count, so none is asked for", () => {
  const own = { hasContinuousUsage: true };
  const options = (text: string) => JSON.parse(rewrite("openai.chat", text, own)).stream_options;
  assert.deepEqual(options('{"model":"m","stream":true,"n":2}'), { include_usage: true });
});
