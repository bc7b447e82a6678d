/** OpenAI completions, as vLLM serves it: text in, text out, no tools. */
import {
  type Answer,
  type Dialect,
  isRecord,
  type ModelRequest,
  pieces,
  ScriptedProblem,
  type StreamEvent,
  tokensOf,
} from "./dialect.ts";
import { CREATED_SECONDS, finishReason, openaiError, usageChunks, usageOf } from "./openai-chat.ts";

export const openaiCompletions: Dialect = {
  wire: "openai.completions",
  toolUseIdPrefix: "call_",
  parse,
  json,
  events,
  error: openaiError,
};

/** Several prompts are answered as one text: a script has one answer. */
function parse(body: unknown, bytes: Pick<ModelRequest, "bodyBytes" | "digest">): ModelRequest {
  if (!isRecord(body) || typeof body["model"] !== "string") {
    throw new ScriptedProblem(400, "invalid_request_error", "model: must be a string");
  }
  const prompts = [body["prompt"]].flat().filter((prompt) => typeof prompt === "string");
  if (prompts.length === 0) {
    throw new ScriptedProblem(400, "invalid_request_error", "prompt: must be text");
  }
  const limit = body["max_tokens"];
  return {
    ...bytes,
    model: body["model"],
    isStream: body["stream"] === true,
    maxOutputTokens: typeof limit === "number" ? limit : null,
    system: "",
    turns: [{ role: "user", text: prompts.join("\n") }],
    tools: [],
    wantsThinking: false,
    usageChunks: usageChunks(body["stream_options"]),
  };
}

function json(request: ModelRequest, answer: Answer): object {
  return {
    ...head(request),
    choices: [choice(textOf(answer), finishReason(answer))],
    ...(answer.usage === null ? {} : { usage: usageOf(answer.usage) }),
  };
}

function events(request: ModelRequest, answer: Answer): StreamEvent[] {
  const sent: StreamEvent[] = [];
  let writtenBytes = 0;
  for (const piece of pieces(textOf(answer))) {
    writtenBytes += Buffer.byteLength(piece);
    chunk(piece, null);
  }
  chunk("", finishReason(answer));
  if (request.usageChunks !== "none" && answer.usage !== null) {
    sent.push({
      data: JSON.stringify({ ...head(request), choices: [], usage: usageOf(answer.usage) }),
    });
  }
  sent.push({ data: "[DONE]" });
  return sent;

  function chunk(text: string, finish: string | null): void {
    const { usage } = answer;
    const isRunning = request.usageChunks === "continuous" && usage !== null;
    const running = isRunning
      ? { usage: usageOf({ ...usage, outputTokens: tokensOf(writtenBytes) }) }
      : {};
    const data = { ...head(request), choices: [choice(text, finish)], ...running };
    sent.push({ data: JSON.stringify(data) });
  }
}

function head({ digest, model }: ModelRequest): object {
  return { id: `cmpl-${digest}`, object: "text_completion", created: CREATED_SECONDS, model };
}

function choice(text: string, finish: string | null): object {
  return { index: 0, text, logprobs: null, finish_reason: finish };
}

function textOf({ blocks }: Answer): string {
  return blocks.map((block) => (block.kind === "text" ? block.text : "")).join("");
}
