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
