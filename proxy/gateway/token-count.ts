/** Anthropic's `count_tokens`: the server's own count where it has one, else ours. It is free. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { CallId } from "../../orchestrator/runtime/ids.ts";
import { runExchange } from "./exchange.ts";
import type { GatewayDeps } from "./gateway.ts";
import { upstreamHeaders } from "./headers.ts";
import { readValue, ScanError, scanObject, setMember, splice } from "./json-scan.ts";
import type { Refusal } from "./refusal.ts";
import { resolveModel } from "./resolve-model.ts";

export type TokenCount = { inputTokens: number; isEstimated: boolean } | { refusal: Refusal };

const TIMEOUT_MS = 30_000;
const ANSWER_BYTES_MAX = 64 * 1024;
/** Prose and code have three to four bytes a token: counted a little high. */
const BYTES_PER_TOKEN = 3;

export async function countTokens(
  deps: GatewayDeps,
  grant: Grant,
  { incoming, response, id }: { incoming: IncomingMessage; response: ServerResponse; id: CallId },
  bytes: Buffer,
): Promise<TokenCount> {
  const estimate = { inputTokens: Math.ceil(bytes.length / BYTES_PER_TOKEN), isEstimated: true };
  try {
    const object = scanObject(bytes, new Set(["model"]));
    const span = object.members.get("model");
    const requested = span === undefined ? null : readValue(bytes, span);
    const model = typeof requested === "string" ? resolveModel(grant, requested) : null;
    if (model === null) {
      const message = "model: must be the name of a model of this key";
      return { refusal: { status: 404, code: "model_not_found", message } };
    }
    const provider = deps.providers(model.provider);
    if (provider === null || !provider.hasTokenCount) return estimate;
    const edit = setMember(object, "model", JSON.stringify(model.upstreamName));
    const result = await runExchange(
      deps,
      {
        upstream: {
          provider,
          path: "/messages/count_tokens",
          body: splice(bytes, [edit]),
          headers: upstreamHeaders(incoming.headers, id),
        },
        wire: "anthropic.messages",
        isStream: false,
        slices: null,
        withoutUsageChunk: false,
        deadlineMs: TIMEOUT_MS,
        bodyBytesMax: ANSWER_BYTES_MAX,
        recordBytesMax: 0,
        streamHead: async () => ({}),
      },
      response,
      incoming.socket,
    );
    return readCount(result.status === 200 ? result.body : null) ?? estimate;
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    return { refusal: { status: 400, code: "invalid_request", message: error.message } };
  }
}

function readCount(body: Buffer | null): TokenCount | null {
  if (body === null) return null;
  try {
    const { input_tokens: inputTokens } = JSON.parse(body.toString("utf8"));
    return Number.isSafeInteger(inputTokens) ? { inputTokens, isEstimated: false } : null;
  } catch {
    return null;
  }
}
