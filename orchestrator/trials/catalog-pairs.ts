/** Pairs from the model catalogue (`models/`) and the providers of this installation. */

import {
  type Catalog,
  type CatalogModel,
  type ModelPair,
  withProjectPairs,
} from "../../models/catalog.ts";
import { explainPrice, listPrices } from "../../models/explain.ts";
import {
  type Price,
  type PriceBook,
  type PriceEntry,
  parsePriceBook,
  priceAt,
} from "../../models/prices.ts";
import { soundnessOf } from "../../models/soundness.ts";
import { CatalogError } from "../../models/yaml-file.ts";
import type { AgentFacts, Side } from "../contract/agents.ts";
import type { ModelPrice, PriceReport } from "../contract/prices.ts";
import type { ProjectFile } from "../contract/projects.ts";
import type { PairStatus } from "../contract/system.ts";
import type { GrantedModel } from "../keys/keys.ts";
import { Problem } from "../problem.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { EngineAway, ServedEngine } from "../serving/serving.ts";
import type { Pairs, PriceQuestion, Prices, ResolvedPair } from "./pairs.ts";

/** Where a provider is; its key goes to the gateway alone. */
export interface ProviderAddress {
  name: string;
  baseUrl: string;
  apiKey: string | null;
  authStyle: "bearer" | "x-api-key";
  /** It bills hosted tools and the like beside tokens: the gateway refuses those. */
  isHosted: boolean;
  hasContinuousUsage: boolean;
  hasTokenCount: boolean;
  /** It counts tokens at `/tokenize`, as vLLM does. */
  hasTokenize?: boolean;
  /** Why it takes no calls now; null or absent: it takes them. */
  away?: EngineAway | null;
}

export interface CatalogPairs extends Pairs, Prices {
  /** A provider by the name in a grant; null when the installation no longer has it. */
  provider(name: string): ProviderAddress | null;
  /** Where all providers are, those of projects too. */
  addresses(): string[];
  /** Makes a project's own providers known, at start and whenever its file is applied. */
  learn(file: ProjectFile): void;
  /** Takes all addresses and keys anew, after a key was changed. */
  refresh(): void;
  /** What runs on own GPUs now, in place of what was known of it, and its prices. */
  serve(served: { engines: readonly ServedEngine[]; prices: readonly PriceEntry[] }): void;
  /** Why a trial of the pair would wait for the GPUs if it began now; null: it need not. */
  waitFor(pair: string): string | null;
}

/** What every engine of ours is: vLLM, whose address nobody but us knows. */
const OWN_ENGINE = {
  apiKey: null,
  authStyle: "bearer",
  isHosted: false,
  hasContinuousUsage: true,
  hasTokenCount: true,
  hasTokenize: true,
} as const;

/**
 * `installed`: the installation's own providers as they are now; `readSecret`: a key by the
 * variable that a project's file names; `agents`: those of which a pair says whether they work with
 * it.
 */
export function createCatalogPairs(
  shipped: Catalog,
  installed: () => readonly ProviderAddress[],
  readSecret: (name: string) => string | null,
  clock: Clock,
  agents: readonly AgentFacts[] = [],
): CatalogPairs {
  let providers = mapOf(installed());
  const learned = new Map<string, ProjectFile>();
  let catalog = shipped;
  let engines: readonly ServedEngine[] = [];
  return {
    ...{ resolve, check, list, learn, refresh, serve, waitFor },
    ...{ prices, explain, otherPrices, provider },
    addresses: () => [...providers.values(), ...engines].map(({ baseUrl }) => baseUrl),
  };

  function serve(served: Parameters<CatalogPairs["serve"]>[0]): void {
    engines = served.engines;
    const { prices, fx } = shipped.book;
    // The newest in force counts, and of two from one moment the first.
    catalog = { ...shipped, book: { prices: [...served.prices, ...prices], fx } };
  }

  function provider(name: string): ProviderAddress | null {
    const engine = engines.find((each) => each.provider === name);
    if (engine !== undefined) {
      const hasTokenCount = engine.wires === null;
      return { name, baseUrl: engine.baseUrl, ...OWN_ENGINE, hasTokenCount, away: engine.away };
    }
    const known = providers.get(name);
    if (known !== undefined) return known;
    const [, pair] = /^served\/(.+)\/(?:normal|thinking)$/.exec(name) ?? [];
    if (pair === undefined) return null;
    const detail = `${pair} is not up on our GPUs any more; bring it up: autocode model up ${pair}`;
    const away = { detail, retryAfterMs: 30_000, isComing: false };
    return { name, baseUrl: "http://127.0.0.1:9", ...OWN_ENGINE, away };
  }

  /** The engine of ours that serves a model: its own pair's, or another's of the same model. */
  function engineOf(pair: string, side: Side, model: CatalogModel): ServedEngine | undefined {
    if (model.provider !== "vllm") return undefined;
    const serving = engines.filter(
      (engine) => engine.model === model.name || engine.model === model.upstreamName,
    );
    const own = serving.find((engine) => engine.pair === pair && engine.side === side);
    const inOrder = own === undefined ? serving : [own, ...serving];
    const isUsable = ({ away }: ServedEngine) => away === null || away.isComing;
    const best =
      (own !== undefined && isUsable(own) ? own : undefined) ??
      inOrder.find(({ away }) => away === null) ??
      inOrder.find(isUsable);
    // One that is gone says why, unless VLLM_BASE_URL names a server that may serve it.
    return best ?? (providers.has(sideProvider(side, model.provider)) ? undefined : inOrder[0]);
  }

  function waitFor(pair: string): string | null {
    const own = engines.filter((engine) => engine.pair === pair);
    const isThere = own.length === 0 || own.some(({ away }) => away === null);
    if (isThere) return null;
    return own[0]?.away?.detail ?? null;
  }

  function refresh(): void {
    providers = mapOf(installed());
    for (const file of learned.values()) learn(file);
  }

  function resolve(file: ProjectFile, name: string, agent: AgentFacts): ResolvedPair {
    const own = merged(file);
    const pair = pairOf(own, name);
    learn(file);
    const models = [
      grant(file, own, { pair: name, side: "normal" }, pair.normal, agent),
      grant(file, own, { pair: name, side: "thinking" }, pair.thinking, agent),
    ] as const;
    return { name, isScripted: pair.isScripted, models };
  }

  function grant(
    file: ProjectFile,
    own: Catalog,
    { pair, side }: { pair: string; side: Side },
    model: CatalogModel,
    agent: AgentFacts,
  ): GrantedModel {
    const engine = engineOf(pair, side, model);
    const provider = engine?.provider ?? qualified(file, own, side, model.provider);
    if (engine === undefined && !providers.has(provider)) {
      const detail = `pair: ${model.name} needs the provider "${model.provider}"`;
      throw new Problem("invalid_request", `${detail}, which is not set up; ${howTo(model, pair)}`);
    }
    if (!model.wires.includes(agent.wire)) {
      const speaks = `${agent.name} speaks ${agent.wire}, ${model.name} ${model.wires.join(", ")}`;
      throw new Problem("invalid_request", `pair: ${speaks}; choose another agent or pair`);
    }
    if (engine !== undefined && engine.wires !== null && !engine.wires.includes(agent.wire)) {
      const spoken = engine.wires.join(", ");
      const speaks = `${agent.name} speaks ${agent.wire}, and Ray's ingress ${spoken}`;
      const way = "choose another agent, or serve the pair with AUTOCODE_SERVING=processes";
      throw new Problem("invalid_request", `pair: ${speaks}: ${model.name} runs there; ${way}`);
    }
    const price = priceOf(file, own, side, model.name);
    const fallbacks = model.fallbacks.flatMap((fallback) => {
      const known = qualified(file, own, side, fallback.provider);
      // One that is not set up here, or does not speak to this agent, is passed over.
      if (!providers.has(known) || !fallback.wires.includes(agent.wire)) return [];
      const { name, upstreamName } = fallback;
      return [{ provider: known, upstreamName, price: priceOf(file, own, side, name) }];
    });
    const upstreamName = engine?.model ?? model.upstreamName;
    const contextTokens = Math.min(model.contextTokens, engine?.contextTokens ?? Infinity);
    return { side, ...model, upstreamName, provider, contextTokens, price, fallbacks };
  }

  function priceOf(file: ProjectFile, own: Catalog, side: Side, name: string): Price {
    const price = priceAt(own.book, name, file.currency, clock.now());
    if (price !== null) return price;
    const detail = `${name} has no price in ${file.currency}`;
    throw new Problem("unpriced_model", `${detail}; add models.<pair>.${side}.price to the file`);
  }

  function prices(file: ProjectFile | null, currency: string, atMs: EpochMs): ModelPrice[] {
    return listPrices(bookOf(file), currency, atMs);
  }

  function explain(
    file: ProjectFile | null,
    model: string,
    currency: string,
    atMs: EpochMs,
  ): PriceReport {
    const book = bookOf(file);
    const found = explainPrice(book, model, currency, atMs);
    if (found !== null) return { at: rfc3339(atMs), ...found };
    if (!book.prices.some((entry) => entry.model === model)) {
      const known = [...new Set(book.prices.map((entry) => entry.model))].sort().join(", ");
      throw new Problem("not_found", `the price book has no model "${model}"; it has ${known}`);
    }
    const when = rfc3339(atMs);
    const detail = `${model} has no price in ${currency} at ${when}, and no exchange rate gives one`;
    throw new Problem("unpriced_model", `${detail}; choose another date or currency`);
  }

  function otherPrices(
    file: ProjectFile,
    choice: { bookText: string | null; pair: string | null },
  ): (question: PriceQuestion) => { model: string; price: Price | null } {
    const given =
      choice.bookText === null
        ? catalog
        : { ...catalog, book: inFile(() => parsePriceBook(choice.bookText ?? "", "the book")) };
    const own = inFile(() => withProjectPairs(given, file.models ?? {}, file.currency));
    const pair = choice.pair === null ? null : pairOf(own, choice.pair);
    return ({ side, model, atMs }) => {
      const name = pair === null ? model : pair[side].name;
      return { model: name, price: priceAt(own.book, name, file.currency, atMs) };
    };
  }

  function bookOf(file: ProjectFile | null): PriceBook {
    return file === null ? catalog.book : merged(file).book;
  }

  function check(file: ProjectFile): void {
    merged(file);
  }

  function learn(file: ProjectFile): void {
    const own = merged(file);
    learned.set(file.project, file);
    for (const named of own.providers.values()) {
      const { baseUrl, authStyle, apiKeyEnv } = named;
      const apiKey = apiKeyEnv === null ? null : readSecret(apiKeyEnv);
      if (apiKeyEnv !== null && apiKey === null) continue;
      const name = ownName(file, named.name);
      // Nothing is known of a server that a project names, so nothing is taken for granted.
      const unknown = { isHosted: true, hasContinuousUsage: false, hasTokenCount: false };
      providers.set(name, { name, baseUrl, authStyle, apiKey, ...unknown });
    }
  }

  function list(file: ProjectFile | null): PairStatus[] {
    const own = file === null ? catalog : merged(file);
    if (file !== null) learn(file);
    return [...own.pairs.values()].map((pair) => {
      const served = (["normal", "thinking"] as const).flatMap((side) => {
        return engineOf(pair.name, side, pair[side]) ?? [];
      });
      const missing = (["normal", "thinking"] as const).find((side) => {
        const { provider: wanted } = pair[side];
        const name =
          file === null ? sideProvider(side, wanted) : qualified(file, own, side, wanted);
        return engineOf(pair.name, side, pair[side]) === undefined && !providers.has(name);
      });
      const away = served.find((engine) => engine.away !== null)?.away ?? null;
      const known = away?.detail ?? pair.note ?? pair.title;
      return {
        name: pair.name,
        normal: pair.normal.name,
        thinking: pair.thinking.name,
        provider: pair.normal.provider,
        is_scripted: pair.isScripted,
        is_available: missing === undefined,
        detail: missing === undefined ? known : howTo(pair[missing], pair.name),
        agents: agents.map((agent) => soundnessOf(agent, pair, own.cards)),
      };
    });
  }

  /** A project's own provider, or one of the installation's. */
  function qualified(file: ProjectFile, own: Catalog, side: Side, provider: string): string {
    return own.providers.has(provider) ? ownName(file, provider) : sideProvider(side, provider);
  }

  /** Two engines of a pair that nobody of ours started have an address each. */
  function sideProvider(side: Side, provider: string): string {
    const ofSide = `${provider}-${side}`;
    return provider === "vllm" && providers.has(ofSide) ? ofSide : provider;
  }

  function merged(file: ProjectFile): Catalog {
    return inFile(() => withProjectPairs(catalog, file.models ?? {}, file.currency));
  }
}

function pairOf(own: Catalog, name: string): ModelPair {
  const pair = own.pairs.get(name);
  if (pair !== undefined) return pair;
  const known = [...own.pairs.keys()].join(", ");
  throw new Problem("invalid_request", `pair: unknown pair "${name}"; known: ${known}`);
}

function mapOf(installed: readonly ProviderAddress[]): Map<string, ProviderAddress> {
  return new Map(installed.map((provider) => [provider.name, provider]));
}

/** A fault in a file is its writer's to mend. */
function inFile<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CatalogError)) throw error;
    throw new Problem("invalid_request", error.message, { cause: error });
  }
}

/** A project's own provider is known by the project's name too, so that two never meet. */
function ownName(file: ProjectFile, provider: string): string {
  return `${file.project}/${provider}`;
}

function howTo(model: CatalogModel, pair: string): string {
  switch (model.provider) {
    case "openai":
      return "set OPENAI_API_KEY (and OPENAI_BASE_URL), or autocode secret put provider/openai";
    case "anthropic":
      return "set ANTHROPIC_API_KEY (and its _BASE_URL), or autocode secret put provider/anthropic";
    case "vllm":
      return (
        `autocode model up ${pair} serves it on your GPUs; or set VLLM_BASE_URL, or ` +
        "VLLM_NORMAL_BASE_URL and VLLM_THINKING_BASE_URL, for orchestrator and gateways, or give " +
        "base_url in the project's models"
      );
    default:
      return "set the variable that the project's api_key_env names";
  }
}
