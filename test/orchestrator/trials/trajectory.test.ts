/**
 * Goal: one conversation, recorded in three dialects, streamed or not, is one trajectory: each
 * thing that happened is one step, however often later requests repeat it.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Wire } from "../../../orchestrator/contract/agents.ts";
import type { Trial } from "../../../orchestrator/contract/trials.ts";
import type { RecordedCall } from "../../../orchestrator/trials/calls.ts";
import { buildTrajectory } from "../../../orchestrator/trials/trajectory.ts";

const USAGE = {
  input_tokens: 80,
  cache_read_tokens: 20,
  cache_write_tokens: 0,
  output_tokens: 5,
  reasoning_tokens: 2,
};
const TRIAL: Trial = {
  id: "trial_1",
  project: "p",
  experiment_id: null,
  task: "fix",
  agent: "qwen-code",
  agent_version: "1.2.3",
  pair: "scripted",
  attempt: 1,
  seed: 1,
  priority: 0,
  state: "succeeded",
  reason: null,
  verdict: "passed",
  flags: [],
  tries: 1,
  forked_from: null,
  replay_of: null,
  resume_at: null,
  approval_id: null,
  budget: {
    currency: "CAD",
    funded_nanos: "1",
    reserved_nanos: "0",
    spent_nanos: "0",
    available_nanos: "1",
  },
  usage: USAGE,
  call_count: 2,
  is_scripted: true,
  created_at: "2026-01-01T00:00:00.000Z",
  started_at: null,
  ended_at: null,
  duration_ms: null,
};

let made = 0;
function call(wire: Wire, request: unknown, response: unknown, more = {}): RecordedCall {
  const streamed = Array.isArray(response)
    ? response.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("")
    : null;
  made++;
  return {
    id: `call_${made}`,
    trial_id: "trial_1",
    wire,
    side: "normal",
    model: "m",
    model_requested: "normal",
    provider: "scripted",
    price_version: "m@1",
    reserved_nanos: "100",
    cost_nanos: "50",
    usage: USAGE,
    long_cache_write_tokens: 0,
    gpu_ms: null,
    attempts: [],
    is_estimated: false,
    status: 200,
    started_at: `2026-01-01T00:00:0${made % 10}.000Z`,
    first_byte_ms: 1,
    duration_ms: 500,
    error: null,
    request: Buffer.from(JSON.stringify(request)),
    response: Buffer.from(streamed ?? JSON.stringify(response)),
    ...more,
  };
}

type Built = {
  steps: Record<string, unknown>[];
  final_metrics: Record<string, unknown>;
  agent: { tool_definitions: unknown[] };
  extra: Record<string, unknown>;
};
const build = (calls: RecordedCall[], trial = TRIAL) => buildTrajectory(trial, calls) as Built;

/** The steps without what differs between recordings. */
function story(built: Built) {
  return built.steps.map(({ timestamp: _, metrics, model_name, llm_call_count, ...step }) => step);
}

const CALL = { tool_call_id: "t1", function_name: "read", arguments: { path: "a.js" } };
const STORY = [
  { step_id: 1, source: "system", message: "be good" },
  { step_id: 2, source: "user", message: "fix it" },
  {
    step_id: 3,
    source: "agent",
    message: "looking",
    reasoning_content: "hm",
    tool_calls: [CALL],
    observation: { results: [{ source_call_id: "t1", content: "code" }] },
  },
  { step_id: 4, source: "agent", message: "done" },
];

const said = JSON.stringify({ path: "a.js" });
const chatCall = { id: "t1", type: "function", function: { name: "read", arguments: said } };
const chatHistory = [
  { role: "system", content: "be good" },
  { role: "user", content: [{ type: "text", text: "fix it" }] },
];
const chatRequests = [
  { messages: chatHistory, tools: [{ type: "function" }] },
  {
    messages: [
      ...chatHistory,
      { role: "assistant", content: "looking", tool_calls: [chatCall] },
      { role: "tool", tool_call_id: "t1", content: "code" },
    ],
  },
];
const chatAnswers = [
  { choices: [{ message: { content: "looking", reasoning: "hm", tool_calls: [chatCall] } }] },
  { choices: [{ message: { content: "done" } }] },
];
const chatChunk = (delta: unknown) => ({ choices: [{ index: 0, delta }] });
const chatStream = [
  chatChunk({ role: "assistant", reasoning_content: "hm" }),
  chatChunk({ content: "look" }),
  chatChunk({ content: "ing" }),
  chatChunk({ tool_calls: [{ index: 0, id: "t1", function: { name: "read", arguments: "" } }] }),
  chatChunk({ tool_calls: [{ index: 0, function: { arguments: said.slice(0, 4) } }] }),
  chatChunk({ tool_calls: [{ index: 0, function: { arguments: said.slice(4) } }] }),
  { choices: [], usage: {} },
];

const toolUse = { type: "tool_use", id: "t1", name: "read", input: { path: "a.js" } };
const blocks = [{ type: "thinking", thinking: "hm" }, { type: "text", text: "looking" }, toolUse];
const messagesHistory = [{ role: "user", content: "fix it" }];
const messagesRequests = [
  { system: [{ type: "text", text: "be good" }], messages: messagesHistory },
  {
    system: [{ type: "text", text: "be good" }],
    messages: [
      ...messagesHistory,
      { role: "assistant", content: blocks },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "t1", content: [{ type: "text", text: "code" }] },
        ],
      },
    ],
  },
];
const messagesStream = [
  { type: "message_start", message: {} },
  ...blocks.flatMap((block, index) => {
    const [key, text, type] =
      block.type === "tool_use"
        ? ["partial_json", said, "input_json_delta"]
        : block.type === "text"
          ? ["text", "looking", "text_delta"]
          : ["thinking", "hm", "thinking_delta"];
    const empty = { ...block, text: "", thinking: "", input: {} };
    return [
      { type: "content_block_start", index, content_block: empty },
      { type: "content_block_delta", index, delta: { type, [key as string]: text?.slice(0, 3) } },
      { type: "content_block_delta", index, delta: { type, [key as string]: text?.slice(3) } },
      { type: "content_block_stop", index },
    ];
  }),
  { type: "message_stop" },
];

const output = [
  { type: "reasoning", summary: [{ type: "summary_text", text: "hm" }] },
  { type: "message", role: "assistant", content: [{ type: "output_text", text: "looking" }] },
  { type: "function_call", call_id: "t1", name: "read", arguments: said },
];
const done = {
  type: "message",
  role: "assistant",
  content: [{ type: "output_text", text: "done" }],
};
const input = [
  { type: "message", role: "user", content: [{ type: "input_text", text: "fix it" }] },
];
const responsesRequests = [
  { instructions: "be good", input },
  {
    instructions: "be good",
    input: [...input, ...output, { type: "function_call_output", call_id: "t1", output: "code" }],
  },
];

const RECORDINGS: Record<string, RecordedCall[]> = {
  chat: [0, 1].map((at) => call("openai.chat", chatRequests[at], chatAnswers[at])),
  "chat, streamed": [
    call("openai.chat", chatRequests[0], chatStream),
    call("openai.chat", chatRequests[1], [chatChunk({ content: "done" })]),
  ],
  messages: [
    call("anthropic.messages", messagesRequests[0], { content: blocks }),
    call("anthropic.messages", messagesRequests[1], { content: [{ type: "text", text: "done" }] }),
  ],
  "messages, streamed": [
    call("anthropic.messages", messagesRequests[0], messagesStream),
    call("anthropic.messages", messagesRequests[1], { content: [{ type: "text", text: "done" }] }),
  ],
  responses: [
    call("openai.responses", responsesRequests[0], { output }),
    call("openai.responses", responsesRequests[1], { output: [done] }),
  ],
  "responses, streamed": [
    call(
      "openai.responses",
      responsesRequests[0],
      output.map((item) => ({ type: "response.output_item.done", item })),
    ),
    call("openai.responses", responsesRequests[1], { output: [done] }),
  ],
};

for (const [name, calls] of Object.entries(RECORDINGS)) {
  test(`${name}: one story`, () => assert.deepEqual(story(build(calls)), STORY));
}

test("metrics are the gateway's, dollars only where they are dollars", () => {
  const calls = RECORDINGS["chat"] ?? [];
  const built = build(calls);
  assert.deepEqual(built.final_metrics, {
    total_prompt_tokens: 200,
    total_completion_tokens: 10,
    total_cached_tokens: 40,
    total_steps: 4,
    extra: { cost_nanos: "100", currency: "CAD", call_count: 2 },
  });
  const metrics = built.steps[3]?.["metrics"] as Record<string, unknown>;
  assert.equal(metrics["prompt_tokens"], 100);
  assert.equal("cost_usd" in metrics, false);
  assert.deepEqual(built.agent.tool_definitions, [{ type: "function" }]);
  assert.ok(TRIAL.budget !== null);
  const dollars = build(calls, { ...TRIAL, budget: { ...TRIAL.budget, currency: "USD" } });
  assert.equal(dollars.final_metrics["total_cost_usd"], 100e-9);
});

test("what a client wrote into the past is copied context", () => {
  const example = [
    { role: "user", content: "an example" },
    { role: "assistant", content: "its answer" },
  ];
  const first = call("openai.chat", { messages: [...example, ...chatHistory] }, chatAnswers[0]);
  const compacted = [
    { role: "user", content: "a summary of what was" },
    { role: "assistant", content: "looking", tool_calls: [chatCall] },
    { role: "tool", tool_call_id: "t1", content: "code" },
  ];
  const second = call("openai.chat", { messages: compacted }, chatAnswers[1]);
  const steps = story(build([first, second])).map((step) => [
    step["message"],
    step["is_copied_context"] ?? false,
  ]);
  assert.deepEqual(steps, [
    ["an example", false],
    ["its answer", true],
    ["be good", false],
    ["fix it", false],
    ["looking", false],
    ["a summary of what was", true],
    ["done", false],
  ]);
});

test("calls that failed or were not kept are said, and garbage is survived", () => {
  const failed = call("openai.chat", chatRequests[0], {}, { status: 500, error: "no" });
  const large = call("openai.chat", {}, {}, { request: null, response: null });
  const garbage = call(
    "anthropic.messages",
    {},
    {},
    {
      request: Buffer.from("not json"),
      response: Buffer.from("data: {\n\n<html>"),
    },
  );
  const odd = call("openai.chat", { messages: [null, 1, { role: "user", content: 7 }] }, []);
  const built = build([failed, large, garbage, odd]);
  assert.deepEqual(
    (built.extra["calls_without_answer"] as { status: number }[]).map(({ status }) => status),
    [500, 200, 200],
  );
  assert.deepEqual(built.steps.find((step) => "extra" in step)?.["extra"], { is_kept: false });
});
