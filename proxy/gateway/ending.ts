/**
 * Ends a stream that is cut short as its dialect ends one that reached its limit: `length`,
 * `max_tokens` or `incomplete`, so that a client takes it for an answer and not for a failure.
 * Pure: it only remembers what the events that passed have left open.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import type { Usage } from "./usage.ts";

export interface StreamEnding {
  /** Told of every event that passed to the client, in its order. */
  see(event: Json): void;
  /** The events that are still due. `wantsUsage`: the client asked for a chunk of it. */
  text(usage: Usage, wantsUsage: boolean): string;
}

type Json = Readonly<Record<string, unknown>>;

export function createStreamEnding(wire: Wire): StreamEnding {
  switch (wire) {
    case "openai.chat":
      return choicesEnding({ delta: {} });
    case "openai.completions":
      return choicesEnding({ text: "" });
    case "openai.responses":
      return responseEnding();
    case "anthropic.messages":
      return messageEnding();
    case "openai.embeddings":
      return { see: () => undefined, text: () => "" };
  }
}

function choicesEnding(empty: Json): StreamEnding {
  let head: Json | null = null;
  /** Choices by index, and whether each has its finish reason. */
  const choices = new Map<number, boolean>();
  return { see, text };

  function see(event: Json): void {
    if (!Array.isArray(event["choices"])) return;
    const { choices: passed, usage: _, ...rest } = event;
    head ??= rest;
    for (const { index, finish_reason } of passed as Json[]) {
      const at = Number(index ?? 0);
      choices.set(at, (choices.get(at) ?? false) || (finish_reason ?? null) !== null);
    }
  }

  function text(usage: Usage, wantsUsage: boolean): string {
    const open = [...choices].flatMap(([index, isFinished]) => (isFinished ? [] : [index]));
    const chunks = open.map((index) => ({
      ...head,
      choices: [{ index, ...empty, logprobs: null, finish_reason: "length" }],
    }));
    const input = inputOf(usage);
    const counted = {
      prompt_tokens: input,
      completion_tokens: usage.outputTokens,
      total_tokens: input + usage.outputTokens,
      prompt_tokens_details: { cached_tokens: usage.cacheReadTokens },
      completion_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    };
    const last = wantsUsage ? [{ ...head, choices: [], usage: counted }] : [];
    const events = [...chunks, ...last].map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`);
    return `${events.join("")}data: [DONE]\n\n`;
  }
}

function messageEnding(): StreamEnding {
  const open = new Set<unknown>();
  return { see, text };

  function see({ type, index }: Json): void {
    if (type === "content_block_start") open.add(index);
    if (type === "content_block_stop") open.delete(index);
  }

  function text(usage: Usage): string {
    const events: ({ type: string } & Json)[] = [
      ...[...open].map((index) => ({ type: "content_block_stop", index })),
      {
        type: "message_delta",
        delta: { stop_reason: "max_tokens", stop_sequence: null },
        usage: { output_tokens: usage.outputTokens },
      },
      { type: "message_stop" },
    ];
    return events.map(named).join("");
  }
}

/** An item of a response that is being written: what of it came in deltas. */
interface OpenItem {
  item: Json;
  texts: Map<unknown, string>;
  arguments: string;
}

function responseEnding(): StreamEnding {
  let response: Json = {};
  let sequence = -1;
  const done = new Map<unknown, unknown>();
  const open = new Map<unknown, OpenItem>();
  return { see, text };

  function see(event: Json): void {
    const { type, sequence_number, output_index: at } = event;
    if (Number.isSafeInteger(sequence_number)) sequence = sequence_number as number;
    const now = open.get(at);
    switch (type) {
      case "response.created":
      case "response.in_progress":
        response = (event["response"] ?? {}) as Json;
        break;
      case "response.output_item.added":
        open.set(at, { item: (event["item"] ?? {}) as Json, texts: new Map(), arguments: "" });
        break;
      case "response.output_item.done":
        open.delete(at);
        done.set(at, event["item"]);
        break;
      case "response.output_text.delta": {
        const part = event["content_index"];
        now?.texts.set(part, (now.texts.get(part) ?? "") + String(event["delta"]));
        break;
      }
      case "response.function_call_arguments.delta":
        if (now !== undefined) now.arguments += String(event["delta"]);
    }
  }

  function text(usage: Usage): string {
    const events: ({ type: string } & Json)[] = [];
    for (const [output_index, opened] of open) {
      const item = closed(opened);
      const where = { item_id: item["id"], output_index };
      for (const [content_index, written] of opened.texts) {
        const at = { ...where, content_index };
        events.push({ type: "response.output_text.done", ...at, text: written, logprobs: [] });
        events.push({ type: "response.content_part.done", ...at, part: textPart(written) });
      }
      events.push({ type: "response.output_item.done", output_index, item });
      done.set(output_index, item);
    }
    const output = [...done].sort(([a], [b]) => Number(a) - Number(b)).map(([, item]) => item);
    const end = { status: "incomplete", incomplete_details: { reason: "max_output_tokens" } };
    const whole = { ...response, ...end, output, usage: responseUsage(usage) };
    events.push({ type: "response.incomplete", response: whole });
    return events
      .map(({ type, ...rest }, index) => {
        return named({ type, sequence_number: sequence + 1 + index, ...rest });
      })
      .join("");
  }
}

function closed({ item, texts, arguments: written }: OpenItem): Json {
  const rest = { ...item, ...(item["type"] === "reasoning" ? {} : { status: "incomplete" }) };
  switch (item["type"]) {
    case "message":
      return { ...rest, content: [...texts.values()].map(textPart) };
    case "function_call":
      return { ...rest, arguments: written };
    default:
      return rest;
  }
}

function textPart(text: string): Json {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}

function responseUsage(usage: Usage): Json {
  const input = inputOf(usage);
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: usage.cacheReadTokens },
    output_tokens: usage.outputTokens,
    output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    total_tokens: input + usage.outputTokens,
  };
}

function inputOf({ inputTokens, cacheReadTokens, cacheWriteTokens }: Usage): number {
  return inputTokens + cacheReadTokens + cacheWriteTokens;
}

function named(event: { type: string } & Json): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}
