/** OpenAI embeddings that mean nothing: a short vector made of a hash of each text. Pure. */
import { createHash } from "node:crypto";
import { isRecord, ScriptedProblem, tokensOf } from "./dialect.ts";

const DIMENSIONS = 8;

/** @throws ScriptedProblem 400 for a body that is no such request. */
export function embed(body: unknown, bodyBytes: number): object {
  if (!isRecord(body) || typeof body["model"] !== "string") {
    throw new ScriptedProblem(400, "invalid_request_error", "model: must be a string");
  }
  const { input } = body;
  if (typeof input !== "string" && !(Array.isArray(input) && input.length > 0)) {
    throw new ScriptedProblem(400, "invalid_request_error", "input: must be text, or a list of it");
  }
  // A list of numbers is one text, in token ids.
  const texts = Array.isArray(input) && typeof input[0] !== "number" ? input : [input];
  const isBase64 = body["encoding_format"] === "base64";
  const promptTokens = tokensOf(bodyBytes);
  return {
    object: "list",
    model: body["model"],
    data: texts.map((text, index) => {
      const vector = vectorOf(JSON.stringify(text));
      const embedding = isBase64
        ? Buffer.from(Float32Array.from(vector).buffer).toString("base64")
        : vector;
      return { object: "embedding", index, embedding };
    }),
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}

/** From -1 to 1 in steps of 1/128, so that a 32-bit float has each exactly. */
function vectorOf(text: string): number[] {
  const hash = createHash("sha256").update(text).digest();
  return Array.from({ length: DIMENSIONS }, (_, index) => ((hash[index] ?? 0) - 128) / 128);
}
