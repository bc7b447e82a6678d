/** How a plan of models on GPUs reads in a terminal: 80 columns. Pure. */
import type { ModelPlan, PairPlan, PlanStep } from "../contract/models.ts";
import { formatNanos } from "../money.ts";
import { layOut } from "./print.ts";

const WIDTH = 80;
const BAR = 52;
const GIB = 2 ** 30;

/** What each letter of a bar stands for, in the order in which it is drawn. */
const PARTS = [
  { sign: "█", parts: ["weights"] },
  { sign: "▓", parts: ["activations", "cuda_graphs", "framework"] },
  { sign: "▒", parts: ["kv_cache"] },
] as const;

/** @param hasSteps with the whole calculation below it. */
export function planLines(plan: PairPlan, hasSteps: boolean): string[] {
  const { pair, gpu, gpu_count: count, gpu_memory_bytes: memory } = plan;
  const verdict = plan.fits ? "fits" : "does not fit";
  const head = `${pair} on ${count} x ${gpu} of ${gib(memory)}: ${verdict}`;
  const steps = hasSteps ? ["", ...stepLines(plan)] : [];
  if (!plan.fits) return [head, "", ...refusalLines(plan), ...steps];
  return [
    head,
    ...wrap(sharing(plan)),
    "",
    ...barLines(plan),
    "",
    ...layOut(COLUMNS, rowsOf(plan)),
    "",
    ...priceLines(plan),
    ...(plan.advice.length === 0 ? [] : ["", ...plan.advice.flatMap((text) => wrap(text, "  "))]),
    ...steps,
  ];
}

function sharing({ residency, swap_ms: swapMs }: PairPlan): string {
  switch (residency) {
    case "together":
      return "Both models are awake and share the memory and the time of their GPUs.";
    case "apart":
      return "Both models are awake, each on GPUs of its own.";
    case "alternate":
      return (
        "The models take turns: one works while the other sleeps in the host's memory; a turn " +
        `takes ${((swapMs ?? 0) / 1000).toFixed(1)} s.`
      );
    case "none":
      return "";
  }
}

function refusalLines({ refusal, advice }: PairPlan): string[] {
  const changes = advice.flatMap((text) => wrap(`- ${text}`, "  "));
  const none = ["Nothing near it would work either: more GPUs or larger ones, or a smaller pair."];
  return [
    ...wrap(refusal ?? ""),
    "",
    ...(changes.length === 0 ? none : ["What would work, the nearest change first:", ...changes]),
  ];
}

/** The fullest GPU of each model. */
function barLines({ models, gpu_memory_bytes: total }: PairPlan): string[] {
  const legend = "█ weights  ▓ activations, graphs, framework  ▒ cache  · left to others";
  return [
    `a GPU    ${legend}`,
    ...models.map(({ side, memory }) => {
      const taken = memory.reduce((sum, { bytes }) => sum + bytes, 0);
      return `${side.padEnd(8)} ${bar(memory, total)} ${gib(taken).padStart(9)}`;
    }),
  ];
}

/** Each edge is rounded by itself, so that the bar's length is right whatever its parts are. */
function bar(memory: ModelPlan["memory"], total: number): string {
  let drawn = "";
  let bytes = 0;
  for (const { sign, parts } of PARTS) {
    const names: readonly string[] = parts;
    for (const each of memory) if (names.includes(each.part)) bytes += each.bytes;
    drawn = drawn.padEnd(Math.min(BAR, Math.round((bytes / total) * BAR)), sign);
  }
  return drawn.padEnd(BAR, "·");
}

interface Row {
  what: string;
  normal: string;
  thinking: string;
}

const COLUMNS = [
  { title: "", value: ({ what }: Row) => what },
  { title: "normal", value: ({ normal }: Row) => normal, shrinks: true },
  { title: "thinking", value: ({ thinking }: Row) => thinking, shrinks: true },
];

function rowsOf({ models, concurrency }: PairPlan): Row[] {
  const [normal, thinking] = models;
  if (normal === undefined || thinking === undefined) return [];
  const row = (what: string, of: (model: ModelPlan) => string): Row => ({
    what,
    normal: of(normal),
    thinking: of(thinking),
  });
  const speed = (perSecond: number) => `${count(Math.floor(perSecond))} tokens/s`;
  return [
    row("model", ({ model }) => model),
    row("weights", (model) => `${model.quantisation}, ${gib(bytesOf(model, "weights"))} a GPU`),
    row("GPUs", gpusText),
    row("context", ({ context_tokens: tokens }) => `${count(tokens)} tokens`),
    row("cache", ({ kv_tokens: tokens }) => `${count(tokens)} tokens`),
    row("whole contexts", ({ max_sequences: sequences }) => count(sequences)),
    row("output alone", (model) => speed(model.decode_tokens_per_second_alone)),
    row(`output, ${concurrency} at once`, (model) => speed(model.decode_tokens_per_second)),
    row("input", (model) => speed(model.prefill_tokens_per_second)),
    row("price of input", ({ price }) => priceText(price, "input_nanos_per_million")),
    row("price of output", ({ price }) => priceText(price, "output_nanos_per_million")),
  ];
}

function gpusText({ gpus, tensor_parallel: tensor, pipeline_parallel: pipeline }: ModelPlan) {
  const last = gpus.at(-1) ?? 0;
  const range = gpus.length === 1 ? String(last) : `${gpus[0]} to ${last}`;
  const cut = gpus.length === 1 ? "" : `, tensor ${tensor}`;
  return range + cut + (pipeline === 1 ? "" : `, pipeline ${pipeline}`);
}

function bytesOf({ memory }: ModelPlan, part: string): number {
  return memory.find((each) => each.part === part)?.bytes ?? 0;
}

function priceText(
  price: ModelPlan["price"],
  key: "input_nanos_per_million" | "output_nanos_per_million",
): string {
  return price === null ? "-" : `${formatNanos(BigInt(price[key]), price.currency)} a million`;
}

/** The sum behind each output price: the rest of it is in the steps. */
function priceLines({ models }: PairPlan): string[] {
  return models.flatMap(({ side, steps }) =>
    steps
      .filter(({ what }) => what === "output price")
      .flatMap(({ calculation }) => wrap(`${side} output: ${calculation}`, "  ")),
  );
}

function stepLines({ models, steps }: PairPlan): string[] {
  const section = (title: string, all: readonly PlanStep[]) => [
    `${title}:`,
    ...all.flatMap(({ what, calculation, source }) => [
      ...wrap(`  ${what}: ${calculation}`, "    "),
      ...(source === null ? [] : wrap(`    source: ${source}`, "      ")),
    ]),
  ];
  return [
    ...section("the pair", steps),
    ...models.flatMap(({ side, model, steps: all }) => ["", ...section(`${side}, ${model}`, all)]),
  ];
}

function wrap(text: string, indent = ""): string[] {
  const lines: string[] = [];
  const lead = /^ */.exec(text)?.[0] ?? "";
  for (const word of text.trim().split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= WIDTH) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else {
      lines.push((last === undefined ? lead : indent) + word);
    }
  }
  return lines;
}

function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}

function count(value: number): string {
  return value.toLocaleString("en");
}
