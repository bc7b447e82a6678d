/**
 * A call as its client sent it: what decides its price is read off the bytes, and what bounds its
 * price is written into them. The rest passes unchanged. Pure.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";
import {
  type Edit,
  hasString,
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
  /** Answers asked for at once, of all inputs together: each may be as long as the ceiling. */
  choices: number;
  /** Separate prompts or texts: each may fill the model's context. */
  inputs: number;
  /** Each answer begins with its prompt, which some servers count as output too. */
  isEchoed: boolean;
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
  "openai.completions": ["max_tokens"],
  // Vectors are no tokens.
  "openai.embeddings": [],
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

/** Input that is billed and not in the bytes; a template of the client's own may repeat them. */
const OUTSIDE_INPUT = [
  ...["previous_response_id", "conversation", "prompt", "container"],
  "chat_template",
];

/** The types of the parts of a message that stand for more input than their bytes. */
const OUTSIDE_PARTS: ReadonlySet<string> = new Set([
  ...["image_url", "input_image", "image", "document", "file", "input_file"],
  ...["file_id", "file_url", "input_audio", "video_url", "audio_url"],
]);

const WATCHED: ReadonlySet<string> = new Set([
  ...["model", "stream", "stream_options", "n", "tools", "messages", "input", "system", "echo"],
  ...Object.values(CEILING_KEYS).flat(),
  ...FORBIDDEN,
  ...UNMETERED,
  ...Object.keys(HOSTED_ONLY),
  ...OUTSIDE_INPUT,
]);

/** Of one prompt. */
const CHOICES_MAX = 16;
/** As many texts as the provider of the dialect takes at once. */
const INPUTS_MAX = 2_048;

/** @throws ScanError or RequestError, with a message for the client. */
export function readRequest(wire: Wire, bytes: Buffer): CallRequest {
  const object = scanObject(bytes, WATCHED);
  const { members } = object;
  for (const key of FORBIDDEN) {
    if (members.has(key)) throw new RequestError(`${key}: not allowed here; remove it`);
  }
  for (const key of UNMETERED) {
    if (key === "best_of" && wire === "openai.completions") continue;
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
  if (stream && wire === "openai.embeddings") {
    throw new RequestError("stream: embeddings are not streamed; remove it");
  }
  const isEchoed = small("echo") ?? false;
  if (typeof isEchoed !== "boolean") throw new RequestError("echo: must be true or false");
  const inputs = countInputs(wire, bytes, object);
  const asked = CEILING_KEYS[wire].map(integer).filter((value) => value !== null);
  return {
    wire,
    model,
    isStream: stream,
    outputTokens: asked.length === 0 ? null : Math.min(...asked),
    choices: inputs * choicesOfEach(),
    inputs,
    isEchoed: isEchoed && wire === "openai.completions",
    wantsUsage: wantsUsage(bytes, members.get("stream_options")),
    hasOutsideInput:
      OUTSIDE_INPUT.some((key) => !isOwnInput(wire, key) && (small(key) ?? null) !== null) ||
      hasString(bytes, object, OUTSIDE_PARTS),
    bytes,
    object,
  };

  function small(key: string): unknown {
    const span = members.get(key);
    if (span === undefined) return undefined;
    // Large values are never what the caller of this asks for.
    return span.end - span.start > 4_096 ? {} : readValue(bytes, span);
  }

  /** What the server makes: of `best_of` answers it shows `n`, and it bills them all. */
  function choicesOfEach(): number {
    const asked = hasUsageChunk(wire) ? (integer("n") ?? 1) : 1;
    if (asked > CHOICES_MAX) throw new RequestError(`n: must be at most ${CHOICES_MAX}`);
    const made = wire === "openai.completions" ? (integer("best_of") ?? 1) : 1;
    if (made > CHOICES_MAX) throw new RequestError(`best_of: must be at most ${CHOICES_MAX}`);
    return Math.max(asked, made);
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
export function checkHosted({ wire, bytes, object }: CallRequest): void {
  for (const [key, allowed] of Object.entries(HOSTED_ONLY)) {
    const span = object.members.get(key);
    if (span === undefined || isOwnInput(wire, key)) continue;
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
  const missing = ceilingKey(wire, rewrite.provider.isHosted);
  for (const key of present.length > 0 || missing === null ? present : [missing]) {
    edits.push(setMember(object, key, ceiling));
  }
  if (hasUsageChunk(wire) && isStream) {
    // With several answers the running counts are each answer's own, and mean nothing together.
    const isContinuous = rewrite.provider.hasContinuousUsage && request.choices === 1;
    edits.push(...usageEdits(bytes, object, isContinuous));
  }
  return splice(bytes, edits);
}

/** Whether a stream ends in a chunk of usage alone, for clients that ask; such wires know `n`. */
export function hasUsageChunk(wire: Wire): boolean {
  return wire === "openai.chat" || wire === "openai.completions";
}

/** OpenAI's o-series knows only the newer name; every other chat server knows the older one. */
function ceilingKey(wire: Wire, isHosted: boolean): string | null {
  switch (wire) {
    case "openai.chat":
      return isHosted ? "max_completion_tokens" : "max_tokens";
    case "openai.responses":
      return "max_output_tokens";
    case "openai.completions":
    case "anthropic.messages":
      return "max_tokens";
    case "openai.embeddings":
      return null;
  }
}

/** A completion's prompt is its input, in the bytes; elsewhere the word means a stored one. */
function isOwnInput(wire: Wire, key: string): boolean {
  return wire === "openai.completions" && key === "prompt";
}

/** How many texts stand side by side: a list of numbers is one text, in token ids. */
function countInputs(wire: Wire, bytes: Buffer, { members }: ScannedObject): number {
  const key = { "openai.completions": "prompt", "openai.embeddings": "input" }[wire as string];
  const span = key === undefined ? undefined : members.get(key);
  if (span === undefined || bytes[span.start] !== 0x5b) return 1;
  const elements = scanArray(bytes, span);
  const [first] = elements;
  const isTokens =
    first !== undefined && /[-\d]/.test(String.fromCharCode(bytes[first.start] ?? 0));
  const count = isTokens ? 1 : Math.max(1, elements.length);
  if (count > INPUTS_MAX) throw new RequestError(`${key}: must be at most ${INPUTS_MAX} texts`);
  return count;
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
