/** Which model of its pair a key's call means. Pure; names are compared byte by byte. */
import type { Grant, GrantedModel } from "../../orchestrator/keys/keys.ts";

/** Names that CLIs ask for by themselves, for titles, summaries and the like. */
const CLI_ALIAS = /^(?:o[1-9]|(?:claude|gpt|chatgpt|codex|o[1-9])-[A-Za-z0-9.:_[\]-]{1,100})$/;

/** The model, or null when the key may use none of that name. */
export function resolveModel(grant: Grant, requested: string): GrantedModel | null {
  // litellm clients put the provider's kind before the name.
  const name = requested.startsWith("openai/") ? requested.slice("openai/".length) : requested;
  const side = (wanted: string) => grant.models.find((model) => model.side === wanted) ?? null;
  if (name === "normal" || name === "thinking") return side(name);
  const named = grant.models.find(
    (model) => model.name === requested || model.upstreamName === requested,
  );
  const plain = grant.models.find((model) => model.name === name);
  return named ?? plain ?? (CLI_ALIAS.test(name) ? side("normal") : null);
}

/** What `GET /v1/models` lists, under the names a worker is told. */
export function listModels(grant: Grant, isAnthropic: boolean): unknown {
  const names = [...new Set(["normal", "thinking", ...grant.models.map((model) => model.name)])];
  const known = names.filter((name) => resolveModel(grant, name) !== null);
  const created = "1970-01-01T00:00:00Z";
  if (isAnthropic) {
    return {
      data: known.map((id) => ({ type: "model", id, display_name: id, created_at: created })),
      has_more: false,
      first_id: known[0] ?? null,
      last_id: known.at(-1) ?? null,
    };
  }
  const data = known.map((id) => ({ id, object: "model", created: 0, owned_by: "autocode" }));
  return { object: "list", data };
}
