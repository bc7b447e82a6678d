/**
 * What the wire protocols have in common: a request as the scripted model understands it,
 * an answer before it is written in a protocol's own words, and what each protocol file must do.
 */

/** A tool that the agent offers. `freeform`: its input is plain text, not a JSON object. */
export interface OfferedTool {
  name: string;
  isFreeform: boolean;
  /** JSON Schema of the input's properties; empty when freeform. */
  properties: Readonly<Record<string, PropertySchema>>;
  required: readonly string[];
}

export interface PropertySchema {
  type?: string | string[];
  enum?: unknown[];
}

export interface ToolUse {
  id: string;
  name: string;
}

/** One message of the history, in order. Texts of one message are joined with a newline. */
export type Turn =
  | { role: "user"; text: string }
  | { role: "assistant"; text: string; toolUses: readonly ToolUse[] }
  /** `isError` is null where the protocol has no mark for a failed tool. */
  | { role: "tool"; toolUseId: string; text: string; isError: boolean | null };

export interface ModelRequest {
  model: string;
  isStream: boolean;
  /** Null when the request sets no limit. */
  maxOutputTokens: number | null;
  /** Everything the system or developer roles said. */
  system: string;
  turns: readonly Turn[];
  tools: readonly OfferedTool[];
  wantsThinking: boolean;
  usageChunks: "none" | "last" | "continuous";
  /** Bytes of the request's body: its input tokens are a quarter of them. */
  bodyBytes: number;
  /** Hash of the body, from which every id of the answer is made. */
  digest: string;
}

export type Block =
  | { kind: "thinking"; text: string }
  | { kind: "text"; text: string }
  /** `input`: the arguments' JSON text, or plain text when freeform. */
  | { kind: "tool_use"; id: string; name: string; input: string; isFreeform: boolean };

export interface Usage {
  inputTokens: number;
  outputTokens: number;
  reasoningTokens: number;
}

export interface Answer {
  blocks: readonly Block[];
  stop: "end" | "tool_use" | "length";
  /** Null when a fault says that this server reports no usage. */
  usage: Usage | null;
}

/** One server-sent event. */
export interface StreamEvent {
  event?: string;
  data: string;
}

/** One wire protocol. All of it is pure. */
export interface Dialect {
  readonly wire: "openai.chat" | "openai.completions" | "openai.responses" | "anthropic.messages";
  /** What the ids of this protocol's tool uses begin with. */
  readonly toolUseIdPrefix: string;
  /** @throws ScriptedProblem 400 for a body that is not a request of this protocol. */
  parse(body: unknown, bytes: Pick<ModelRequest, "bodyBytes" | "digest">): ModelRequest;
  /** The whole answer as one JSON body. */
  json(request: ModelRequest, answer: Answer): object;
  /** The same answer as a stream. */
  events(request: ModelRequest, answer: Answer): StreamEvent[];
  /** An error in the protocol's envelope. */
  error(status: number, code: string, message: string): object;
}

/** What the server tells the client instead of an answer. */
export class ScriptedProblem extends Error {
  override readonly name = "ScriptedProblem";
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const BYTES_PER_TOKEN = 4;
const PIECE_CHARS = 24;

/** Tokens of `bytes` of text: a pure function of the bytes, so that tests know sums exactly. */
export function tokensOf(bytes: number): number {
  return Math.ceil(bytes / BYTES_PER_TOKEN);
}

/** `text` in at least three pieces where it has three characters; joined they are the text. */
export function pieces(text: string): string[] {
  const chars = Array.from(text);
  const count = Math.min(chars.length, Math.max(3, Math.ceil(chars.length / PIECE_CHARS)));
  return Array.from({ length: count }, (_, index) => {
    const from = Math.floor((index * chars.length) / count);
    const to = Math.floor(((index + 1) * chars.length) / count);
    return chars.slice(from, to).join("");
  });
}

/** The longest prefix of `text` of at most `bytes` bytes, on a character's edge. */
export function textPrefix(text: string, bytes: number): string {
  let left = bytes;
  let end = 0;
  for (const char of text) {
    left -= Buffer.byteLength(char);
    if (left < 0) break;
    end += char.length;
  }
  return text.slice(0, end);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

/** The text of a message's content: a string, or the `text` members of an array of parts. */
export function contentText(content: unknown): string {
  if (typeof content === "string") return content;
  return records(content)
    .map((part) => (typeof part["text"] === "string" ? part["text"] : ""))
    .filter((text) => text !== "")
    .join("\n");
}

/** A tool from its name and the JSON Schema of its input. */
export function offeredTool(name: string, schema: unknown): OfferedTool {
  const properties = isRecord(schema) && isRecord(schema["properties"]) ? schema["properties"] : {};
  const required = isRecord(schema) && Array.isArray(schema["required"]) ? schema["required"] : [];
  return {
    name,
    isFreeform: false,
    properties: properties as Record<string, PropertySchema>,
    required: required.filter((key) => typeof key === "string"),
  };
}
