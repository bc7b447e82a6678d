/** OpenAI chat/completions, as vLLM serves it: tools, reasoning_content, usage chunks. */
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
  type ToolUse,
  type Turn,
  tokensOf,
  type Usage,
} from "./dialect.ts";

/** Fixed, so that the same request has the same answer to the byte. */
export const CREATED_SECONDS = 1_700_000_000;

export const openaiChat: Dialect = {
  wire: "openai.chat",
  toolUseIdPrefix: "call_",
  parse,
  json,
  events,
  error: openaiError,
};

/** The error envelope of both OpenAI protocols. */
export function openaiError(status: number, code: string, message: string): object {
  const type = status === 429 ? "rate_limit_error" : status >= 500 ? "server_error" : code;
  return { error: { message, type, param: null, code } };
}

function parse(body: unknown, bytes: Pick<ModelRequest, "bodyBytes" | "digest">): ModelRequest {
  if (!isRecord(body) || typeof body["model"] !== "string") {
    throw new ScriptedProblem(400, "invalid_request_error", "model: must be a string");
  }
  if (!Array.isArray(body["messages"]) || body["messages"].length === 0) {
    throw new ScriptedProblem(400, "invalid_request_error", "messages: must be a list, not empty");
  }
  const messages = records(body["messages"]);
  const limit = body["max_completion_tokens"] ?? body["max_tokens"];
  return {
    ...bytes,
    model: body["model"],
    isStream: body["stream"] === true,
    maxOutputTokens: typeof limit === "number" ? limit : null,
    system: messages
      .filter(({ role }) => role === "system" || role === "developer")
      .map(({ content }) => contentText(content))
      .join("\n"),
    turns: messages.flatMap(turnOf),
    tools: body["tool_choice"] === "none" ? [] : records(body["tools"]).flatMap(toolOf),
    wantsThinking: true,
    usageChunks: usageChunks(body["stream_options"]),
  };
}

function turnOf({ role, content, tool_calls, tool_call_id }: Record<string, unknown>): Turn[] {
  const text = contentText(content);
  if (role === "user") return [{ role, text }];
  if (role === "tool") {
    return [{ role, toolUseId: String(tool_call_id), text, isError: null }];
  }
  if (role !== "assistant") return [];
  const toolUses = records(tool_calls).flatMap((call): ToolUse[] => {
    const named = isRecord(call["function"]) ? call["function"] : call["custom"];
    const name = isRecord(named) ? named["name"] : undefined;
    return typeof name === "string" ? [{ id: String(call["id"]), name }] : [];
  });
  return [{ role, text, toolUses }];
}

function toolOf(tool: Record<string, unknown>): OfferedTool[] {
  const named = tool["function"];
  if (!isRecord(named) || typeof named["name"] !== "string") return [];
  return [offeredTool(named["name"], named["parameters"])];
}

/** Which usage a stream of an OpenAI dialect is to carry. */
export function usageChunks(options: unknown): ModelRequest["usageChunks"] {
  if (!isRecord(options) || options["include_usage"] !== true) return "none";
  return options["continuous_usage_stats"] === true ? "continuous" : "last";
}

function json(request: ModelRequest, answer: Answer): object {
  const reasoning = joined(answer.blocks, "thinking");
  const calls = answer.blocks.filter((block) => block.kind === "tool_use");
  const message = {
    role: "assistant",
    content: joined(answer.blocks, "text") || null,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls.map(callOf) }),
  };
  return {
    id: `chatcmpl-${request.digest}`,
    object: "chat.completion",
    created: CREATED_SECONDS,
    model: request.model,
    choices: [{ index: 0, message, logprobs: null, finish_reason: finishReason(answer) }],
    ...(answer.usage === null ? {} : { usage: usageOf(answer.usage) }),
  };
}

function events(request: ModelRequest, answer: Answer): StreamEvent[] {
  const sent: StreamEvent[] = [];
  let writtenBytes = 0;
  chunk({ role: "assistant", content: "" });
  let toolIndex = 0;
  for (const block of answer.blocks) {
    if (block.kind === "tool_use") {
      const { arguments: _, ...named } = callOf(block).function;
      const index = toolIndex++;
      const head = { index, id: block.id, type: "function" };
      count(block.name);
      chunk({ tool_calls: [{ ...head, function: { ...named, arguments: "" } }] });
      for (const piece of pieces(block.input)) {
        count(piece);
        chunk({ tool_calls: [{ index, function: { arguments: piece } }] });
      }
    } else {
      for (const piece of pieces(block.text)) {
        count(piece);
        chunk(block.kind === "text" ? { content: piece } : { reasoning_content: piece });
      }
    }
  }
  chunk({}, finishReason(answer));
  if (request.usageChunks !== "none" && answer.usage !== null) {
    sent.push(eventOf({ ...head(), choices: [], usage: usageOf(answer.usage) }));
  }
  sent.push({ data: "[DONE]" });
  return sent;

  function head(): object {
    return {
      id: `chatcmpl-${request.digest}`,
      object: "chat.completion.chunk",
      created: CREATED_SECONDS,
      model: request.model,
    };
  }

  function count(piece: string): void {
    writtenBytes += Buffer.byteLength(piece);
  }

  function chunk(delta: object, finish: string | null = null): void {
    const choices = [{ index: 0, delta, logprobs: null, finish_reason: finish }];
    sent.push(eventOf({ ...head(), choices, ...running() }));
  }

  function running(): object {
    if (request.usageChunks === "none" || answer.usage === null) return {};
    if (request.usageChunks === "last") return { usage: null };
    const outputTokens = tokensOf(writtenBytes);
    const reasoningTokens = Math.min(answer.usage.reasoningTokens, outputTokens);
    return { usage: usageOf({ ...answer.usage, outputTokens, reasoningTokens }) };
  }
}

function eventOf(data: object): StreamEvent {
  return { data: JSON.stringify(data) };
}

function callOf(block: Extract<Block, { kind: "tool_use" }>) {
  const { id, name, input } = block;
  return { id, type: "function", function: { name, arguments: input } };
}

function joined(blocks: readonly Block[], kind: "text" | "thinking"): string {
  return blocks.map((block) => (block.kind === kind ? block.text : "")).join("");
}

export function finishReason({ stop }: Answer): string {
  return stop === "end" ? "stop" : stop === "tool_use" ? "tool_calls" : "length";
}

export function usageOf({ inputTokens, outputTokens, reasoningTokens }: Usage): object {
  return {
    prompt_tokens: inputTokens,
    completion_tokens: outputTokens,
    total_tokens: inputTokens + outputTokens,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: reasoningTokens },
  };
}
