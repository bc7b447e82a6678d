/**
 * The catalogue of model pairs: `pairs/*.yaml`, and what a project's `models:` adds to it.
 *
 * A pair names two models of providers that the installation knows; addresses and credentials of
 * the installation's own providers are configuration, never part of the catalogue.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "typebox";
import { Wire } from "../orchestrator/contract/agents.ts";
import type { PairEntry } from "../orchestrator/contract/projects.ts";
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
  book: PriceBook;
}

const CatalogModelFile = Type.Object(
  {
    name: Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}$" }),
    upstream_name: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    provider: Type.String({ pattern: "^[a-z][a-z0-9-]{0,62}$" }),
    wires: Type.Array(Wire, { minItems: 1 }),
    context_tokens: Type.Integer({ minimum: 1024, maximum: 10_000_000 }),
    max_output_tokens: Type.Integer({ minimum: 256, maximum: 1_000_000 }),
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

/**
 * Reads `folder/pairs/*.yaml` and `folder/prices.yaml`.
 *
 * @throws CatalogError naming file, line and field.
 */
export async function loadCatalog(folder: string): Promise<Catalog> {
  const pairs = new Map<string, ModelPair>();
  const files = (await readdir(join(folder, "pairs"))).filter((file) => file.endsWith(".yaml"));
  for (const file of files.sort()) {
    const text = await readFile(join(folder, "pairs", file), "utf8");
    const pair = parsePair(text, `pairs/${file}`);
    pairs.set(pair.name, pair);
  }
  const book = parsePriceBook(await readFile(join(folder, "prices.yaml"), "utf8"), "prices.yaml");
  return { pairs, providers: new Map(), book };
}

/** A pair is named by its file. @throws CatalogError naming file, line and field. */
export function parsePair(text: string, fileName: string): ModelPair {
  const name = fileName.replace(/^.*\//, "").replace(/\.yaml$/, "");
  const { value, fault } = readYaml(text, fileName, PairFile);
  const [normal, thinking] = (["normal", "thinking"] as const).map((side): CatalogModel => {
    const model = value[side];
    if (model.max_output_tokens > model.context_tokens) {
      throw fault([side, "max_output_tokens"], "must not be more than context_tokens");
    }
    return {
      name: model.name,
      upstreamName: model.upstream_name ?? model.name,
      provider: model.provider,
      wires: model.wires,
      contextTokens: model.context_tokens,
      maxOutputTokens: model.max_output_tokens,
    };
  }) as [CatalogModel, CatalogModel];
  if (normal.name === thinking.name && normal.upstreamName !== thinking.upstreamName) {
    throw fault(["thinking", "name"], `"${thinking.name}" is also the normal model's name`);
  }
  const isScripted = [normal, thinking].some((model) => model.provider === "scripted");
  return { name, title: value.title, note: value.note ?? null, isScripted, normal, thinking };
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
    // Named after its pair where the project prices it, so that two projects' prices never meet.
    const name = model.price === undefined ? model.model : `${pair}-${side}`;
    if (model.price !== undefined) {
      const source = `the project's file, ${field}.price`;
      const since = { effective_from: "project", effectiveFromMs: 0 };
      prices.push(priceEntry({ model: name, currency, source, ...since, ...model.price }));
    }
    return { name, upstreamName: model.model, provider, wires, contextTokens, maxOutputTokens };
  }

  function readProvider(field: string, name: string, model: PairEntry["normal"]): string {
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

const SCRIPTED_WIRES: readonly Wire[] = [
  ...(["openai.chat", "openai.completions", "openai.embeddings"] as const),
  ...(["openai.responses", "anthropic.messages"] as const),
];

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
