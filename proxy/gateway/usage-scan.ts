/**
 * Watches an answer pass for what it says of usage, and takes out the one chunk that its client
 * did not ask for. The bytes themselves are never written anew.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import { readValue, scanObject } from "./json-scan.ts";
import { createSseSplitter, eventData } from "./sse.ts";
import { NO_USAGE, readUsage, type Usage } from "./usage.ts";

export interface SeenUsage {
  /** The latest running total; null when none came. */
  usage: Usage | null;
  /** Whether that total covers the output that passed, as far as the dialect tells. */
  isComplete: boolean;
  /** A usage came that is no usage, or fell below an earlier one. */
  isInvalid: boolean;
}

export const UNSEEN: SeenUsage = { usage: null, isComplete: false, isInvalid: false };

export interface UsageScan {
  /** The bytes that may go to the client now. */
  push(chunk: Buffer): Buffer[];
  /** The bytes that were held back, once the stream is over. */
  end(): Buffer[];
  seen(): SeenUsage;
  /** Whether what passed so far ends where an event ends. */
  isBetweenEvents(): boolean;
}

/** A longer event is not looked into: it passes, and its usage counts as not sent. */
export const EVENT_BYTES_MAX = 8 * 1024 * 1024;
const MARK = '"usage"';

/** @param withoutUsageChunk take the usage-only chunk out of a stream of chat or completions. */
export function createUsageScan(wire: Wire, withoutUsageChunk: boolean): UsageScan {
  let seen = UNSEEN;
  let passing: Buffer[] = [];
  let isDropped = false;
  let isBlind = false;
  const splitter = createSseSplitter(
    (event) => {
      isDropped = look(event) && withoutUsageChunk;
      if (!isDropped) passing.push(event);
    },
    (tail) => {
      if (!isDropped) passing.push(tail);
    },
  );
  const isBetweenEvents = () => !isBlind && splitter.rest().length === 0;
  return { push, end, seen: () => seen, isBetweenEvents };

  function push(chunk: Buffer): Buffer[] {
    if (isBlind) return [chunk];
    passing = [];
    splitter.push(chunk);
    if (splitter.rest().length > EVENT_BYTES_MAX) {
      isBlind = true;
      seen = { ...seen, isComplete: false };
      passing.push(splitter.rest());
    }
    return withoutUsageChunk ? passing : [chunk];
  }

  function end(): Buffer[] {
    if (isBlind) return [];
    const rest = splitter.rest();
    if (rest.length === 0) return [];
    const isUsageChunk = look(rest);
    return withoutUsageChunk && !isUsageChunk ? [rest] : [];
  }

  /** Takes the usage of an event, and says whether the event was nothing else. */
  function look(event: Buffer): boolean {
    if (!event.includes(MARK)) return false;
    let value: unknown;
    try {
      value = JSON.parse(eventData(event) ?? "null");
    } catch {
      return false;
    }
    const found = readEventUsage(wire, value, seen);
    seen = found?.seen ?? seen;
    return found?.isAlone ?? false;
  }
}

/**
 * What is known after an event; null when it says nothing of usage. `isAlone`: the event says
 * nothing else.
 */
export function readEventUsage(
  wire: Wire,
  event: unknown,
  before: SeenUsage,
): { seen: SeenUsage; isAlone: boolean } | null {
  const found = usageOf(wire, event);
  if (found === null) return null;
  const { isAlone, isTotal } = found;
  const usage = readUsage(wire, found.usage, before.usage ?? NO_USAGE);
  if (usage === null || isLess(usage, before.usage)) {
    return { seen: { ...before, isInvalid: true }, isAlone };
  }
  return { seen: { usage, isComplete: isTotal, isInvalid: before.isInvalid }, isAlone };
}

/** The usage of an answer that came in one piece. */
export function usageOfBody(wire: Wire, body: Buffer): SeenUsage {
  try {
    const span = scanObject(body, new Set()).members.get("usage");
    const value = span === undefined ? null : readValue(body, span);
    if (value === null) return { usage: null, isComplete: false, isInvalid: false };
    const usage = readUsage(wire, value);
    return { usage, isComplete: usage !== null, isInvalid: usage === null };
  } catch {
    return { usage: null, isComplete: false, isInvalid: true };
  }
}

function usageOf(
  wire: Wire,
  event: unknown,
): { usage: unknown; isTotal: boolean; isAlone: boolean } | null {
  const { usage, choices, type, response, message } = (event ?? {}) as Record<string, unknown>;
  switch (wire) {
    case "openai.embeddings":
      return null;
    case "openai.chat":
    case "openai.completions": {
      if ((usage ?? null) === null) return null;
      const isAlone = Array.isArray(choices) && choices.length === 0;
      return { usage, isTotal: true, isAlone };
    }
    case "openai.responses": {
      if (!/^response\.(completed|incomplete|failed)$/.test(String(type))) return null;
      const total = (response as Record<string, unknown> | null | undefined)?.["usage"] ?? null;
      return total === null ? null : { usage: total, isTotal: true, isAlone: false };
    }
    case "anthropic.messages": {
      if (type === "message_delta") {
        return (usage ?? null) === null ? null : { usage, isTotal: true, isAlone: false };
      }
      const first = (message as Record<string, unknown> | null | undefined)?.["usage"] ?? null;
      if (type !== "message_start" || first === null) return null;
      return { usage: first, isTotal: false, isAlone: false };
    }
  }
}

function isLess(usage: Usage, before: Usage | null): boolean {
  if (before === null) return false;
  const total = (one: Usage) => one.inputTokens + one.cacheReadTokens + one.cacheWriteTokens;
  return usage.outputTokens < before.outputTokens || total(usage) < total(before);
}
