/** One flow whole, and many of them into a file. */
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { EXPORT_FORMATS } from "../../contract/flow-choices.ts";
import type { FlowDetail } from "../../contract/flow-views.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import { byteText, FLOW_OPTIONS, flowQuery } from "../flow-rows.ts";
import { flowText } from "../flow-text.ts";
import type { Printer } from "../print.ts";

const BODY_LINES = 60;

export const trafficShow: Command = {
  name: "traffic show",
  summary: "Show a flow: its decision and rule, headers, and bodies laid out",
  positionals: [{ name: "flow", isRequired: true }],
  options: {
    full: { type: "boolean", help: `Bodies beyond their first ${BODY_LINES} lines` },
    json: JSON_OPTION,
  },
  notes: ["Bodies are as they were recorded: redacted, and cut where they were too large."],
  async run({ positionals: [id = ""], options, print, connect }) {
    const client = await connect();
    const detail = await client.get<FlowDetail>(`flows/${encodeURIComponent(id)}`);
    if (options.flag("json")) {
      print.json(detail.flow);
      return EXIT.done;
    }
    const linesMax = options.flag("full") ? Number.POSITIVE_INFINITY : BODY_LINES;
    for (const text of flowText(detail.flow, linesMax)) print.line(text);
    if (detail.is_withheld) print.note("Headers and bodies need the role operator");
    return EXIT.done;
  },
};

export const trafficExport: Command = {
  name: "traffic export",
  summary: "Write whole flows, the oldest first, as an HTTP archive or a record a line",
  options: {
    output: { type: "string", short: "o", value: "<file>", help: "Write them here" },
    format: { type: "string", value: "<format>", help: "har, or jsonl (as the file's name ends)" },
    ...FLOW_OPTIONS,
  },
  notes: [
    "A browser's network panel reads HAR. Without --output they go to standard output. A file is",
    "there once it is whole: an export that is cut off leaves none.",
  ],
  async run({ options, config, print, connect }) {
    const output = options.text("output");
    const named = /\.(har|jsonl)$/.exec(output ?? "")?.[1];
    const format = options.text("format") ?? named ?? "jsonl";
    if (!EXPORT_FORMATS.some((each) => each === format)) {
      throw usage(`--format: "${format}" is neither har nor jsonl`);
    }
    const query = flowQuery(options);
    query.set("format", format);
    const client = await connect();
    const bytes = await client.bytes(`flows/export?${query}`);
    if (output === undefined) {
      await print.pour(bytes).catch(cutOff);
      return EXIT.done;
    }
    const file = resolve(config.cwd, output);
    const byteCount = await writeWhole(bytes, file, print);
    print.clearProgress();
    print.line(`${byteText(byteCount)} in ${file}`);
    return EXIT.done;
  },
};

/** Under its name at last, and only when it is whole; Ctrl-C leaves nothing. */
async function writeWhole(
  bytes: AsyncIterable<Uint8Array>,
  file: string,
  print: Printer,
): Promise<number> {
  const draft = `${file}.part`;
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  let byteCount = 0;
  try {
    await pipeline(counted, createWriteStream(draft, { mode: 0o600 }), { signal: stopping.signal });
    await rename(draft, file);
    return byteCount;
  } catch (error) {
    await rm(draft, { force: true });
    if (stopping.signal.aborted) throw new Failure(EXIT.failed, "Stopped: nothing was written");
    const { code = "" } = error as NodeJS.ErrnoException;
    if (/^E[A-Z]+$/.test(code)) {
      throw new Failure(EXIT.failed, `${file} cannot be written (${code})`, error);
    }
    return cutOff(error);
  } finally {
    process.off("SIGINT", stop);
    process.off("SIGTERM", stop);
  }

  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      byteCount += chunk.length;
      print.progress(`${byteText(byteCount)} exported`, "exporting");
      yield chunk;
    }
  }
}

function cutOff(error: unknown): never {
  // A reader that has seen enough is no fault of the server's.
  if ((error as NodeJS.ErrnoException).code === "EPIPE") throw error;
  throw new Failure(
    EXIT.unavailable,
    "The export was cut off before its end: the server's log says why. Try again",
    error,
  );
}
