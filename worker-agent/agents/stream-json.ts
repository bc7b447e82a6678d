/**
 * The output that Claude Code defined as `stream-json` and Qwen Code took over: one JSON object a
 * line, `system`, `assistant`, `user` and at last `result`.
 */
import type { AgentError, AgentEvent, OutputParser } from "./agent.ts";
import {
  count,
  errorEvent,
  type JsonObject,
  object,
  objects,
  parseLine,
  text,
  textEvent,
  toolCall,
  toolResult,
  usageEvent,
} from "./json-lines.ts";

export function createStreamJsonParser(): OutputParser {
  let sessionId: string | null = null;
  let finalText = "";
  let lastError: AgentError | null = null;
  let isComplete = false;
  let isLimitReached = false;
  return { push, summary };

  function push(line: string): AgentEvent[] {
    const message = parseLine(line);
    if (message === null) return [];
    sessionId = text(message["session_id"]) ?? sessionId;
    switch (message["type"]) {
      case "assistant":
        return blocks(message).flatMap(assistantBlock);
      case "user":
        return blocks(message).flatMap((block) =>
          block["type"] === "tool_result"
            ? [
                toolResult(
                  block["tool_use_id"],
                  block["is_error"] === true,
                  plain(block["content"]),
                ),
              ]
            : [],
        );
      case "system":
        return message["subtype"] === "api_retry" ? [failed(message)] : [];
      case "result":
        return result(message);
      default:
        return [];
    }
  }

  function assistantBlock(block: JsonObject): AgentEvent[] {
    if (block["type"] === "tool_use") {
      return [toolCall(block["id"], block["name"], block["input"])];
    }
    if (block["type"] === "thinking") return textEvent("agent.reasoning", block["thinking"]);
    if (block["type"] !== "text") return [];
    finalText = text(block["text"])?.trim() || finalText;
    return textEvent("agent.message", block["text"]);
  }

  /** `subtype` says "success" also of a failed model call: `is_error` is what counts. */
  function result(message: JsonObject): AgentEvent[] {
    const subtype = text(message["subtype"]) ?? "";
    const usage = object(message["usage"]);
    const events = usageEvent(count(usage?.["input_tokens"]), count(usage?.["output_tokens"]));
    finalText = text(message["result"])?.trim() || finalText;
    isLimitReached = subtype.startsWith("error_max");
    isComplete = message["is_error"] !== true && !subtype.startsWith("error");
    if (isComplete) {
      lastError = null;
      return events;
    }
    return [...events, failed(message)];
  }

  function failed(message: JsonObject): AgentEvent {
    const error = object(message["error"]);
    const said = text(error?.["message"]) ?? text(message["error"]) ?? text(message["result"]);
    const shown = said ?? text(message["subtype"]) ?? "error";
    const status =
      [message["api_error_status"], message["error_status"], error?.["status"]].find(
        (value) => typeof value === "number",
      ) ?? statusIn(shown);
    lastError = { message: shown, ...(status !== undefined && { status }) };
    return errorEvent(shown, status);
  }

  function summary() {
    return { sessionId, finalText, lastError, isComplete, isLimitReached };
  }
}

function blocks(message: JsonObject): JsonObject[] {
  return objects(object(message["message"])?.["content"]);
}

/** Qwen Code tells the status of a failed call in its text alone. */
function statusIn(shown: string): number | undefined {
  const found = /\bAPI Error: (\d{3})\b/.exec(shown)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** A tool's result as text: a string, or an array of text blocks. */
function plain(content: unknown): unknown {
  if (!Array.isArray(content)) return content;
  return objects(content)
    .map((block) => text(block["text"]) ?? JSON.stringify(block))
    .join("\n");
}
