/** Anthropic messages: thinking, text and tool_use blocks, and their stream of events. */
import {
  type Answer,
  type Block,
  contentText,
  type Dialect,
  isRecord,
  type ModelRequest,
  offeredTool,
  pieces,
  records,
  ScriptedProblem,
  type StreamEvent,
  type ToolUse,
  type Turn,
  type Usage,
} from "./dialect.ts";

export const anthropicMessages: Dialect = {
  wire: "anthropic.messages",
  toolUseIdPrefix: "toolu_",
  parse,
  json,
  events,
  error: anthropicError,
};

function anthropicError(status: number, code: string, message: string): object {
  const named: Record<number, string> = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
  };
  return { type: "error", error: { type: named[status] ?? code, message } };
}

function parse(body: unknown, bytes: Pick<ModelRequest, "bodyBytes" | "digest">): ModelRequest {
  if (!isRecord(body) || typeof body["model"] !== "string") {
    throw new ScriptedProblem(400, "invalid_request_error", "model: must be a string");
  }
  if (!Array.isArray(body["messages"]) || body["messages"].length === 0) {
    throw new ScriptedProblem(400, "invalid_request_error", "messages: must be a list, not empty");
  }
  const messages = records(body["messages"]);
  const limit = body["max_tokens"];
  const thinking = isRecord(body["thinking"]) ? body["thinking"]["type"] : undefined;
  const choice = isRecord(body["tool_choice"]) ? body["tool_choice"]["type"] : undefined;
  return {
    ...bytes,
    model: body["model"],
    isStream: body["stream"] === true,
    maxOutputTokens: typeof limit === "number" ? limit : null,
    // Claude Code also sends system text as a message of the history.
    system: [
      contentText(body["system"]),
      ...messages.filter(({ role }) => role === "system").map((m) => contentText(m["content"])),
    ].join("\n"),
    turns: messages.flatMap(turnsOf),
    tools:
      choice === "none"
        ? []
        : records(body["tools"]).flatMap((tool) =>
            typeof tool["name"] === "string"
              ? [offeredTool(tool["name"], tool["input_schema"])]
              : [],
          ),
    wantsThinking: thinking === "enabled" || thinking === "adaptive",
    usageChunks: "last",
  };
}

/** One message can hold tool results and text; the results come first, as they were asked for. */
function turnsOf({ role, content }: Record<string, unknown>): Turn[] {
  const parts = records(content);
  if (role === "assistant") {
    const toolUses = parts
      .filter((part) => part["type"] === "tool_use")
      .map((part): ToolUse => ({ id: String(part["id"]), name: String(part["name"]) }));
    return [{ role, text: contentText(content), toolUses }];
  }
  if (role !== "user") return [];
  const results = parts
    .filter((part) => part["type"] === "tool_result")
    .map(
      (part): Turn => ({
        role: "tool",
        toolUseId: String(part["tool_use_id"]),
        text: contentText(part["content"]),
        isError: part["is_error"] === true,
      }),
    );
  const text = contentText(content);
  return text === "" ? results : [...results, { role, text }];
}

function json(request: ModelRequest, answer: Answer): object {
  return {
    ...messageHead(request),
    content: answer.blocks.map((block) => fullBlock(request, block)),
    stop_reason: stopReason(answer),
    stop_sequence: null,
    ...(answer.usage === null ? {} : { usage: usageOf(answer.usage) }),
  };
}

function events(request: ModelRequest, answer: Answer): StreamEvent[] {
  const sent: StreamEvent[] = [];
  const atStart =
    answer.usage === null ? {} : { usage: usageOf({ ...answer.usage, outputTokens: 1 }) };
  push("message_start", {
    message: {
      ...messageHead(request),
      content: [],
      stop_reason: null,
      stop_sequence: null,
      ...atStart,
    },
  });
  push("ping", {});
  for (const [index, block] of answer.blocks.entries()) {
    push("content_block_start", { index, content_block: emptyBlock(block) });
    for (const delta of deltas(request, block)) push("content_block_delta", { index, delta });
    push("content_block_stop", { index });
  }
  push("message_delta", {
    delta: { stop_reason: stopReason(answer), stop_sequence: null },
    ...(answer.usage === null ? {} : { usage: { output_tokens: answer.usage.outputTokens } }),
  });
  push("message_stop", {});
  return sent;

  function push(type: string, rest: object): void {
    sent.push({ event: type, data: JSON.stringify({ type, ...rest }) });
  }
}

function messageHead({ digest, model }: ModelRequest): object {
  return { id: `msg_${digest}`, type: "message", role: "assistant", model };
}

function fullBlock(request: ModelRequest, block: Block): object {
  switch (block.kind) {
    case "thinking":
      return { type: "thinking", thinking: block.text, signature: signature(request) };
    case "text":
      return { type: "text", text: block.text };
    case "tool_use":
      return { type: "tool_use", id: block.id, name: block.name, input: JSON.parse(block.input) };
  }
}

function emptyBlock(block: Block): object {
  switch (block.kind) {
    case "thinking":
      return { type: "thinking", thinking: "", signature: "" };
    case "text":
      return { type: "text", text: "" };
    case "tool_use":
      return { type: "tool_use", id: block.id, name: block.name, input: {} };
  }
}

function deltas(request: ModelRequest, block: Block): object[] {
  switch (block.kind) {
    case "thinking":
      return [
        ...pieces(block.text).map((thinking) => ({ type: "thinking_delta", thinking })),
        { type: "signature_delta", signature: signature(request) },
      ];
    case "text":
      return pieces(block.text).map((text) => ({ type: "text_delta", text }));
    case "tool_use":
      return pieces(block.input).map((json) => ({ type: "input_json_delta", partial_json: json }));
  }
}

/** Clients send a thinking block back with its signature; nobody checks this one. */
function signature({ digest }: ModelRequest): string {
  return Buffer.from(`scripted:${digest}`).toString("base64");
}

function stopReason({ stop }: Answer): string {
  return stop === "end" ? "end_turn" : stop === "tool_use" ? "tool_use" : "max_tokens";
}

function usageOf({ inputTokens, outputTokens }: Usage): object {
  return {
    input_tokens: inputTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: 0,
    output_tokens: outputTokens,
  };
}
