/** `autocode trial reprice`: what a trial would have cost at other prices. Moves no money. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { RepricedCall, RepriceRequest, Repricing } from "../../contract/repricing.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { shownAmount, timeOption } from "../defaults.ts";
import { EXIT, usage } from "../failure.ts";
import type { Column } from "../print.ts";
import { compact } from "../tables.ts";

export const trialReprice: Command = {
  name: "trial reprice",
  summary: "Show what a trial would have cost at other prices; nothing is charged",
  positionals: [{ name: "trial", isRequired: true }],
  options: {
    book: { type: "string", short: "b", value: "<file>", help: "By this prices.yaml" },
    pair: { type: "string", value: "<name>", help: "By the models of this pair" },
    at: { type: "string", value: "<date>", help: "By the prices of that day or time" },
    json: JSON_OPTION,
  },
  notes: [
    "Without --at each call is charged by the price in force when it was made; without any option,",
    "by its own price, which gives what was charged. Another model would have counted other tokens.",
    "What swaps of models on own GPUs cost the trial is kept as it was charged, in both sums.",
  ],
  async run({ positionals: [id = ""], options, config, print, connect }) {
    const wanted: RepriceRequest = {};
    const book = options.text("book");
    const pair = options.text("pair");
    const at = options.text("at");
    if (book !== undefined) wanted.book = await readBook(resolve(config.cwd, book));
    if (pair !== undefined) wanted.pair = pair;
    if (at !== undefined) wanted.at = timeOption("at", at);
    const client = await connect();
    const path = `trials/${encodeURIComponent(id)}/reprice`;
    const repricing = await client.post<Repricing>(path, wanted);
    if (options.flag("json")) {
      print.json(repricing);
      return EXIT.done;
    }
    const { currency } = repricing;
    const shown = (nanos: string) => shownAmount(nanos, currency);
    print.table(callColumns(currency), repricing.calls);
    print.line("");
    for (const line of priceLines(repricing.calls)) print.line(line);
    print.line(`charged     ${shown(repricing.charged_nanos)}`);
    print.line(`repriced    ${shown(repricing.repriced_nanos)}`);
    print.line(`difference  ${shown(repricing.difference_nanos)}`);
    const marks = [
      ...(repricing.swap_nanos === "0"
        ? []
        : [`both have ${shown(repricing.swap_nanos)} for swaps of models, kept as charged`]),
      ...(repricing.estimated_count > 0
        ? ["~ its tokens are our count, the server sent none"]
        : []),
      ...(repricing.reservation_count > 0 ? ["* it was charged its reservation, not usage"] : []),
    ];
    for (const mark of marks) print.note(mark);
    return EXIT.done;
  },
};

function callColumns(currency: string): Column<RepricedCall>[] {
  const amount = (title: string, of: (call: RepricedCall) => string): Column<RepricedCall> => ({
    title,
    value: (call) => shownAmount(of(call), currency),
    align: "right",
  });
  return [
    { title: "at", value: ({ started_at: at }) => at.slice(0, 19) },
    { title: "side", value: ({ side }) => side },
    { title: "in", value: ({ input_tokens: count }) => compact(count), align: "right" },
    { title: "out", value: ({ output_tokens: count }) => compact(count), align: "right" },
    amount("charged", ({ charged }) => charged.cost_nanos),
    amount("repriced", ({ repriced }) => repriced.cost_nanos),
    {
      title: "",
      value: ({ is_estimated: isEstimated, basis }) =>
        `${isEstimated ? "~" : ""}${basis === "reservation" ? "*" : ""}`,
    },
  ];
}

/** Which price took the place of which, and how often. */
function priceLines(calls: readonly RepricedCall[]): string[] {
  const counts = new Map<string, number>();
  for (const { charged, repriced } of calls) {
    const isSame = charged.price_version === repriced.price_version;
    const change = isSame
      ? charged.price_version
      : `${charged.price_version} -> ${repriced.price_version}`;
    counts.set(change, (counts.get(change) ?? 0) + 1);
  }
  return [...counts].map(
    ([change, count]) => `${count} ${count === 1 ? "call" : "calls"} by ${change}`,
  );
}

async function readBook(file: string): Promise<string> {
  return readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw usage(`--book: ${file} cannot be read (${cause.code})`);
  });
}
