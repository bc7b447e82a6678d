/**
 * The catalogue of model pairs: `pairs/*.yaml`, the cards of those whose weights we run, and what a
 * project's `models:` adds to it.
 *
 * A pair names two models of providers that the installation knows; addresses and credentials of
 * the installation's own providers are configuration, never part of the catalogue.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "typebox";
import { Wire } from "../orchestrator/contract/agents.ts";
import type { PriceTerms } from "../orchestrator/contract/prices.ts";
import type { FallbackEntry, PairEntry } from "../orchestrator/contract/projects.ts";
import type { ModelCard } from "./card.ts";
import { loadCards } from "./cards.ts";
import { nearestName } from "./nearest.ts";
import { type PriceBook, type PriceEntry, parsePriceBook, priceEntry } from "./prices.ts";
import { CatalogError, readYaml } from "./yaml-file.ts";

export interface CatalogModel {
  /** What agents are told; unique in its pair unless both sides are one model. */
  name: string;
  upstreamName: string;
  /** A provider of the installation, or one of `Catalog.providers`. */
  provider: string;
  wires: readonly Wire[];
  contextTokens: number;
  maxOutputTokens: number;
  /** Who is asked, in this order, when `provider` cannot answer. */
  fallbacks: readonly CatalogFallback[];
}

/** The same model elsewhere, or one that may stand in for it. */
export interface CatalogFallback {
  /** Its name in the price book. */
  name: string;
  upstreamName: string;
  provider: string;
  wires: readonly Wire[];
}

export interface ModelPair {
  name: string;
  title: string;
  note: string | null;
  isScripted: boolean;
  normal: CatalogModel;
  thinking: CatalogModel;
}

/** A provider that a project's file names by its address. */
export interface NamedProvider {
  name: string;
  baseUrl: string;
  /** The orchestrator's environment variable with the key; null when it needs none. */
  apiKeyEnv: string | null;
  authStyle: "bearer" | "x-api-key";
}

export interface Catalog {
  pairs: ReadonlyMap<string, ModelPair>;
  providers: ReadonlyMap<string, NamedProvider>;
  /** Of the models whose weights we run, by their names. */
  cards: ReadonlyMap<string, ModelCard>;
  book: PriceBook;
}

const CatalogFallbackFile = Type.Object(
  {
    name: Type.Optional(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$" })),
    upstream_name: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    provider: Type.String({ pattern: "^[a-z][a-z0-9-]{0,62}$" }),
    wires: Type.Optional(Type.Array(Wire, { minItems: 1 })),
  },
  { additionalProperties: false },
);
const CatalogModelFile = Type.Object(
  {
    name: Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$" }),
    upstream_name: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    provider: Type.String({ pattern: "^[a-z][a-z0-9-]{0,62}$" }),
    // What a card says of its model is not said again; here may be less than it, never more.
    wires: Type.Optional(Type.Array(Wire, { minItems: 1 })),
    context_tokens: Type.Optional(Type.Integer({ minimum: 1024, maximum: 10_000_000 })),
    max_output_tokens: Type.Optional(Type.Integer({ minimum: 256, maximum: 1_000_000 })),
    fallbacks: Type.Optional(Type.Array(CatalogFallbackFile, { minItems: 1, maxItems: 5 })),
  },
  { additionalProperties: false },
);
const PairFile = Type.Object(
  {
    title: Type.String({ minLength: 1, maxLength: 200 }),
    note: Type.Optional(Type.String({ minLength: 1, maxLength: 1000 })),
    normal: CatalogModelFile,
    thinking: CatalogModelFile,
  },
  { additionalProperties: false },
);

/** What a `models:` entry has when it does not say: modest, so that no server is overrun. */
const DEFAULT_CONTEXT_TOKENS = 32_768;
const DEFAULT_MAX_OUTPUT_TOKENS = 8_192;

/** As in a project's file: trials, engines and their providers are named by it. */
const PAIR_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** The provider of models whose weights we run: each has a card. */
const OWN_PROVIDER = "vllm";

type Fault = (path: readonly (string | number)[], message: string) => CatalogError;

/**
 * Reads `folder/pairs/*.yaml`, `folder/cards/*.yaml` and `folder/prices.yaml`.
 *
 * @throws CatalogError naming file, line and field: one that is wrong, a model of ours without a
 *   card, a model without a price.
 */
export async function loadCatalog(folder: string): Promise<Catalog> {
  const cards = await loadCards(folder);
  const book = parsePriceBook(await readFile(join(folder, "prices.yaml"), "utf8"), "prices.yaml");
  const priced = new Set(book.prices.map(({ model }) => model));
  const pairs = new Map<string, ModelPair>();
  const files = (await readdir(join(folder, "pairs"))).filter((file) => file.endsWith(".yaml"));
  for (const file of files.sort()) {
    const text = await readFile(join(folder, "pairs", file), "utf8");
    const pair = parsePair(text, `pairs/${file}`, cards);
    for (const { name } of [pair.normal, pair.thinking]) {
      if (priced.has(name)) continue;
      throw new CatalogError(`pairs/${file}: ${name} has no price: add one to prices.yaml`);
    }
    pairs.set(pair.name, pair);
  }
  return { pairs, providers: new Map(), cards, book };
}

/** A pair is named by its file. @throws CatalogError naming file, line and field. */
export function parsePair(
  text: string,
  fileName: string,
  cards: ReadonlyMap<string, ModelCard>,
): ModelPair {
  const name = fileName.replace(/^.*\//, "").replace(/\.yaml$/, "");
  if (!PAIR_NAME.test(name)) {
    const rule = "at most 63 of a-z, 0-9, dots, dashes and underscores, a letter or digit first";
    throw new CatalogError(`${fileName}: name: a pair is named by its file: ${rule}; rename it`);
  }
  const { value, fault } = readYaml(text, fileName, PairFile);
  const [normal, thinking] = (["normal", "thinking"] as const).map((side) =>
    catalogModel(value[side], cards, (path, message) => fault([side, ...path], message)),
  ) as [CatalogModel, CatalogModel];
  if (normal.name === thinking.name && normal.upstreamName !== thinking.upstreamName) {
    throw fault(["thinking", "name"], `"${thinking.name}" is also the normal model's name`);
  }
  const isScripted = [normal, thinking].some((model) => model.provider === "scripted");
  return { name, title: value.title, note: value.note ?? null, isScripted, normal, thinking };
}

function catalogModel(
  model: Static<typeof CatalogModelFile>,
  cards: ReadonlyMap<string, ModelCard>,
  fault: Fault,
): CatalogModel {
  const { name, provider } = model;
  const card = provider === OWN_PROVIDER ? cardOf(name, cards, fault) : null;
  const contextTokens = model.context_tokens ?? card?.contextTokens;
  const maxOutputTokens = model.max_output_tokens ?? card?.maxOutputTokens;
  const wires = model.wires ?? (card === null ? undefined : OWN_WIRES);
  if (contextTokens === undefined) throw fault([], "missing context_tokens");
  if (maxOutputTokens === undefined) throw fault([], "missing max_output_tokens");
  if (wires === undefined) throw fault([], "missing wires");
  if (maxOutputTokens > contextTokens) {
    throw fault(["max_output_tokens"], "must not be more than context_tokens");
  }
  if (card !== null && contextTokens > card.contextTokens) {
    const most = `its card's, ${card.contextTokens}`;
    throw fault(["context_tokens"], `must not be more than ${most}`);
  }
  if (card !== null && maxOutputTokens > card.maxOutputTokens) {
    throw fault(["max_output_tokens"], `must not be more than its card's, ${card.maxOutputTokens}`);
  }
  // Whoever serves it by hand serves it by the name of its weights; our own engines know both.
  const upstreamName = model.upstream_name ?? card?.quantisations[0]?.repository ?? name;
  const fallbacks = (model.fallbacks ?? []).map((fallback): CatalogFallback => {
    // Of another name, it is another model: then its server knows it by that name.
    const { name: other = name, provider, wires = defaultWires(provider) } = fallback;
    const known = other === name ? upstreamName : other;
    return { name: other, upstreamName: fallback.upstream_name ?? known, provider, wires };
  });
  return { name, upstreamName, provider, wires, contextTokens, maxOutputTokens, fallbacks };
}

function cardOf(name: string, cards: ReadonlyMap<string, ModelCard>, fault: Fault): ModelCard {
  const card = cards.get(name);
  if (card !== undefined) return card;
  const nearest = nearestName(name, cards.keys());
  const hint = nearest === null ? "" : `; the nearest of cards/ is "${nearest}"`;
  throw fault(["name"], `"${name}" is ours to run (provider vllm) and has no card${hint}`);
}

/**
 * The catalogue with a project's own pairs, which go before the installation's of the same name,
 * and with their prices. `currency` is the project's: it is what the entries' prices are in.
 *
 * @throws CatalogError naming the field: the caller knows the file.
 */
export function withProjectPairs(
  catalog: Catalog,
  entries: Readonly<Record<string, PairEntry>>,
  currency: string,
): Catalog {
  const pairs = new Map(catalog.pairs);
  const providers = new Map(catalog.providers);
  const prices: PriceEntry[] = [];
  for (const [name, entry] of Object.entries(entries)) {
    const normal = readSide(name, "normal", entry.normal);
    const thinking = readSide(name, "thinking", entry.thinking);
    const isScripted = [normal, thinking].some((model) => model.provider === "scripted");
    const title = `${normal.upstreamName} + ${thinking.upstreamName}`;
    pairs.set(name, { name, title, note: "from the project", isScripted, normal, thinking });
  }
  return {
    pairs,
    providers,
    cards: catalog.cards,
    book: { prices: [...prices, ...catalog.book.prices], fx: catalog.book.fx },
  };

  function readSide(pair: string, side: "normal" | "thinking", model: PairEntry["normal"]) {
    const field = `models.${pair}.${side}`;
    const contextTokens = model.context_tokens ?? DEFAULT_CONTEXT_TOKENS;
    const maxOutputTokens =
      model.max_output_tokens ?? Math.min(DEFAULT_MAX_OUTPUT_TOKENS, contextTokens);
    if (maxOutputTokens > contextTokens) {
      throw new CatalogError(`${field}.max_output_tokens: must not be more than context_tokens`);
    }
    const provider = readProvider(field, `${pair}-${side}`, model);
    const wires = model.wires ?? defaultWires(model.provider);
    const name = priced(field, `${pair}-${side}`, model);
    const fallbacks = (model.fallbacks ?? []).map((fallback, index): CatalogFallback => {
      const at = `${field}.fallbacks.${index}`;
      const own = `${pair}-${side}-${index + 1}`;
      return {
        name: priced(at, own, fallback),
        upstreamName: fallback.model,
        provider: readProvider(at, own, fallback),
        wires: fallback.wires ?? defaultWires(fallback.provider),
      };
    });
    const upstreamName = model.model;
    return { name, upstreamName, provider, wires, contextTokens, maxOutputTokens, fallbacks };
  }

  /** Its name in the book: of its own where the project prices it, so that no two ever meet. */
  function priced(field: string, ownName: string, model: FallbackEntry): string {
    if (model.price === undefined) return model.model;
    const head = {
      model: ownName,
      currency,
      effectiveFrom: `project-${fingerprint(model.price)}`,
      effectiveFromMs: 0,
      source: `the project's file, ${field}.price`,
    };
    const fault = (path: (string | number)[], message: string) =>
      new CatalogError(`${[field, "price", ...path].join(".")}: ${message}`);
    prices.push(priceEntry(head, model.price, fault));
    return ownName;
  }

  function readProvider(field: string, name: string, model: FallbackEntry): string {
    if (model.base_url === undefined) {
      if (model.provider === undefined) {
        throw new CatalogError(`${field}: name a provider, or give base_url`);
      }
      if (model.api_key_env !== undefined) {
        throw new CatalogError(`${field}.api_key_env: only goes with base_url`);
      }
      return model.provider;
    }
    if (!URL.canParse(model.base_url)) {
      throw new CatalogError(`${field}.base_url: "${model.base_url}" is no URL`);
    }
    const { username, password, search } = new URL(model.base_url);
    if (username !== "" || password !== "" || search !== "") {
      throw new CatalogError(`${field}.base_url: put the key in api_key_env, not in the URL`);
    }
    providers.set(name, {
      name,
      baseUrl: model.base_url,
      apiKeyEnv: model.api_key_env ?? null,
      authStyle: model.provider === "anthropic" ? "x-api-key" : "bearer",
    });
    return name;
  }
}

/** What vLLM speaks. */
const OWN_WIRES: readonly Wire[] = [
  ...(["openai.chat", "openai.completions"] as const),
  ...(["openai.responses", "anthropic.messages"] as const),
];

const SCRIPTED_WIRES: readonly Wire[] = [
  ...(["openai.chat", "openai.completions", "openai.embeddings"] as const),
  ...(["openai.responses", "anthropic.messages"] as const),
];

/** Tells two prices of one name apart, so that a call's version says which one it was. */
function fingerprint(terms: PriceTerms): string {
  return createHash("sha256").update(JSON.stringify(terms)).digest("hex").slice(0, 8);
}

function defaultWires(provider: string | undefined): readonly Wire[] {
  switch (provider) {
    case "anthropic":
      return ["anthropic.messages"];
    case "openai":
      return ["openai.chat", "openai.responses"];
    case "scripted":
      return SCRIPTED_WIRES;
    default:
      return ["openai.chat"];
  }
}
