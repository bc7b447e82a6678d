/** OpenAI responses: the protocol of Codex, with function and freeform (custom) tools. */
import {
  type Answer,
  type Block,
  contentText,
  type Dialect,
  isRecord,
  type ModelRequest,
  type OfferedTool,
  offeredTool,
  pieces,
  records,
  ScriptedProblem,
  type StreamEvent,
  type Turn,
  type Usage,
} from "./dialect.ts";
import { CREATED_SECONDS, openaiError } from "./openai-chat.ts";

export const openaiResponses: Dialect = {
  wire: "openai.responses",
  toolUseIdPrefix: "call_",
  parse,
  json,
  events,
  error: openaiError,
};

function parse(body: unknown, bytes: Pick<ModelRequest, "bodyBytes" | "digest">): ModelRequest {
  if (!isRecord(body) || typeof body["model"] !== "string") {
    throw new ScriptedProblem(400, "invalid_request_error", "model: must be a string");
  }
  const input = body["input"];
  if (typeof input !== "string" && !Array.isArray(input)) {
    throw new ScriptedProblem(400, "invalid_request_error", "input: must be a string or a list");
  }
  const items = typeof input === "string" ? [{ role: "user", content: input }] : records(input);
  const limit = body["max_output_tokens"];
  return {
    ...bytes,
    model: body["model"],
    isStream: body["stream"] === true,
    maxOutputTokens: typeof limit === "number" ? limit : null,
    system: [
      contentText(body["instructions"]),
      ...items
        .filter(({ role }) => role === "system" || role === "developer")
        .map(({ content }) => contentText(content)),
    ].join("\n"),
    turns: turnsOf(items),
    tools: body["tool_choice"] === "none" ? [] : records(body["tools"]).flatMap(toolOf),
    wantsThinking: isRecord(body["reasoning"]),
    usageChunks: "last",
  };
}

/** Calls of one answer are items of their own: those that follow each other are one turn. */
function turnsOf(items: Record<string, unknown>[]): Turn[] {
  const turns: Turn[] = [];
  for (const item of items) {
    const last = turns.at(-1);
    switch (item["type"] ?? "message") {
      case "message": {
        const text = contentText(item["content"]);
        if (item["role"] === "user") turns.push({ role: "user", text });
        if (item["role"] === "assistant") turns.push({ role: "assistant", text, toolUses: [] });
        break;
      }
      case "function_call":
      case "custom_tool_call": {
        const use = { id: String(item["call_id"]), name: String(item["name"]) };
        if (last?.role !== "assistant") {
          turns.push({ role: "assistant", text: "", toolUses: [use] });
        } else {
          turns[turns.length - 1] = { ...last, toolUses: [...last.toolUses, use] };
        }
        break;
      }
      case "function_call_output":
      case "custom_tool_call_output":
        turns.push({
          role: "tool",
          toolUseId: String(item["call_id"]),
          text: contentText(item["output"]),
          isError: null,
        });
        break;
    }
  }
  return turns;
}

function toolOf(tool: Record<string, unknown>): OfferedTool[] {
  if (typeof tool["name"] !== "string") return [];
  if (tool["type"] === "function") return [offeredTool(tool["name"], tool["parameters"])];
  if (tool["type"] !== "custom") return [];
  return [{ name: tool["name"], isFreeform: true, properties: {}, required: [] }];
}

function json(request: ModelRequest, answer: Answer): object {
  const isCut = answer.stop === "length";
  return {
    ...responseHead(request),
    status: isCut ? "incomplete" : "completed",
    incomplete_details: isCut ? { reason: "max_output_tokens" } : null,
    output: answer.blocks.map((block, index) => itemOf(request, block, index, "completed")),
    ...(answer.usage === null ? {} : { usage: usageOf(answer.usage) }),
  };
}

function events(request: ModelRequest, answer: Answer): StreamEvent[] {
  const sent: StreamEvent[] = [];
  const started = { ...responseHead(request), status: "in_progress", output: [], usage: null };
  push("response.created", { response: started });
  push("response.in_progress", { response: started });
  for (const [index, block] of answer.blocks.entries()) {
    const item = itemOf(request, block, index, "in_progress");
    push("response.output_item.added", { output_index: index, item });
    const where = { item_id: itemId(request, block, index), output_index: index };
    for (const { type, ...rest } of innerEvents(block)) push(type, { ...where, ...rest });
    const done = itemOf(request, block, index, "completed");
    push("response.output_item.done", { output_index: index, item: done });
  }
  const end = answer.stop === "length" ? "response.incomplete" : "response.completed";
  push(end, { response: json(request, answer) });
  return sent;

  function push(type: string, rest: object): void {
    const data = JSON.stringify({ type, sequence_number: sent.length, ...rest });
    sent.push({ event: type, data });
  }
}

/** What happens between an item's `added` and its `done`. */
function innerEvents(block: Block): ({ type: string } & Record<string, unknown>)[] {
  if (block.kind === "text") {
    const at = { content_index: 0 };
    const part = { type: "output_text", text: "", annotations: [] };
    const type = "response.output_text.delta";
    return [
      { type: "response.content_part.added", ...at, part },
      ...pieces(block.text).map((delta) => ({ type, ...at, delta, logprobs: [] })),
      { type: "response.output_text.done", ...at, text: block.text, logprobs: [] },
      { type: "response.content_part.done", ...at, part: { ...part, text: block.text } },
    ];
  }
  if (block.kind === "thinking") {
    const at = { summary_index: 0 };
    const part = { type: "summary_text", text: "" };
    const type = "response.reasoning_summary_text.delta";
    return [
      { type: "response.reasoning_summary_part.added", ...at, part },
      ...pieces(block.text).map((delta) => ({ type, ...at, delta })),
      { type: "response.reasoning_summary_text.done", ...at, text: block.text },
      {
        type: "response.reasoning_summary_part.done",
        ...at,
        part: { ...part, text: block.text },
      },
    ];
  }
  const stem = block.isFreeform ? "custom_tool_call_input" : "function_call_arguments";
  const whole = block.isFreeform
    ? { input: block.input }
    : { name: block.name, arguments: block.input };
  return [
    ...pieces(block.input).map((delta) => ({ type: `response.${stem}.delta`, delta })),
    { type: `response.${stem}.done`, ...whole },
  ];
}

function itemOf(
  request: ModelRequest,
  block: Block,
  index: number,
  status: "in_progress" | "completed",
): object {
  const id = itemId(request, block, index);
  const isDone = status === "completed";
  if (block.kind === "text") {
    const part = { type: "output_text", text: block.text, annotations: [], logprobs: [] };
    return { id, type: "message", status, role: "assistant", content: isDone ? [part] : [] };
  }
  if (block.kind === "thinking") {
    const summary = isDone ? [{ type: "summary_text", text: block.text }] : [];
    return { id, type: "reasoning", summary };
  }
  const input = isDone ? block.input : "";
  const named = { id, call_id: block.id, name: block.name, status };
  if (block.isFreeform) return { type: "custom_tool_call", ...named, input };
  return { type: "function_call", ...named, arguments: input };
}

function itemId({ digest }: ModelRequest, block: Block, index: number): string {
  const prefix = { text: "msg", thinking: "rs", tool_use: "fc" }[block.kind];
  return `${prefix}_${digest}_${index}`;
}

function responseHead({ digest, model }: ModelRequest) {
  return {
    id: `resp_${digest}`,
    object: "response",
    created_at: CREATED_SECONDS,
    model,
    error: null,
    incomplete_details: null as { reason: string } | null,
    metadata: {},
    parallel_tool_calls: true,
    tool_choice: "auto",
    tools: [],
  };
}

function usageOf({ inputTokens, outputTokens, reasoningTokens }: Usage): object {
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: reasoningTokens },
    total_tokens: inputTokens + outputTokens,
  };
}
