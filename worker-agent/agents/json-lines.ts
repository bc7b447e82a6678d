/** Reads what CLIs print as JSON: nothing in it is trusted to have any shape. */
import type { AgentEvent } from "./agent.ts";

/** The most of a text that goes into one event; artefacts hold the whole of it. */
const TEXT_CHARACTERS = 16_384;

export type JsonObject = { readonly [key: string]: unknown };

/** The object that a line holds; null for any other line. */
export function parseLine(line: string): JsonObject | null {
  if (!line.startsWith("{")) return null;
  try {
    return object(JSON.parse(line));
  } catch {
    return null;
  }
}

export function object(value: unknown): JsonObject | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  return value as JsonObject;
}

export function objects(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.map(object).filter((item) => item !== null) : [];
}

export function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

export function count(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : 0;
}

/** An event with a text, cut to its limit; none when there is no text. */
export function textEvent(type: "agent.message" | "agent.reasoning", value: unknown): AgentEvent[] {
  const found = text(value)?.trim();
  return found ? [{ type, data: { text: clip(found) } }] : [];
}

export function toolCall(callId: unknown, name: unknown, input: unknown): AgentEvent {
  const json = JSON.stringify(input ?? {});
  // Cut arguments are no JSON any more, so they are passed on as the text that they are.
  const kept = json.length > TEXT_CHARACTERS ? clip(json) : (input ?? {});
  const data = { call_id: text(callId) ?? "", name: text(name) ?? "unknown", arguments: kept };
  return { type: "agent.tool_call", data };
}

export function toolResult(callId: unknown, isError: boolean, content: unknown): AgentEvent {
  const shown = text(content) ?? JSON.stringify(content ?? "");
  const data = { call_id: text(callId) ?? "", is_error: isError, text: clip(shown) };
  return { type: "agent.tool_result", data };
}

export function usageEvent(inputTokens: number, outputTokens: number): AgentEvent[] {
  if (inputTokens + outputTokens === 0) return [];
  return [
    { type: "agent.usage", data: { input_tokens: inputTokens, output_tokens: outputTokens } },
  ];
}

export function errorEvent(message: string, status?: number): AgentEvent {
  const data = { message: clip(message), ...(status !== undefined && { status }) };
  return { type: "agent.error", data };
}

function clip(value: string): string {
  if (value.length <= TEXT_CHARACTERS) return value;
  return `${value.slice(0, TEXT_CHARACTERS)}… (${value.length} characters)`;
}
