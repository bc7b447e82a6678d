/**
 * What hosted providers say of our use, by their organisations' own reports: OpenAI's
 * `GET /v1/organization/usage/completions` and Anthropic's
 * `GET /v1/organizations/usage_report/messages`, each with an admin key from the secrets. Written
 * to their published schemas; what else the organisation uses its keys for is in them too.
 */
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { Problem } from "../problem.ts";
import type { UsageCount, UsageCounts } from "./usage-counts.ts";

export interface ReportOptions {
  /** Of the provider's API, with or without `/v1`. */
  baseUrl: string;
  /** The admin key; null: there is none. */
  readKey: () => Promise<string | null>;
}

const DAY_MS = 86_400_000;
const TIMEOUT_MS = 30_000;
const PAGES_MAX = 50;
const Count = Type.Integer({ minimum: 0 });
const Model = Type.Union([Type.String(), Type.Null()]);
const More = {
  has_more: Type.Boolean(),
  next_page: Type.Optional(Type.Union([Type.String(), Type.Null()])),
};

const OpenAIPage = Type.Object({
  ...More,
  data: Type.Array(
    Type.Object({
      start_time: Type.Integer(),
      results: Type.Array(
        Type.Object({ input_tokens: Count, output_tokens: Count, model: Type.Optional(Model) }),
      ),
    }),
  ),
});

const AnthropicPage = Type.Object({
  ...More,
  data: Type.Array(
    Type.Object({
      starting_at: Type.String(),
      results: Type.Array(
        Type.Object({
          uncached_input_tokens: Count,
          cache_read_input_tokens: Count,
          cache_creation: Type.Object({
            ephemeral_1h_input_tokens: Count,
            ephemeral_5m_input_tokens: Count,
          }),
          output_tokens: Count,
          model: Type.Optional(Model),
        }),
      ),
    }),
  ),
});

/** By a key of the secret `provider/openai/admin-key`. */
export function createOpenAIUsage(options: ReportOptions): UsageCounts {
  return createReport("openai", OpenAIPage, options, {
    path: (day) => {
      const start = Date.parse(`${day}T00:00:00Z`) / 1_000;
      const query = { start_time: String(start), end_time: String(start + DAY_MS / 1_000) };
      return `/v1/organization/usage/completions?${usageQuery(query)}`;
    },
    headers: (key) => ({ authorization: `Bearer ${key}` }),
    // Its input has what was read from a cache in it.
    read: ({ data }) =>
      data.flatMap(({ results }) =>
        results.map((each) => ({
          model: each.model ?? "unknown",
          inputTokens: each.input_tokens,
          outputTokens: each.output_tokens,
        })),
      ),
  });
}

/** By a key of the secret `provider/anthropic/admin-key`. */
export function createAnthropicUsage(options: ReportOptions): UsageCounts {
  return createReport("anthropic", AnthropicPage, options, {
    path: (day) => {
      const start = Date.parse(`${day}T00:00:00Z`);
      const query = {
        starting_at: new Date(start).toISOString(),
        ending_at: new Date(start + DAY_MS).toISOString(),
      };
      return `/v1/organizations/usage_report/messages?${usageQuery(query)}`;
    },
    headers: (key) => ({ "x-api-key": key, "anthropic-version": "2023-06-01" }),
    read: ({ data }) =>
      data.flatMap(({ results }) =>
        results.map(({ cache_creation: cached, ...each }) => ({
          model: each.model ?? "unknown",
          inputTokens:
            each.uncached_input_tokens +
            each.cache_read_input_tokens +
            cached.ephemeral_1h_input_tokens +
            cached.ephemeral_5m_input_tokens,
          outputTokens: each.output_tokens,
        })),
      ),
  });
}

interface Dialect<Page> {
  path(day: string): string;
  headers(key: string): Record<string, string>;
  read(page: Page): UsageCount[];
}

function createReport<Schema extends typeof OpenAIPage | typeof AnthropicPage>(
  provider: string,
  schema: Schema,
  { baseUrl, readKey }: ReportOptions,
  dialect: Dialect<Static<Schema>>,
): UsageCounts {
  const origin = baseUrl.replace(/\/+$/, "").replace(/\/v1$/, "");
  return { provider, counts, fault };

  async function fault(): Promise<string | null> {
    if ((await readKey()) !== null) return null;
    return `there is no admin key; autocode secret put provider/${provider}/admin-key`;
  }

  async function counts(day: string): Promise<readonly UsageCount[] | null> {
    const key = await readKey();
    if (key === null) return null;
    const found: UsageCount[] = [];
    let page: string | null = null;
    for (let asked = 0; asked < PAGES_MAX; asked++) {
      const further: string = page === null ? "" : `&page=${encodeURIComponent(page)}`;
      const answer: Static<Schema> = await ask(`${origin}${dialect.path(day)}${further}`, key);
      found.push(...dialect.read(answer));
      page = answer.next_page ?? null;
      if (!answer.has_more || page === null) return found;
    }
    throw new Problem("upstream_failed", `${provider}: its usage has over ${PAGES_MAX} pages`);
  }

  async function ask(url: string, key: string): Promise<Static<Schema>> {
    const response = await fetch(url, {
      headers: dialect.headers(key),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: "error",
    }).catch((cause: unknown) => {
      throw new Problem("upstream_failed", `${provider} does not answer for its usage`, { cause });
    });
    const text = await response.text();
    if (!response.ok) {
      const words = text.replaceAll(key, "[redacted]").slice(0, 500);
      throw new Problem("upstream_failed", `${provider}: usage, ${response.status}: ${words}`);
    }
    const value = parse(text);
    if (Value.Check(schema, value)) return value as Static<Schema>;
    const [first] = Value.Errors(schema, value);
    const where = `${first?.instancePath || "/"} ${first?.message ?? ""}`;
    throw new Problem("upstream_failed", `${provider}: usage is not as published: ${where}`);
  }
}

/** A bucket a day, a result a model. */
function usageQuery(range: Record<string, string>): string {
  const query = new URLSearchParams({ ...range, bucket_width: "1d" });
  query.append("group_by[]", "model");
  return query.toString();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
