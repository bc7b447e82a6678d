/** `model up`, `model down` and `model logs`: pairs on this installation's own GPUs. */
import { setTimeout as pause } from "node:timers/promises";
import type { Side } from "../../contract/agents.ts";
import type { EngineStatus, ServedPair, ServedPairList } from "../../contract/models.ts";
import type { Client } from "../client.ts";
import { type Command, JSON_OPTION, type Values } from "../command.ts";
import { EXIT, type Exit, usage } from "../failure.ts";
import { planLines } from "../plan-text.ts";
import type { Printer } from "../print.ts";
import { PLAN_OPTIONS, planRequest } from "./model-plan.ts";

const LOOK_MS = 1_000;

export const modelUp: Command = {
  name: "model up",
  summary: "Serve a pair on your GPUs, priced by its plan",
  positionals: [{ name: "pair", isRequired: true }],
  options: {
    ...PLAN_OPTIONS,
    "accept-licence": {
      type: "string",
      value: "<id>",
      multiple: true,
      help: "Of the models' weights: its terms are accepted",
    },
    detach: { type: "boolean", help: "Do not wait until both answer" },
    json: JSON_OPTION,
  },
  notes: [
    "Its weights are pulled where they are not here. Ctrl-C leaves it starting.",
    "Exit status 1 when it does not fit, or an engine fails: its last lines are shown.",
  ],
  async run({ positionals: [pair = ""], options, print, connect }) {
    const client = await connect();
    const plan = await planRequest(pair, options, client);
    const accepted = options.list("accept-licence");
    const body = { plan, accepted_licences: accepted };
    const { plan: planned } = await client.post<ServedPair>("models/up", {
      ...body,
      is_dry_run: true,
    });
    if (planned !== null && !options.flag("json")) {
      for (const line of planLines(planned, false)) print.line(line);
    }
    if (planned?.fits === false) {
      if (options.flag("json")) print.json(planned);
      return EXIT.failed;
    }
    const begun = await client.post<ServedPair>("models/up", body);
    for (const warning of begun.warnings ?? []) print.note(`warning: ${warning}`);
    const last = options.flag("detach") ? begun : await follow(client, print, begun);
    if (options.flag("json")) print.json(last);
    return tellEnd(print, last, options);
  },
};

/** Until all its engines have answered, one has failed, or somebody presses Ctrl-C. */
async function follow(client: Client, print: Printer, first: ServedPair): Promise<ServedPair> {
  const left = new AbortController();
  const leave = () => left.abort();
  process.once("SIGINT", leave);
  try {
    let now = first;
    while (!isUp(now) && !hasFailed(now) && !left.signal.aborted) {
      const lines = now.engines.map(({ model, state, detail }) => `${model}: ${state}, ${detail}`);
      const text = lines.map((line) => line.split("\n")[0]).join(" · ");
      print.progress(text, text);
      await pause(LOOK_MS, undefined, { signal: left.signal }).catch(() => {});
      const { served } = await client.get<ServedPairList>("models/served");
      const found = served.find(({ pair }) => pair === first.pair);
      if (found === undefined) return { ...now, engines: [] };
      now = found;
    }
    return now;
  } finally {
    process.off("SIGINT", leave);
    print.clearProgress();
  }
}

function tellEnd(print: Printer, served: ServedPair, options: Values): Exit {
  const { pair, engines } = served;
  const failed = engines.filter(({ state }) => state === "failed");
  for (const { model, detail } of failed) print.note(`${model} has failed: ${detail}`);
  if (failed.length > 0) return EXIT.failed;
  if (engines.length === 0) {
    print.note(`${pair} was brought down meanwhile`);
    return EXIT.failed;
  }
  if (!isUp(served)) {
    print.note(`${pair} is starting: \`autocode model ls\` shows how far it is`);
    return EXIT.done;
  }
  if (options.flag("json")) return EXIT.done;
  for (const { model, side, state } of engines) print.line(`${model} (${side}) is ${state}`);
  print.line(`Use it: \`autocode trial run -m ${pair} …\``);
  return EXIT.done;
}

/** Each has answered: where they alternate, one of them sleeps by now. */
function isUp({ engines }: ServedPair): boolean {
  return (
    engines.some(({ state }) => state === "ready") &&
    engines.every(({ state }) => state === "ready" || state === "sleeping")
  );
}

function hasFailed({ engines }: ServedPair): boolean {
  return engines.length === 0 || engines.some(({ state }) => state === "failed");
}

export const modelDown: Command = {
  name: "model down",
  summary: "End a pair's engines, once they have answered what they are asked",
  positionals: [{ name: "pair", isRequired: true }],
  options: { json: JSON_OPTION },
  notes: ["Calls of its trials are refused from now on; `model up` serves it again."],
  async run({ positionals: [pair = ""], options, print, connect }) {
    const client = await connect();
    const served = await client.post<ServedPair>("models/down", { pair });
    if (options.flag("json")) print.json(served);
    else print.line(`${served.pair} is brought down: it ends what it is answering`);
    return EXIT.done;
  },
};

export const modelLogs: Command = {
  name: "model logs",
  summary: "Print what a pair's engine has printed since its last start",
  positionals: [{ name: "pair", isRequired: true }],
  options: {
    side: { type: "string", value: "<side>", help: "normal or thinking (normal)" },
    follow: { type: "boolean", short: "f", help: "Go on as it comes" },
  },
  async run({ positionals: [pair = ""], options, print, connect }) {
    const query = new URLSearchParams({ side: sideOf(options) });
    if (options.flag("follow")) query.set("follow", "true");
    const client = await connect();
    await print.pourText(await client.bytes(`models/${encodeURIComponent(pair)}/logs?${query}`));
    return EXIT.done;
  },
};

function sideOf(options: Values): Side {
  const side = options.text("side") ?? "normal";
  if (side === "normal" || side === "thinking") return side;
  throw usage(`--side: "${side}" must be normal or thinking`);
}

/** A pair's engines in a word, for lists: "ready", "ready/sleeping". */
export function servedWord(engines: readonly EngineStatus[]): string {
  return [...new Set(engines.map(({ state }) => state))].join("/");
}
