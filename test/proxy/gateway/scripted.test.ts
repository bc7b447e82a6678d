/**
 * Goal: against the scripted model, whose usage is a function of the bytes, what the ledger settles
 * is what the model server counted, in each dialect, streamed or not, also when it misbehaves.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { parseScript } from "../../../models/scripted/script.ts";
import { createScriptedModel } from "../../../models/scripted/server.ts";
import { openTestGateway } from "../../support/gateway.ts";

const SCRIPT = `
steps:
  - - think: A thought first.
    - say: Then some words, long enough for several pieces of a stream.
`;

async function openScripted(more = "") {
  const scripted = createScriptedModel({
    scripts: [parseScript("test", "test.yaml", SCRIPT + more)],
  });
  const { url: baseUrl } = await scripted.listen();
  const world = await openTestGateway({ provider: { baseUrl, hasContinuousUsage: true } });
  // The scripted model knows its sides by their names.
  const models = world.grant.models.map((model) => ({
    ...model,
    upstreamName: `scripted-${model.side}`,
  }));
  const { secret } = await world.keys.issue({ ...world.grant, models }, Date.now() + 60_000);
  return {
    world,
    post: (path: string, body: unknown) =>
      world.post(path, body, { authorization: `Bearer ${secret}` }),
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await scripted.close();
    },
  };
}

const said = [{ role: "user", content: "Say it." }];
const REQUESTS: [string, Record<string, unknown>][] = [
  ["/v1/chat/completions", { model: "normal", messages: said }],
  ["/v1/responses", { model: "normal", input: said }],
  ["/v1/messages", { model: "normal", messages: said, max_tokens: 500 }],
];

test("what is settled is what the model server counted", async () => {
  await using fixture = await openScripted();
  const { world, post } = fixture;
  let expectedNanos = 0n;
  for (const [path, body] of REQUESTS) {
    const whole = await post(path, body);
    assert.equal(whole.status, 200, path);
    assert.equal(whole.headers.get("x-scripted-model"), "true");
    const { usage } = await whole.json();
    const input = usage.prompt_tokens ?? usage.input_tokens;
    const output = usage.completion_tokens ?? usage.output_tokens;
    const costNanos = BigInt(input + 2 * output);
    assert.equal(whole.headers.get("x-autocode-cost-nanos"), String(costNanos));
    expectedNanos += costNanos;

    const streamed = await post(path, { ...body, stream: true });
    assert.equal(streamed.headers.get("content-type")?.startsWith("text/event-stream"), true);
    assert.match((await streamed.text()).replaceAll(/[^a-z]/gi, ""), /stream/);
  }
  const balance = await world.quiet(world.budget, (spent) => spent > expectedNanos);
  const calls = await world.calls();
  assert.equal(calls.length, 6);
  assert.ok(calls.every((call) => !call.is_estimated && call.error === null));
  const sum = calls.reduce((total, call) => total + BigInt(call.cost_nanos), 0n);
  assert.equal(balance.spentNanos, sum);
  for (const [at, call] of calls.entries()) {
    // A stream's request is a little longer, and its answer the same.
    if (at % 2 === 1) assert.equal(call.output_tokens, calls[at - 1]?.output_tokens);
  }
});

const FAULTS: Record<string, { fault: string; isStream: boolean }> = {
  "no usage": { fault: "{ no_usage: true, times: 0 }", isStream: true },
  "a cut stream": { fault: "{ cut_after_events: 3, times: 0 }", isStream: true },
  "status 500": { fault: "{ status: 500, times: 0 }", isStream: false },
};

for (const [what, { fault, isStream }] of Object.entries(FAULTS)) {
  test(`${what}: nothing stays held, and the records add up`, async () => {
    await using fixture = await openScripted(`faults: [${fault}]\n`);
    const { world, post } = fixture;
    for (const [path, body] of REQUESTS) {
      const response = await post(path, { ...body, stream: isStream });
      await response.text().catch(() => "cut");
    }
    const balance = await world.quiet(world.budget);
    const calls = await world.calls();
    assert.equal(calls.length, 3);
    const sum = calls.reduce((total, call) => total + BigInt(call.cost_nanos), 0n);
    assert.equal(balance.spentNanos, sum);
    if (what === "no usage") assert.ok(calls.every((call) => call.is_estimated));
    if (what === "status 500") assert.equal(sum, 0n);
    else assert.ok(sum > 0n);
  });
}
