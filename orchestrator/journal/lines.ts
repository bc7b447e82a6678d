/** The lines of an export: split from its bytes, read and checked one by one. */
import { Compile } from "typebox/compile";
import {
  AccountRecord,
  CheckpointRecord,
  EndRecord,
  type ExportRecord,
  HeaderRecord,
  TransferRecord,
} from "../contract/ledger.ts";

/** More than any record of ours; an export made to exhaust memory is cut here. */
const LINE_BYTES_MAX = 1_048_576;

/** Opens the export from its beginning, each time anew: finding a cause needs a second look. */
export type OpenExport = () => AsyncIterable<Uint8Array>;

export type ReadLine = { record: ExportRecord } | { flaw: string };

const SCHEMAS = {
  header: Compile(HeaderRecord),
  account: Compile(AccountRecord),
  transfer: Compile(TransferRecord),
  checkpoint: Compile(CheckpointRecord),
  end: Compile(EndRecord),
} as const;

/** The lines without their ends; the last one even where nothing ends it. */
export async function* linesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let pending = "";
  for await (const chunk of bytes) {
    pending += decoder.decode(chunk, { stream: true });
    let from = 0;
    for (let end = pending.indexOf("\n"); end !== -1; end = pending.indexOf("\n", from)) {
      yield pending.slice(from, end);
      from = end + 1;
    }
    pending = pending.slice(from);
    if (pending.length > LINE_BYTES_MAX) {
      yield pending.slice(0, LINE_BYTES_MAX);
      return;
    }
  }
  pending += decoder.decode();
  if (pending !== "") yield pending;
}

export function readLine(text: string): ReadLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { flaw: "it is not JSON" };
  }
  const type = (value as { type?: unknown } | null)?.type;
  if (typeof type !== "string" || !Object.hasOwn(SCHEMAS, type)) {
    return { flaw: "its `type` is none of this format's" };
  }
  const schema = SCHEMAS[type as keyof typeof SCHEMAS];
  if (schema.Check(value)) return { record: value as ExportRecord };
  const [error] = schema.Errors(value);
  const field = error?.instancePath.replace(/^\//, "").replaceAll("/", ".");
  return { flaw: `${field === "" || field === undefined ? type : field} ${error?.message}` };
}
