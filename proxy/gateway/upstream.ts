/**
 * The upstream port: sends one call to a model server and reports what comes back.
 *
 * The address and the credential are the provider's alone: nothing of a worker's request, be it a
 * header or a field of the body, has a part in where a call goes.
 */
import type { Wire } from "../../orchestrator/contract/agents.ts";

export interface Provider {
  name: string;
  /** With or without the API's `/v1`; a path before it is kept. */
  baseUrl: string;
  apiKey: string | null;
  authStyle: "bearer" | "x-api-key";
  /** It bills hosted tools, priority tiers and the like beside tokens: those are refused. */
  isHosted: boolean;
  /** It puts usage in every chunk when `stream_options.continuous_usage_stats` asks (vLLM). */
  hasContinuousUsage: boolean;
  /** It counts tokens for nothing at `/v1/messages/count_tokens`. */
  hasTokenCount: boolean;
  /** It counts tokens for nothing at `/tokenize`, beside its `/v1` (vLLM). */
  hasTokenize?: boolean;
  /** Why it takes no calls now, with what to do; null or absent: it takes them. */
  away?: { detail: string; retryAfterMs: number; isComing: boolean } | null;
}

export type UpstreamPath =
  | "/chat/completions"
  | "/completions"
  | "/embeddings"
  | "/responses"
  | "/messages"
  | "/messages/count_tokens"
  | "/tokenize";

export const UPSTREAM_PATHS: Readonly<Record<Wire, UpstreamPath>> = {
  "openai.chat": "/chat/completions",
  "openai.completions": "/completions",
  "openai.embeddings": "/embeddings",
  "openai.responses": "/responses",
  "anthropic.messages": "/messages",
};

export interface UpstreamRequest {
  provider: Provider;
  path: UpstreamPath;
  body: Buffer;
  /** Allow-listed by the caller. */
  headers: Readonly<Record<string, string>>;
}

/** Told in this order: `onHead`, `onData` any number of times, then `onEnd` or `onError` once. */
export interface UpstreamListener {
  onHead(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): void;
  onData(chunk: Buffer): void;
  onEnd(): void;
  /** The exchange broke, whenever that was; also after `abort`. */
  onError(error: Error): void;
}

export interface UpstreamExchange {
  /** Whether bytes of the request may have reached the server. */
  isSent(): boolean;
  abort(): void;
  pause(): void;
  resume(): void;
}

export interface Upstream {
  send(request: UpstreamRequest, listener: UpstreamListener): UpstreamExchange;
  close(): Promise<void>;
}

/** Where a call goes. OpenAI's convention has `/v1` in the base, Anthropic's does not. */
export function upstreamUrl(baseUrl: string, path: UpstreamPath): URL {
  const base = baseUrl.replace(/\/+$/, "");
  if (path.startsWith("/messages")) return new URL(`${base.replace(/\/v1$/, "")}/v1${path}`);
  if (path === "/tokenize") return new URL(`${base.replace(/\/v1$/, "")}${path}`);
  return new URL(new URL(base).pathname === "/" ? `${base}/v1${path}` : `${base}${path}`);
}
