/**
 * A call as its client sent it: what decides its price is read off the bytes, and what bounds its
 * price is written into them. The rest passes unchanged. Pure.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import {
  type Edit,
  readValue,
  type ScannedObject,
  type Span,
  scanArray,
  scanObject,
  setMember,
  splice,
} from "./json-scan.ts";
import type { Provider } from "./upstream.ts";

/** A request that cannot be served as it is. The message names the field and what to do. */
export class RequestError extends Error {
  override readonly name = "RequestError";
}

export interface CallRequest {
  wire: Wire;
  model: string;
  isStream: boolean;
  /** The most output its client asks for; null when it says nothing. */
  outputTokens: number | null;
  /** Answers asked for at once: each may be as long as the ceiling. */
  choices: number;
  /** The client wants the usage chunk of a chat stream itself. */
  wantsUsage: boolean;
  /** Input that the bytes do not carry (images by address, stored conversations) is referred to. */
  hasOutsideInput: boolean;
  bytes: Buffer;
  object: ScannedObject;
}

export interface Rewrite {
  upstreamName: string;
  outputTokens: number;
  provider: Pick<Provider, "hasContinuousUsage" | "isHosted">;
}

const CEILING_KEYS: Readonly<Record<Wire, readonly string[]>> = {
  "openai.chat": ["max_completion_tokens", "max_tokens"],
  "openai.responses": ["max_output_tokens"],
  "anthropic.messages": ["max_tokens"],
};

/** Where a call would go, or what it would run beside the call: never a worker's to say. */
const FORBIDDEN = [
  "api_base",
  "base_url",
  "api_key",
  "api_version",
  "api_type",
  "custom_llm_provider",
  "organization",
  "deployment_id",
  "fallbacks",
  "model_list",
  "user_config",
  "router_settings_override",
  "extra_headers",
  "extra_body",
  "extra_query",
  "mock_response",
];

/** Work that a token count does not cover: more answers than `n`, or answers fetched elsewhere. */
const UNMETERED = ["best_of", "background", "use_beam_search"];

/** What hosted providers bill beside the tokens, or at another price. */
const HOSTED_ONLY: Readonly<Record<string, readonly unknown[]>> = {
  service_tier: ["auto", "default", "flex", "standard_only"],
  speed: ["standard"],
  inference_geo: ["global"],
  mcp_servers: [],
  container: [],
  prediction: [],
  web_search_options: [],
  modalities: [],
  audio: [],
  prompt: [],
};
const HOSTED_TOOL =
  /^(?:web_search|web_fetch|code_interpreter|code_execution|file_search|image_generation|mcp)/;

/** Input that is billed and not in the bytes. */
const OUTSIDE_INPUT = ["previous_response_id", "conversation", "prompt", "container"];

/** The types of the parts of a message that stand for more input than their bytes. */
const OUTSIDE_PARTS = [
  ...['"image_url"', '"input_image"', '"image"', '"document"', '"file"', '"input_file"'],
  ...['"file_id"', '"file_url"', '"input_audio"', '"video_url"', '"audio_url"'],
];

const WATCHED: ReadonlySet<string> = new Set([
  ...["model", "stream", "stream_options", "n", "tools", "messages", "input", "system"],
  ...Object.values(CEILING_KEYS).flat(),
  ...FORBIDDEN,
  ...UNMETERED,
  ...Object.keys(HOSTED_ONLY),
  ...OUTSIDE_INPUT,
]);

const CHOICES_MAX = 16;

/** @throws ScanError or RequestError, with a message for the client. */
export function readRequest(wire: Wire, bytes: Buffer): CallRequest {
  const object = scanObject(bytes, WATCHED);
  const { members } = object;
  for (const key of FORBIDDEN) {
    if (members.has(key)) throw new RequestError(`${key}: not allowed here; remove it`);
  }
  for (const key of UNMETERED) {
    const value = small(key);
    if (value !== undefined && value !== null && value !== false && value !== 1) {
      throw new RequestError(`${key}: not allowed here; remove it`);
    }
  }
  const model = small("model");
  if (typeof model !== "string" || model === "") {
    throw new RequestError("model: must be the name of a model, as text");
  }
  const stream = small("stream") ?? false;
  if (typeof stream !== "boolean") throw new RequestError("stream: must be true or false");
  const choices = integer("n") ?? 1;
  if (choices > CHOICES_MAX) throw new RequestError(`n: must be at most ${CHOICES_MAX}`);
  const asked = CEILING_KEYS[wire].map(integer).filter((value) => value !== null);
  return {
    wire,
    model,
    isStream: stream,
    outputTokens: asked.length === 0 ? null : Math.min(...asked),
    choices: wire === "openai.chat" ? choices : 1,
    wantsUsage: wantsUsage(bytes, members.get("stream_options")),
    hasOutsideInput:
      OUTSIDE_INPUT.some((key) => (small(key) ?? null) !== null) || refersOutside(bytes),
    bytes,
    object,
  };

  function small(key: string): unknown {
    const span = members.get(key);
    if (span === undefined) return undefined;
    // Large values are never what the caller of this asks for.
    return span.end - span.start > 4_096 ? {} : readValue(bytes, span);
  }

  function integer(key: string): number | null {
    const value = small(key) ?? null;
    if (value === null) return null;
    if (!Number.isSafeInteger(value) || (value as number) < 1) {
      throw new RequestError(`${key}: must be a whole number from 1`);
    }
    return value as number;
  }
}

/** @throws RequestError when the call would cost what its tokens do not show. */
export function checkHosted({ bytes, object }: CallRequest): void {
  for (const [key, allowed] of Object.entries(HOSTED_ONLY)) {
    const span = object.members.get(key);
    if (span === undefined) continue;
    const value = readValue(bytes, span);
    const isText = JSON.stringify(value) === '["text"]';
    if (value !== null && !isText && !allowed.includes(value)) {
      throw new RequestError(`${key}: is billed beside the tokens, so it is not allowed here`);
    }
  }
  const tools = object.members.get("tools");
  if (tools === undefined || bytes[tools.start] !== 0x5b) return;
  for (const span of scanArray(bytes, tools)) {
    if (bytes[span.start] !== 0x7b) continue;
    const type = scanObject(bytes, new Set(["type"]), span).members.get("type");
    const name = type === undefined ? null : readValue(bytes, type);
    if (typeof name === "string" && HOSTED_TOOL.test(name)) {
      const hint = "turn it off in the agent's settings";
      throw new RequestError(`tools: "${name}" is billed beside the tokens; ${hint}`);
    }
  }
}

/** The bytes that go upstream: the same but for model name, ceiling and usage wish. */
export function rewriteRequest(request: CallRequest, rewrite: Rewrite): Buffer {
  const { wire, bytes, object, isStream } = request;
  const edits: Edit[] = [setMember(object, "model", JSON.stringify(rewrite.upstreamName))];
  const ceiling = String(rewrite.outputTokens);
  const present = CEILING_KEYS[wire].filter((key) => object.members.has(key));
  for (const key of present.length > 0 ? present : [ceilingKey(wire, rewrite.provider.isHosted)]) {
    edits.push(setMember(object, key, ceiling));
  }
  if (wire === "openai.chat" && isStream) {
    edits.push(...usageEdits(bytes, object, rewrite.provider.hasContinuousUsage));
  }
  return splice(bytes, edits);
}

/** OpenAI's o-series knows only the newer name; every other chat server knows the older one. */
function ceilingKey(wire: Wire, isHosted: boolean): string {
  if (wire === "openai.chat") return isHosted ? "max_completion_tokens" : "max_tokens";
  return wire === "openai.responses" ? "max_output_tokens" : "max_tokens";
}

function usageEdits(bytes: Buffer, object: ScannedObject, isContinuous: boolean): Edit[] {
  const span = object.members.get("stream_options");
  const wanted = isContinuous ? ["include_usage", "continuous_usage_stats"] : ["include_usage"];
  if (span === undefined || bytes[span.start] !== 0x7b) {
    const members = wanted.map((key) => `"${key}":true`).join(",");
    return [setMember(object, "stream_options", `{${members}}`)];
  }
  const inner = scanObject(bytes, new Set(wanted), span);
  return wanted.map((key) => setMember(inner, key, "true"));
}

function wantsUsage(bytes: Buffer, span: Span | undefined): boolean {
  if (span === undefined || bytes[span.start] !== 0x7b) return false;
  const watched = new Set(["include_usage", "continuous_usage_stats"]);
  const inner = scanObject(bytes, watched, span).members.get("include_usage");
  return inner !== undefined && readValue(bytes, inner) === true;
}

/** Whether a part of the input may be an image, a file or another thing its bytes do not count. */
function refersOutside(bytes: Buffer): boolean {
  return OUTSIDE_PARTS.some((mark) => {
    for (let at = bytes.indexOf(mark); at !== -1; at = bytes.indexOf(mark, at + 1)) {
      // Inside a text its quotes are escaped.
      if (bytes[at - 1] !== 0x5c) return true;
    }
    return false;
  });
}
