/** Prices over the API: the book's list, how one comes about, and a trial charged again. */
import { sql } from "drizzle-orm";
import type { Side } from "../contract/agents.ts";
import type { PriceList, PriceReport } from "../contract/prices.ts";
import type { ProjectFile } from "../contract/projects.ts";
import type { RepriceRequest, Repricing } from "../contract/repricing.ts";
import type { Sql } from "../db/database.ts";
import { readNanos, readTime, rows } from "../db/rows.ts";
import type { GrantedModel, PriceSnapshot } from "../keys/keys.ts";
import type { Nanos } from "../money.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { Prices, PriceWish, Pricing } from "./pairs.ts";
import { type ChargedCall, repriceCalls } from "./reprice.ts";

/** What prices are shown in where neither a project nor a currency is named. */
const CURRENCY = "CAD";

export function createPricing(
  db: { sql: Pick<Sql, "execute"> },
  prices: Prices,
  clock: Clock,
): Pricing {
  return { list, explain, reprice };

  async function list(wish: PriceWish): Promise<PriceList> {
    const { file, currency, atMs } = await read(wish);
    return { prices: prices.prices(file, currency, atMs) };
  }

  async function explain(model: string, wish: PriceWish): Promise<PriceReport> {
    const { file, currency, atMs } = await read(wish);
    return prices.explain(file, model, currency, atMs);
  }

  async function read({ project, currency, at }: PriceWish) {
    const file = project === undefined ? null : await fileOf(project);
    return {
      file,
      currency: currency ?? file?.currency ?? CURRENCY,
      atMs: at === undefined ? clock.now() : Date.parse(at),
    };
  }

  async function fileOf(project: string): Promise<ProjectFile> {
    const [row] = await rows<{ config: ProjectFile }>(
      db.sql,
      sql`select config from project where name = ${project}`,
    );
    if (row === undefined) throw new Problem("not_found", `There is no project ${project}`);
    return row.config;
  }

  async function reprice(id: TrialId, wanted: RepriceRequest): Promise<Repricing> {
    const [project] = await rows<{ config: ProjectFile; currency: string }>(
      db.sql,
      sql`select project.config, project.currency from trial join project on project.id = trial.project_id
        where trial.id = ${id}`,
    );
    if (project === undefined) throw new Problem("not_found", `There is no trial ${id}`);
    const { book, pair, at } = wanted;
    const calls = await chargedCalls(db.sql, id);
    const isOwn = book === undefined && pair === undefined && at === undefined;
    const choice = { bookText: book ?? null, pair: pair ?? null };
    const ask = isOwn ? null : prices.otherPrices(project.config, choice);
    const atMs = at === undefined ? null : Date.parse(at);
    const timed = calls.map((call) => ({ ...call, atMs: atMs ?? call.startedAtMs }));
    const result = repriceCalls(timed, project.currency, ask);
    if (result.outcome === "repriced") {
      return { trial_id: id, ...withSwaps(result.repricing, await chargedSwaps(db.sql, id)) };
    }
    const detail = `${result.model} has no price in ${project.currency}`;
    const when = rfc3339(result.atMs);
    throw new Problem("unpriced_model", `${detail} at ${when}; add it to the book, or give at`);
  }
}

/** Swaps are time of GPUs, not tokens: they stay as they were charged, in both sums. */
function withSwaps(repricing: Omit<Repricing, "trial_id" | "swap_nanos">, swapNanos: Nanos) {
  const { charged_nanos: charged, repriced_nanos: repriced } = repricing;
  return {
    ...repricing,
    charged_nanos: String(readNanos(charged) + swapNanos),
    repriced_nanos: String(readNanos(repriced) + swapNanos),
    swap_nanos: String(swapNanos),
  };
}

async function chargedSwaps(db: Pick<Sql, "execute">, id: TrialId): Promise<Nanos> {
  const [found] = await rows<{ swapped: string }>(
    db,
    sql`select coalesce(sum(charged_nanos), 0)::text as swapped from model_swap
      where trial_id = ${id}`,
  );
  return readNanos(found?.swapped ?? "0");
}

type ChargedRow = {
  id: string;
  side: Side;
  started_at: string;
  price_version: string;
  cost_nanos: string;
  is_estimated: boolean;
  input_tokens: string;
  cache_read_tokens: string;
  cache_write_tokens: string;
  long_cache_write_tokens: string;
  output_tokens: string;
  models: GrantedModel[] | null;
};

/** A trial's calls with the prices of the keys they were made with, oldest first. */
async function chargedCalls(
  db: Pick<Sql, "execute">,
  id: TrialId,
): Promise<Omit<ChargedCall, "atMs">[]> {
  const found = await rows<ChargedRow>(
    db,
    sql`select call.id, call.side, call.started_at, call.price_version, call.cost_nanos,
        call.is_estimated, call.input_tokens, call.cache_read_tokens, call.cache_write_tokens,
        call.long_cache_write_tokens, call.output_tokens,
        virtual_key."grant" -> 'models' as models
      from call left join virtual_key on virtual_key.id = call.key_id
      where call.trial_id = ${id} order by call.started_at, call.id`,
  );
  return found.map((row) => ({
    id: row.id,
    side: row.side,
    startedAtMs: readTime(row.started_at),
    counts: {
      inputTokens: Number(row.input_tokens),
      cacheReadTokens: Number(row.cache_read_tokens),
      cacheWriteTokens: Number(row.cache_write_tokens),
      longCacheWriteTokens: Number(row.long_cache_write_tokens),
      outputTokens: Number(row.output_tokens),
    },
    costNanos: readNanos(row.cost_nanos),
    isEstimated: row.is_estimated,
    priceVersion: row.price_version,
    price: priceOf(row.models ?? [], row.price_version),
  }));
}

/** The price of that version, the model's own or one of its fallbacks'. */
function priceOf(models: readonly GrantedModel[], version: string): PriceSnapshot | null {
  const known = models.flatMap(({ price, fallbacks = [] }) => [
    price,
    ...fallbacks.map((fallback) => fallback.price),
  ]);
  return known.find((price) => price.version === version) ?? null;
}
