/** Model weights: what is in the server's store, and pulling more. */
import { userInfo } from "node:os";
import { resolve } from "node:path";
import type {
  PullRequest,
  StoredWeights,
  WeightList,
  WeightProgress,
} from "../../contract/weights.ts";
import { type Command, JSON_OPTION, type Values } from "../command.ts";
import { EXIT, type Exit, Failure, usage } from "../failure.ts";
import { byteText } from "../flow-rows.ts";
import type { Printer } from "../print.ts";

export const modelPull: Command = {
  name: "model pull",
  summary: "Fetch the weights of a pair or of one model, and check them",
  positionals: [{ name: "pair|model", isRequired: false }],
  options: {
    quantisation: { type: "string", value: "<name>", help: "Which weights (the card's first)" },
    "accept-licence": {
      type: "string",
      multiple: true,
      value: "<id>",
      help: "Accept the terms of this licence",
    },
    from: {
      type: "string",
      value: "<folder>",
      help: "Take one model's files from a folder of the server's machine",
    },
    verify: { type: "boolean", help: "Hash what is there again, and fetch nothing" },
    json: JSON_OPTION,
  },
  notes: [
    "Without a name: what is in the store. Ctrl-C stops a pull and keeps what came: the same",
    "command goes on from there. AUTOCODE_OFFLINE=on on the server fetches nothing; then copy a",
    "model's files there and name their folder with --from.",
  ],
  async run({ positionals: [model], options, config, print, connect }) {
    const client = await connect();
    if (model === undefined) {
      const list = await client.get<WeightList>("models/weights");
      if (options.flag("json")) print.json(list);
      else printList(print, list);
      return EXIT.done;
    }
    const request = requestOf(model, options, config.cwd);
    using stopping = onInterrupt();
    try {
      const lines = client.postForLines<WeightProgress>("models/pull", request, stopping.signal);
      return await follow(lines, print, options.flag("json"));
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
      print.clearProgress();
      const words = `autocode model pull ${model}`;
      throw new Failure(EXIT.failed, `Stopped: what came is kept; to go on: ${words}`);
    }
  },
};

function requestOf(model: string, options: Values, cwd: string): PullRequest {
  const quantisation = options.text("quantisation");
  const accepted = options.list("accept-licence");
  const from = options.text("from");
  if (from !== undefined && options.flag("verify")) {
    throw usage("--from and --verify: pull from the folder first, then verify");
  }
  return {
    model,
    ...(quantisation !== undefined && { quantisation }),
    ...(accepted.length > 0 && { accepted_licences: accepted, accepted_by: userInfo().username }),
    ...(from !== undefined && { from: resolve(cwd, from) }),
    ...(options.flag("verify") && { is_verify: true }),
  };
}

/** Prints the progress, and each model's end. @throws Failure when one was not pulled. */
async function follow(
  lines: AsyncIterable<WeightProgress>,
  print: Printer,
  isJson: boolean,
): Promise<Exit> {
  const told: WeightProgress[] = [];
  let last: WeightProgress | null = null;
  for await (const line of lines) {
    last = line;
    const { model, quantisation, step, detail } = line;
    if (step === "failed") break;
    const isEnd = step === "pulled" || step === "checked" || step === "already_here";
    if (!isEnd && step !== "warning") {
      print.progress(progressText(line), `${model} ${step}`);
      continue;
    }
    told.push(line);
    if (step === "warning") print.note(`${model}: ${detail}`);
    else if (!isJson) print.line(`${model} ${quantisation} ${ENDS[step]} ${detail}`);
  }
  print.clearProgress();
  if (isJson) print.json(told);
  if (last !== null && last.step !== "failed" && told.includes(last)) return EXIT.done;
  const why = last?.step === "failed" ? last.detail : "the server ended before it was done";
  throw new Failure(EXIT.failed, why);
}

const ENDS = { pulled: "pulled into", checked: "checked:", already_here: "is here already:" };

function progressText(line: WeightProgress): string {
  const { model, step, detail, bytes, bytes_total: total, bytes_per_second: rate } = line;
  if (total === 0) return `${model}: ${step} ${detail}`;
  const speed = rate === null ? "" : `, ${byteText(rate)}/s`;
  const left = line.eta_ms === null ? "" : `, ${timeText(line.eta_ms)} left`;
  return `${model}: ${step} ${byteText(bytes)} of ${byteText(total)}${speed}${left}`;
}

function timeText(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 100) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}

function printList(print: Printer, { dir, free_bytes: free, weights }: WeightList): void {
  if (weights.length > 0) {
    print.table<StoredWeights>(
      [
        { title: "model", value: ({ model }) => model, shrinks: true },
        { title: "weights", value: ({ quantisation }) => quantisation },
        { title: "state", value: ({ state }) => state },
        { title: "size", value: ({ bytes }) => byteText(bytes), align: "right" },
        { title: "revision", value: ({ revision }) => revision.slice(0, 12) },
        { title: "licence", value: ({ licence }) => licence ?? "", shrinks: true },
      ],
      weights,
    );
    for (const { model, detail } of weights) if (detail !== "") print.note(`${model}: ${detail}`);
  }
  print.note(`${byteText(free)} free in ${dir}`);
}

/** Once: a second Ctrl-C ends the command as it ends any. */
function onInterrupt(): { signal: AbortSignal } & Disposable {
  const stopping = new AbortController();
  const names = ["SIGINT", "SIGTERM"] as const;
  const abort = () => stopping.abort();
  for (const name of names) process.once(name, abort);
  return {
    signal: stopping.signal,
    [Symbol.dispose]() {
      for (const name of names) process.off(name, abort);
    },
  };
}
