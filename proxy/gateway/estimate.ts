/**
 * Counts an answer whose server did not say what it used: a byte of text for a token, which is
 * never under what passed. Pure; runs only when usage is missing.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import { createSseSplitter, eventData } from "./sse.ts";

export interface Estimate {
  outputTokens: number;
  /** What was counted, where all of it is at hand; else null. */
  text: string | null;
  /** Whether any of the answer itself came: if not, an error is the whole answer. */
  hasOutput: boolean;
  /** What the server said of its failure, if it did. */
  error: string | null;
}

/** Fields of an answer whose text the model wrote. */
const WRITTEN = new Set([
  ...["content", "text", "reasoning", "reasoning_content", "thinking", "refusal"],
  ...["arguments", "name", "partial_json", "delta", "summary", "signature", "data"],
]);
const DEPTH_MAX = 32;

/**
 * @param recorded the answer as it came, or its beginning.
 * @param beyondBytes how many more bytes came than are recorded: each counts as a token.
 */
export function estimateAnswer(
  wire: Wire,
  recorded: Buffer,
  isStream: boolean,
  beyondBytes: number,
): Estimate {
  const pieces: string[] = [];
  let error: string | null = null;
  const count = (text: string): void => {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      // Not JSON: a cut event, or no answer of this dialect. What it holds may be output.
      if (text !== "[DONE]") pieces.push(text);
      return;
    }
    error ??= errorOf(value);
    eachWritten(answerPart(wire, value, isStream), 0, (piece) => void pieces.push(piece));
  };
  if (isStream) {
    const onEvent = (event: Buffer): void => {
      const data = eventData(event);
      if (data !== null && data !== "") count(data);
    };
    const splitter = createSseSplitter(onEvent, () => undefined);
    splitter.push(recorded);
    onEvent(splitter.rest());
  } else if (recorded.length > 0) {
    count(recorded.toString("utf8"));
  }
  if (wire === "openai.embeddings") {
    const hasOutput = error === null && recorded.length > 0;
    return { outputTokens: 0, text: null, hasOutput, error };
  }
  const text = pieces.join("");
  const outputTokens = Buffer.byteLength(text) + beyondBytes;
  const isWhole = beyondBytes === 0;
  return { outputTokens, text: isWhole ? text : null, hasOutput: outputTokens > 0, error };
}

/** The bytes of text in an event, or in a whole answer, that the model wrote. */
export function writtenIn(wire: Wire, value: unknown, isStream: boolean): number {
  let bytes = 0;
  eachWritten(answerPart(wire, value, isStream), 0, (piece) => {
    bytes += Buffer.byteLength(piece);
  });
  return bytes;
}

/** The part of an event or a body that holds what the model wrote, each piece of it once. */
function answerPart(wire: Wire, value: unknown, isStream: boolean): unknown {
  const record = (value ?? {}) as Record<string, unknown>;
  switch (wire) {
    case "openai.chat":
    case "openai.completions":
      return record["choices"];
    case "openai.embeddings":
      return null;
    case "openai.responses": {
      if (!isStream) return record["output"];
      // The later events of an item repeat what its deltas brought.
      return String(record["type"]).endsWith(".delta") ? { delta: record["delta"] } : null;
    }
    case "anthropic.messages":
      return isStream ? [record["delta"], record["content_block"]] : record["content"];
  }
}

function eachWritten(value: unknown, depth: number, add: (piece: string) => void): void {
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return;
  for (const [key, inner] of Object.entries(value)) {
    if (typeof inner === "string") {
      if (WRITTEN.has(key) || Array.isArray(value)) add(inner);
    } else if (key === "input") {
      add(JSON.stringify(inner));
    } else {
      eachWritten(inner, depth + 1, add);
    }
  }
}

function errorOf(value: unknown): string | null {
  const record = (value ?? {}) as Record<string, unknown>;
  const response = record["response"] as Record<string, unknown> | null | undefined;
  const found = record["error"] ?? response?.["error"] ?? null;
  if (found === null) return null;
  const message = typeof found === "object" ? (found as { message?: unknown }).message : found;
  return String(message ?? "the model server failed").slice(0, 500);
}
