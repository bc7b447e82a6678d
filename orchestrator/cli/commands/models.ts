/** Models: which pairs there are, what they cost, and how that comes about. */
import type { ServedPairList } from "../../contract/models.ts";
import type { ModelPrice, PriceList, PriceReport, PriceStep } from "../../contract/prices.ts";
import type { PairList, PairStatus } from "../../contract/system.ts";
import { type Command, JSON_OPTION, type Values } from "../command.ts";
import { shownAmount, timeOption } from "../defaults.ts";
import { EXIT } from "../failure.ts";
import type { Column, Printer } from "../print.ts";
import { servedWord } from "./model-up.ts";

export const modelLs: Command = {
  name: "model ls",
  summary: "List model pairs, and which can be used",
  options: {
    project: { type: "string", value: "<name>", help: "With those of this project's file" },
    json: JSON_OPTION,
  },
  notes: [
    "agents: those with which every phase works. Why others are limited: --json, docs/models.md.",
  ],
  async run({ options, print, connect }) {
    const client = await connect();
    const project = options.text("project");
    const query = project === undefined ? "" : `?${new URLSearchParams({ project })}`;
    const { pairs } = await client.get<PairList>(`pairs${query}`);
    if (options.flag("json")) {
      print.json(pairs);
      return EXIT.done;
    }
    const { served } = await client.get<ServedPairList>("models/served");
    const engines = new Map(served.map((pair) => [pair.pair, servedWord(pair.engines)]));
    print.table<PairStatus>(
      [
        { title: "pair", value: ({ name }) => name },
        { title: "normal", value: ({ normal }) => normal, shrinks: true },
        { title: "thinking", value: ({ thinking }) => thinking, shrinks: true },
        { title: "provider", value: ({ provider }) => provider, shrinks: true },
        { title: "usable", value: (pair) => usableWord(pair) },
        { title: "served", value: ({ name }) => engines.get(name) ?? "" },
        { title: "agents", value: ({ agents }) => agentsText(agents) },
      ],
      pairs,
    );
    const coming = served
      .flatMap((pair) => pair.engines)
      .filter(({ state }) => state === "starting" || state === "draining");
    for (const { model, detail } of coming) print.note(`${model}: ${detail.split("\n")[0]}`);
    return EXIT.done;
  },
};

export const modelPrice: Command = {
  name: "model price",
  summary: "Show what a million tokens of a model cost, and how that is calculated",
  positionals: [{ name: "model", isRequired: false }],
  options: {
    at: { type: "string", value: "<date>", help: "At that day or time (now)" },
    currency: { type: "string", value: "<code>", help: "In this currency (the project's, or CAD)" },
    project: { type: "string", value: "<name>", help: "With the prices of this project's file" },
    json: JSON_OPTION,
  },
  notes: ["Without a model: the prices of all of them."],
  async run({ positionals: [model], options, print, connect }) {
    const query = wishOf(options);
    const client = await connect();
    if (model === undefined) {
      const { prices } = await client.get<PriceList>(`prices?${query}`);
      if (options.flag("json")) print.json(prices);
      else print.table(PRICE_COLUMNS, prices);
      return EXIT.done;
    }
    query.set("model", model);
    const report = await client.get<PriceReport>(`prices/explain?${query}`);
    if (options.flag("json")) print.json(report);
    else printReport(print, report);
    return EXIT.done;
  },
};

function wishOf(options: Values): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of ["currency", "project"]) {
    const value = options.text(name);
    if (value !== undefined) query.set(name, value);
  }
  const at = options.text("at");
  if (at !== undefined) query.set("at", timeOption("at", at));
  return query;
}

const PRICE_COLUMNS: readonly Column<ModelPrice>[] = [
  { title: "model", value: ({ model }) => model, shrinks: true },
  amount("input", ({ input_nanos_per_million: nanos }) => nanos),
  amount("cached", ({ cache_read_nanos_per_million: nanos }) => nanos),
  amount("output", ({ output_nanos_per_million: nanos }) => nanos),
  { title: "tiers", value: ({ tiers }) => String(tiers.length || ""), align: "right" },
];

function amount(title: string, of: (price: ModelPrice) => string): Column<ModelPrice> {
  const value = (price: ModelPrice) => shownAmount(of(price), price.currency);
  return { title, value, align: "right" };
}

function printReport(print: Printer, { at, price, steps, entries }: PriceReport): void {
  print.line(`${price.model} in ${price.currency} at ${at}`);
  print.line(`version  ${price.version}`);
  print.line("");
  for (const step of steps) for (const text of stepLines(step)) print.line(text);
  if (price.gpu !== null) {
    const { input_gpu_ms_per_million: input, output_gpu_ms_per_million: output } = price.gpu;
    print.line("");
    print.line(`GPU time of a million tokens: input ${input} ms, output ${output} ms`);
  }
  const others = entries.filter((entry) => !entry.is_in_force);
  if (others.length === 0) return;
  print.line("");
  print.line("Other entries of the book:");
  for (const entry of others) {
    print.line(`  ${entry.effective_from}  ${entry.currency}  ${entry.source}`);
  }
}

function stepLines({ what, calculation, source }: PriceStep): string[] {
  const lines = [`${what}:`, `  ${calculation}`];
  return source === null ? lines : [...lines, `  source: ${source}`];
}

function agentsText(agents: PairStatus["agents"]): string {
  const sound = agents.filter(({ verdict }) => verdict === "sound");
  if (sound.length === agents.length) return agents.length === 0 ? "" : "all";
  const [only, second] = sound;
  if (only !== undefined && second === undefined) return only.agent;
  return `${sound.length} of ${agents.length}`;
}

function usableWord({ is_available: isAvailable, is_scripted: isScripted }: PairStatus): string {
  if (!isAvailable) return "no";
  return isScripted ? "scripted" : "yes";
}
