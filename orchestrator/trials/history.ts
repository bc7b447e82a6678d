/**
 * What a recorded call says, in any of the three dialects, brought to one form: the history that
 * its request repeats, and the turn that its answer adds. Pure; what is not understood is left out.
 */
import { createParser } from "eventsource-parser";
import type { Wire } from "../contract/agents.ts";

export interface ToolCall {
  id: string;
  name: string;
  arguments: Record<string, unknown>;
}

export type Item =
  | { kind: "system" | "user"; text: string }
  | { kind: "agent"; text: string; reasoning: string; toolCalls: ToolCall[] }
  | { kind: "result"; callId: string; text: string };

export type Turn = Extract<Item, { kind: "agent" }>;

type Json = Record<string, unknown>;

/** The history in a request, oldest first. */
export function readHistory(wire: Wire, request: Buffer): Item[] {
  const body = record(parse(request.toString("utf8")));
  switch (wire) {
    case "openai.chat":
      return list(body["messages"]).flatMap(chatItems);
    case "openai.completions":
      return [{ kind: "user", text: promptText(body["prompt"]) }];
    case "openai.embeddings":
      return [];
    case "anthropic.messages":
      return [...systemItem(body["system"]), ...list(body["messages"]).flatMap(messageItems)];
    case "openai.responses": {
      const input = body["input"];
      const said = typeof input === "string" ? [{ role: "user", content: input }] : list(input);
      return joinTurns([...systemItem(body["instructions"]), ...said.flatMap(responseItems)]);
    }
  }
}

/** The tools that a request offers, as their client describes them. */
export function readTools(request: Buffer): unknown[] {
  return list(record(parse(request.toString("utf8")))["tools"]);
}

/** The turn in an answer, streamed or in one piece; null when it holds none. */
export function readTurn(wire: Wire, response: Buffer): Turn | null {
  const text = response.toString("utf8");
  const whole = parse(text);
  const body = whole === null ? assemble(wire, eventsOf(text)) : record(whole);
  const items = turnItems(wire, body).filter((item) => item.kind === "agent");
  const turn = items.reduce<Turn | null>((joined, item) => joinTurn(joined, item), null);
  const isEmpty =
    turn === null || (turn.text === "" && turn.reasoning === "" && turn.toolCalls.length === 0);
  return isEmpty ? null : turn;
}

function turnItems(wire: Wire, body: Json): Item[] {
  switch (wire) {
    case "openai.chat":
      return chatItems({
        role: "assistant",
        ...record(record(list(body["choices"])[0])["message"]),
      });
    case "openai.completions":
      return chatItems({
        role: "assistant",
        content: string(record(list(body["choices"])[0])["text"]),
      });
    case "openai.embeddings":
      return [];
    case "anthropic.messages":
      return messageItems({ role: "assistant", content: body["content"] });
    case "openai.responses":
      return list(body["output"]).flatMap(responseItems);
  }
}

function chatItems(value: unknown): Item[] {
  const message = record(value);
  const text = textOf(message["content"]);
  switch (message["role"]) {
    case "system":
    case "developer":
      return [{ kind: "system", text }];
    case "user":
      return [{ kind: "user", text }];
    case "tool":
      return [{ kind: "result", callId: string(message["tool_call_id"]), text }];
    case "assistant": {
      const reasoning = string(message["reasoning_content"] ?? message["reasoning"]);
      const toolCalls = list(message["tool_calls"]).map((call): ToolCall => {
        const { id, function: called } = record(call);
        const { name, arguments: given } = record(called);
        return { id: string(id), name: string(name), arguments: argumentsOf(given) };
      });
      return [{ kind: "agent", text, reasoning, toolCalls }];
    }
    default:
      return [];
  }
}

function messageItems(value: unknown): Item[] {
  const { role, content } = record(value);
  const blocks =
    typeof content === "string" ? [{ type: "text", text: content }] : list(content).map(record);
  if (role === "assistant") {
    const pick = (type: string, key: string) =>
      blocks.filter((block) => block["type"] === type).map((block) => string(block[key]));
    const toolCalls = blocks
      .filter((block) => block["type"] === "tool_use")
      .map((block) => ({
        id: string(block["id"]),
        name: string(block["name"]),
        arguments: argumentsOf(block["input"]),
      }));
    const reasoning = pick("thinking", "thinking").join("\n");
    return [{ kind: "agent", text: pick("text", "text").join("\n"), reasoning, toolCalls }];
  }
  const items = blocks.map((block): Item => {
    if (block["type"] === "tool_result") {
      const text = textOf(block["content"]);
      return { kind: "result", callId: string(block["tool_use_id"]), text };
    }
    return { kind: role === "system" ? "system" : "user", text: textOf([block]) };
  });
  return items.filter((item) => item.kind === "result" || item.text !== "");
}

function responseItems(value: unknown): Item[] {
  const item = record(value);
  const callId = string(item["call_id"]);
  switch (item["type"] ?? "message") {
    case "message": {
      const text = textOf(item["content"]);
      if (item["role"] === "assistant") {
        return [{ kind: "agent", text, reasoning: "", toolCalls: [] }];
      }
      return [{ kind: item["role"] === "user" ? "user" : "system", text }];
    }
    case "reasoning": {
      const reasoning = [textOf(item["summary"]), textOf(item["content"])].join("\n").trim();
      return [{ kind: "agent", text: "", reasoning, toolCalls: [] }];
    }
    case "function_call":
    case "custom_tool_call":
    case "local_shell_call": {
      const given = argumentsOf(item["arguments"] ?? item["input"] ?? item["action"]);
      const call = { id: callId, name: string(item["name"] ?? item["type"]), arguments: given };
      return [{ kind: "agent", text: "", reasoning: "", toolCalls: [call] }];
    }
    case "function_call_output":
    case "custom_tool_call_output":
    case "local_shell_call_output":
      return [{ kind: "result", callId, text: textOf(item["output"]) }];
    default:
      return [];
  }
}

/** The Responses dialect lists the parts of a turn one by one. */
function joinTurns(items: readonly Item[]): Item[] {
  const joined: Item[] = [];
  for (const item of items) {
    const last = joined.at(-1);
    if (item.kind === "agent" && last?.kind === "agent") {
      joined.splice(-1, 1, joinTurn(last, item));
    } else {
      joined.push(item);
    }
  }
  return joined;
}

function joinTurn(before: Turn | null, turn: Turn): Turn {
  if (before === null) return turn;
  const join = (a: string, b: string) => [a, b].filter((text) => text !== "").join("\n");
  return {
    kind: "agent",
    text: join(before.text, turn.text),
    reasoning: join(before.reasoning, turn.reasoning),
    toolCalls: [...before.toolCalls, ...turn.toolCalls],
  };
}

function eventsOf(text: string): Json[] {
  const events: Json[] = [];
  const parser = createParser({
    onEvent: ({ data }) => void events.push(record(parse(data))),
  });
  parser.feed(text);
  return events;
}

/** One prompt, or several of a batch; a prompt of token ids says nothing to a reader. */
function promptText(prompt: unknown): string {
  if (typeof prompt === "string") return prompt;
  return list(prompt)
    .filter((one) => typeof one === "string")
    .join("\n");
}

/** A streamed answer as if it had come in one piece. */
function assemble(wire: Wire, events: readonly Json[]): Json {
  switch (wire) {
    case "openai.chat":
      return assembleChat(events);
    case "openai.completions": {
      const choices = events.map((event) => record(list(event["choices"])[0]));
      return { choices: [{ text: choices.map((choice) => string(choice["text"])).join("") }] };
    }
    case "openai.embeddings":
      return {};
    case "anthropic.messages":
      return assembleMessage(events);
    case "openai.responses": {
      const done = events.filter((event) => event["type"] === "response.output_item.done");
      return { output: done.map((event) => event["item"]) };
    }
  }
}

function assembleChat(events: readonly Json[]): Json {
  const message = { content: "", reasoning_content: "" };
  const calls = new Map<unknown, { id: string; function: { name: string; arguments: string } }>();
  for (const event of events) {
    const delta = record(record(list(event["choices"])[0])["delta"]);
    message.content += string(delta["content"]);
    message.reasoning_content += string(delta["reasoning_content"] ?? delta["reasoning"]);
    for (const part of list(delta["tool_calls"]).map(record)) {
      const call = calls.get(part["index"]) ?? { id: "", function: { name: "", arguments: "" } };
      calls.set(part["index"], call);
      const called = record(part["function"]);
      call.id ||= string(part["id"]);
      call.function.name += string(called["name"]);
      call.function.arguments += string(called["arguments"]);
    }
  }
  return { choices: [{ message: { ...message, tool_calls: [...calls.values()] } }] };
}

function assembleMessage(events: readonly Json[]): Json {
  const blocks = new Map<unknown, Json>();
  for (const event of events) {
    if (event["type"] === "content_block_start") {
      blocks.set(event["index"], { ...record(event["content_block"]), json: "" });
    }
    const block = blocks.get(event["index"]);
    if (event["type"] !== "content_block_delta" || block === undefined) continue;
    const delta = record(event["delta"]);
    for (const key of ["text", "thinking"]) {
      if (delta[key] !== undefined) block[key] = string(block[key]) + string(delta[key]);
    }
    block["json"] = string(block["json"]) + string(delta["partial_json"]);
  }
  const content = [...blocks.values()].map(({ json, ...block }) =>
    json === "" ? block : { ...block, input: json },
  );
  return { content };
}

function systemItem(value: unknown): Item[] {
  const text = textOf(value);
  return text === "" ? [] : [{ kind: "system", text }];
}

/** The text of a content: itself, or that of its parts, with what is no text named. */
function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content))
    return content === undefined || content === null ? "" : json(content);
  const parts = content.map((part) => {
    if (typeof part === "string") return part;
    const { type, text } = record(part);
    return typeof text === "string" ? text : `[${string(type) || "part"}]`;
  });
  return parts.join("\n");
}

function argumentsOf(given: unknown): Record<string, unknown> {
  const value = typeof given === "string" ? parse(given) : given;
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return record(value);
  return given === undefined || given === "" ? {} : { input: given };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function json(value: unknown): string {
  return JSON.stringify(value);
}

function record(value: unknown): Json {
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}
