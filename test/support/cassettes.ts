/** Cassettes for who plays them. */
import type { Cassette, Exchange } from "../../orchestrator/contract/cassettes.ts";

const TRIAL: Cassette["trial"] = {
  id: "trial_01m800p1qhetn8r52gxtfk7ezm",
  agent: "aider",
  task: "fix-median",
  pair: "scripted",
  seed: 7,
  verdict: "passed",
};

export interface ExchangeDraft {
  door?: Exchange["door"];
  method?: string;
  host?: string;
  path?: string;
  query?: string | null;
  body?: unknown;
  answer?: string | null;
  mediaType?: string;
  status?: number;
}

/** An exchange for each draft: calls of the gateway unless it says otherwise. */
export function cassetteOf(drafts: readonly ExchangeDraft[]): Cassette {
  return { schema_version: 1, trial: TRIAL, exchanges: drafts.map(exchangeOf) };
}

function exchangeOf(draft: ExchangeDraft, index: number): Exchange {
  const { door = "gateway", answer = "{}", mediaType = "application/json" } = draft;
  return {
    position: index + 1,
    flow_id: `flow_01m800p1qhetn8r52gxtfk7e${String(index).padStart(2, "0")}`,
    door,
    request: {
      method: draft.method ?? "POST",
      scheme: door === "gateway" ? "http" : "https",
      host: draft.host ?? "gateway",
      port: 443,
      path: draft.path ?? "/v1/chat/completions",
      query: draft.query ?? null,
      body:
        draft.body === undefined
          ? null
          : {
              media_type: "application/json",
              encoding: "utf8",
              content: JSON.stringify(draft.body),
            },
    },
    response:
      answer === null
        ? null
        : {
            status: draft.status ?? 200,
            headers: [
              ["content-type", mediaType],
              ["content-length", "9999"],
              ["x-request-id", "call_1"],
            ],
            body: { media_type: mediaType, encoding: "utf8", content: answer },
          },
  };
}
