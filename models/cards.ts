/**
 * The cards of the models whose weights we run: `cards/*.yaml`, a file a model, named by its file.
 * A card is the one place of its model's figures: pairs, the planner, what serves it and what
 * fetches it all read them here.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "typebox";
import type { Architecture, ModelCard, Quantisation } from "./card.ts";
import { readYaml, type YamlFile } from "./yaml-file.ts";

const Count = Type.Integer({ minimum: 1, maximum: 1_000_000_000 });
const Big = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
/** A file beside those that serve, without a way out of their folder. */
const ServingFile = (ending: string) =>
  Type.String({ pattern: `^[a-z0-9][a-z0-9._-]{0,100}[.]${ending}$` });
const ParserName = Type.String({ pattern: "^[a-z0-9][a-z0-9_.-]{0,62}$" });
/** An account and a name at the hub: also a path in the weight store, so none begins with a dot. */
const REPOSITORY = "^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$";
const closed = { additionalProperties: false };

const CardFile = Type.Object(
  {
    title: Type.String({ minLength: 1, maxLength: 200 }),
    source: Type.String({ minLength: 1, maxLength: 1000 }),
    licence: Type.Object(
      {
        id: Type.String({ pattern: "^[a-z0-9][a-z0-9.-]{0,62}$" }),
        url: Type.String({ pattern: "^https://", maxLength: 500 }),
        needs_acceptance: Type.Boolean(),
      },
      closed,
    ),
    parameters: Type.Object({ total: Big, active: Type.Optional(Big) }, closed),
    architecture: Type.Object(
      {
        layers: Count,
        hidden: Count,
        intermediate: Count,
        experts: Type.Optional(Type.Object({ total: Count, per_token: Count }, closed)),
        heads: Count,
        kv_heads: Count,
        head_dim: Count,
        vocabulary: Count,
        context_tokens: Count,
        dtype: Type.Union([Type.Literal("bf16"), Type.Literal("fp16")]),
        has_tied_embeddings: Type.Boolean(),
      },
      closed,
    ),
    quantisations: Type.Array(
      Type.Object(
        {
          name: Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,31}$" }),
          repository: Type.String({ pattern: REPOSITORY }),
          revision: Type.Optional(Type.String({ pattern: "^[0-9a-f]{40}$" })),
          is_at_load: Type.Optional(Type.Boolean()),
          weight_bytes: Big,
          block: Type.Optional(Type.Integer({ minimum: 2, maximum: 4096 })),
        },
        closed,
      ),
      { minItems: 1, maxItems: 10 },
    ),
    calls_tools: Type.Boolean(),
    tool_parser: Type.Optional(
      Type.Object({ name: ParserName, plugin: Type.Optional(ServingFile("py")) }, closed),
    ),
    reasoning_parser: Type.Optional(ParserName),
    chat_template: Type.Optional(ServingFile("jinja")),
    sampling: Type.Object(
      {
        temperature: Type.Number({ minimum: 0, maximum: 2 }),
        top_p: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
        top_k: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
        repetition_penalty: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 2 })),
      },
      closed,
    ),
    context_tokens: Type.Integer({ minimum: 1024, maximum: 10_000_000 }),
    max_output_tokens: Type.Integer({ minimum: 256, maximum: 1_000_000 }),
  },
  closed,
);
type CardYaml = YamlFile<Static<typeof CardFile>>;

/**
 * Reads `folder/cards/*.yaml`; the cards by their names.
 *
 * @throws CatalogError naming file, line and field.
 */
export async function loadCards(folder: string): Promise<ReadonlyMap<string, ModelCard>> {
  const files = (await readdir(join(folder, "cards"))).filter((file) => file.endsWith(".yaml"));
  const cards = new Map<string, ModelCard>();
  for (const file of files.sort()) {
    const card = parseCard(await readFile(join(folder, "cards", file), "utf8"), `cards/${file}`);
    cards.set(card.name, card);
  }
  return cards;
}

/** A card is named by its file. @throws CatalogError naming file, line and field. */
export function parseCard(text: string, fileName: string): ModelCard {
  const name = fileName.replace(/^.*\//, "").replace(/\.yaml$/, "");
  const { value, fault } = readYaml(text, fileName, CardFile);
  const { parameters, licence, sampling, tool_parser: toolParser } = value;
  const architecture = readArchitecture({ value, fault });
  if (value.context_tokens > architecture.contextTokens) {
    const most = `architecture.context_tokens, ${architecture.contextTokens}`;
    throw fault(["context_tokens"], `must not be more than ${most}`);
  }
  if (value.max_output_tokens >= value.context_tokens) {
    throw fault(["max_output_tokens"], "must be less than context_tokens: the input needs room");
  }
  if ((parameters.active ?? 0) > parameters.total) {
    throw fault(["parameters", "active"], "must not be more than total");
  }
  return {
    name,
    title: value.title,
    licence: { id: licence.id, url: licence.url, needsAcceptance: licence.needs_acceptance },
    parameters: { total: parameters.total, active: parameters.active ?? parameters.total },
    architecture,
    quantisations: readQuantisations({ value, fault }),
    callsTools: value.calls_tools,
    toolParser:
      toolParser === undefined
        ? null
        : { name: toolParser.name, plugin: toolParser.plugin ?? null },
    reasoningParser: value.reasoning_parser ?? null,
    chatTemplate: value.chat_template ?? null,
    sampling: {
      temperature: sampling.temperature,
      topP: sampling.top_p,
      topK: sampling.top_k ?? null,
      repetitionPenalty: sampling.repetition_penalty ?? null,
    },
    contextTokens: value.context_tokens,
    maxOutputTokens: value.max_output_tokens,
    source: value.source,
  };
}

function readArchitecture({ value, fault }: CardYaml): Architecture {
  const { architecture: model } = value;
  if (model.heads % model.kv_heads !== 0) {
    const field = ["architecture", "kv_heads"];
    throw fault(field, `must divide heads, ${model.heads}: each serves as many of them`);
  }
  const { experts } = model;
  if (experts !== undefined && experts.per_token > experts.total) {
    throw fault(["architecture", "experts", "per_token"], "must not be more than total");
  }
  return {
    layers: model.layers,
    hidden: model.hidden,
    intermediate: model.intermediate,
    experts: experts === undefined ? null : { total: experts.total, perToken: experts.per_token },
    heads: model.heads,
    kvHeads: model.kv_heads,
    headDim: model.head_dim,
    vocabulary: model.vocabulary,
    contextTokens: model.context_tokens,
    dtype: model.dtype,
    hasTiedEmbeddings: model.has_tied_embeddings,
  };
}

function readQuantisations({ value, fault }: CardYaml): Quantisation[] {
  const names = new Set<string>();
  return value.quantisations.map((quantisation, index) => {
    const at = ["quantisations", index];
    const { name, repository, revision = null, is_at_load: isAtLoad = false } = quantisation;
    if (names.has(name)) throw fault([...at, "name"], `"${name}" is there twice`);
    names.add(name);
    if (isAtLoad && !value.quantisations.some((other) => isFetched(other, repository))) {
      const why = "is quantised as it is loaded: another entry must be that repository as it is";
      throw fault([...at, "repository"], why);
    }
    const { weight_bytes: weightBytes, block } = quantisation;
    if (isAtLoad && block !== undefined) {
      throw fault([...at, "block"], "weights that are quantised as they are loaded have none");
    }
    return {
      ...{ name, repository, revision, isAtLoad, weightBytes },
      ...(block === undefined ? {} : { block }),
    };
  });
}

function isFetched(
  quantisation: { repository: string; is_at_load?: boolean },
  repository: string,
): boolean {
  return quantisation.repository === repository && quantisation.is_at_load !== true;
}
