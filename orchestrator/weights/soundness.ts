/**
 * Whether files are the model that its card describes: its architecture's numbers, its chat
 * template, and whole weight files. Pure, over the files' text; `weight-file.ts` reads the rest.
 */
import type { ModelCard } from "../../models/card.ts";
import { Problem } from "../problem.ts";

type Json = Readonly<Record<string, unknown>>;

export interface SmallFiles {
  /** The text of a file of the folder; null where there is none. */
  read(path: string): Promise<string | null>;
}

/** What a config.json of transformers calls the card's numbers, and what stands in for them. */
const NUMBERS = [
  ["num_hidden_layers", "layers", (_: Json) => null],
  ["hidden_size", "hidden", (_: Json) => null],
  ["num_attention_heads", "heads", (_: Json) => null],
  ["num_key_value_heads", "kvHeads", (config: Json) => config["num_attention_heads"] ?? null],
  ["vocab_size", "vocabulary", (_: Json) => null],
] as const;

/**
 * Compares config.json with the card and looks for a chat template.
 *
 * @returns what a person should know, each a sentence.
 * @throws Problem `conflict` naming the field with both numbers, or the file that is missing.
 */
export async function checkSoundness(
  card: ModelCard,
  repository: string,
  files: SmallFiles,
): Promise<string[]> {
  const config = await readJson(files, "config.json");
  if (config === null) {
    throw new Problem(
      "conflict",
      `${repository} has no config.json: a server cannot tell what model it is`,
    );
  }
  compare(card, repository, config);
  await checkTokenizer(repository, files);
  return checkTemplate(card, repository, await templateOf(files));
}

function compare(card: ModelCard, repository: string, config: Json): void {
  // A model that also sees has its language model's numbers in a part of their own.
  const inner = config["text_config"];
  const numbers = typeof inner === "object" && inner !== null ? (inner as Json) : config;
  for (const [field, name, standIn] of NUMBERS) {
    const found = numbers[field] ?? standIn(numbers);
    const expected = card.architecture[name];
    if (found === expected) continue;
    throw new Problem(
      "conflict",
      `${repository} is not the model of the card ${card.name}: config.json says ${field} ` +
        `${JSON.stringify(found)}, the card architecture.${name} ${expected}. Correct the card ` +
        "(models/cards), or name the right repository in it",
      { facts: { field, found: String(found), expected } },
    );
  }
}

async function checkTokenizer(repository: string, files: SmallFiles): Promise<void> {
  const names = ["tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"];
  for (const name of names.slice(0, 3)) if ((await files.read(name)) !== null) return;
  throw new Problem(
    "conflict",
    `${repository} has no tokenizer (${names.slice(0, 3).join(", ")}): a server cannot read text`,
  );
}

/** Where transformers looks, in its order: a file of its own, then the tokenizer's settings. */
async function templateOf(files: SmallFiles): Promise<string | null> {
  const own = await files.read("chat_template.jinja");
  if (own !== null) return own;
  for (const name of ["chat_template.json", "tokenizer_config.json"]) {
    const template = (await readJson(files, name))?.["chat_template"];
    if (typeof template === "string") return template;
    // Several by name: a server takes "tool_use" where a request has tools, else "default".
    if (Array.isArray(template)) return JSON.stringify(template);
  }
  return null;
}

function checkTemplate(card: ModelCard, repository: string, template: string | null): string[] {
  if (card.chatTemplate !== null) return [];
  if (template === null || template.trim() === "") {
    throw new Problem(
      "conflict",
      `${repository} brings no chat template (chat_template.jinja, or chat_template in ` +
        "tokenizer_config.json): a server would refuse every chat. Name one of models/serving/ " +
        `as chat_template in the card ${card.name}`,
    );
  }
  if (!card.callsTools || card.toolParser === null || /\btools\b/.test(template)) return [];
  return [
    `The chat template of ${repository} says nothing of tools, so that the model is never told ` +
      `which it has, though its card names the tool parser ${card.toolParser.name}: name a ` +
      "template of models/serving/ in the card, or agents that edit by text",
  ];
}

/**
 * Whether all files that the index names are there.
 *
 * @throws Problem `conflict` naming the first that is not.
 */
export async function checkIndex(
  repository: string,
  names: readonly string[],
  files: SmallFiles,
): Promise<void> {
  const index = await readJson(files, "model.safetensors.index.json");
  const map = index?.["weight_map"];
  if (typeof map !== "object" || map === null) return;
  const wanted = new Set(Object.values(map as Json).map(String));
  const missing = [...wanted].filter((name) => !names.includes(name)).sort();
  if (missing.length === 0) return;
  throw new Problem(
    "conflict",
    `${repository} lacks ${missing.length} of its ${wanted.size} weight files, the first is ` +
      `${missing[0]}: copy the whole folder, or pull the model again`,
  );
}

async function readJson(files: SmallFiles, path: string): Promise<Json | null> {
  const text = await files.read(path);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Json;
  } catch {
    // Said below.
  }
  throw new Problem("conflict", `${path} is no JSON object: pull the model again`);
}
