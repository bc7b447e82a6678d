/** The ledger's journal: exported by the server, checked here without one. */
import { createPublicKey } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { readFile, rename, rm, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { LedgerFault, LedgerReport, LedgerStatus } from "../../contract/ledger.ts";
import { keyIdOf } from "../../journal/chain.ts";
import type { VerifyOptions } from "../../journal/verify.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import type { Printer } from "../print.ts";

const PROGRESS_LINES = 5_000;
const NEWLINE = 10;
/** More than an export's last line is long. */
const TAIL_CHARACTERS = 2_000;

export const ledgerExport: Command = {
  name: "ledger export",
  summary: "Export all accounts, transfers and signed checkpoints, one JSON a line",
  options: {
    output: { type: "string", short: "o", value: "<file>", help: "Write it here" },
    json: { type: "boolean", help: "With --output: say in JSON what was written" },
  },
  notes: [
    "`autocode ledger verify <file>` checks it on any machine, without a server. Note the key's",
    "fingerprint apart from the file: it is what makes the signatures worth something.",
  ],
  async run({ options, config, print, connect }) {
    const output = options.text("output");
    if (output === undefined && options.flag("json")) throw usage("--json needs --output");
    const client = await connect();
    const bytes = await client.bytes("ledger/export");
    if (output === undefined) {
      const tally = createTally();
      await print.pour(tally.through(bytes)).catch(cutOff);
      return tally.isWhole() ? EXIT.done : cutOff();
    }
    const file = resolve(config.cwd, output);
    const written = await writeWhole(bytes, file, print);
    const { key } = await client.get<LedgerStatus>("ledger");
    print.clearProgress();
    if (options.flag("json")) {
      print.json({ file, ...written, key });
      return EXIT.done;
    }
    print.line(`${written.lines} lines, ${written.byte_count} bytes in ${file}`);
    print.line(`signed by ${key.fingerprint}`);
    return EXIT.done;
  },
};

export const ledgerVerify: Command = {
  name: "ledger verify",
  summary: "Check an export without a server, or have the server check its own ledger",
  positionals: [{ name: "export", isRequired: false }],
  options: {
    "public-key": {
      type: "string",
      multiple: true,
      value: "<fingerprint|file>",
      help: "Whose signatures count: SHA256:…, or a PEM file",
    },
    json: JSON_OPTION,
  },
  notes: [
    "Without --public-key the signatures show that one key made them all, not whose it is.",
    "Exit status 1 when something is wrong; the first thing that is wrong is named.",
  ],
  async run({ positionals: [path], options, config, print, connect }) {
    const keys = options.list("public-key");
    if (path === undefined) {
      if (keys.length > 0) throw usage("--public-key is for an export: name its file");
      const client = await connect();
      return tell(await client.get<LedgerReport>("ledger/verify"), options.flag("json"), print);
    }
    const file = resolve(config.cwd, path);
    await stat(file).catch((cause: unknown) => {
      throw new Failure(EXIT.usage, `${file}: there is no such file`, cause);
    });
    const trusted = await readKeys(config.cwd, keys);
    const { verifyExport } = await import("../../journal/verify.ts");
    const report = await verifyExport(() => createReadStream(file), {
      ...trusted,
      onProgress: (count) => print.progress(`${count} transfers checked`, "checking"),
    });
    print.clearProgress();
    return tell(report, options.flag("json"), print);
  },
};

export const ledgerKey: Command = {
  name: "ledger key",
  summary: "Show the key that signs the ledger, and how far the journal is",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const client = await connect();
    const status = await client.get<LedgerStatus>("ledger");
    if (options.flag("json")) {
      print.json(status);
      return EXIT.done;
    }
    const { key, sealed, unsealed, last_signed_at: signedAt } = status;
    print.line(`fingerprint  ${key.fingerprint}`);
    print.line(`sealed       ${sealed} transfers; ${unsealed} not yet`);
    print.line(`last signed  ${signedAt ?? "never"}`);
    print.line(key.public_key.trimEnd());
    return EXIT.done;
  },
};

function tell(report: LedgerReport, isJson: boolean, print: Printer) {
  const { fault, keys } = report;
  if (isJson) print.json(report);
  else {
    const names = keys.map(({ fingerprint }) => fingerprint).join(", ");
    print.line(fault === null ? "intact" : faultLine(fault));
    print.line(`accounts     ${report.accounts}`);
    print.line(`transfers    ${report.sealed} in the chain, ${report.unsealed} behind it`);
    print.line(`checkpoints  ${report.checkpoints}, last ${report.last_signed_at ?? "never"}`);
    print.line(`unsigned     ${report.unsigned}`);
    print.line(`signed by    ${names === "" ? "nobody" : names}`);
    if (!report.is_key_trusted) {
      print.note(
        "No --public-key was given, so the signatures show only that the export agrees with " +
          "itself. Compare the fingerprint with what `autocode ledger key` shows on the server",
      );
    }
  }
  return fault === null ? EXIT.done : EXIT.failed;
}

function faultLine({ what, line, position, transfer_id, account_id, detail }: LedgerFault): string {
  const where = [
    position === null ? [] : `position ${position}`,
    transfer_id ?? [],
    account_id ?? [],
    `line ${line}`,
  ].flat();
  return `${what.toUpperCase().replace("_", " ")} at ${where.join(", ")}: ${detail}`;
}

/** A fingerprint is taken as it is; all else is a file with a public key. */
async function readKeys(cwd: string, given: readonly string[]): Promise<VerifyOptions> {
  const isFingerprint = (text: string) => /^SHA256:[A-Za-z0-9_-]{43}$/.test(text);
  const files = given.filter((text) => !isFingerprint(text));
  const trustedKeyIds = await Promise.all(
    files.map(async (name) => {
      try {
        return keyIdOf(createPublicKey(await readFile(resolve(cwd, name))));
      } catch (cause) {
        throw new Failure(
          EXIT.usage,
          `--public-key: "${name}" is neither a fingerprint (SHA256:…) nor a file with an ` +
            "Ed25519 public key in PEM",
          cause,
        );
      }
    }),
  );
  return { trustedKeyIds, trustedFingerprints: given.filter(isFingerprint) };
}

/** Under the name at last, and only when it is whole. */
async function writeWhole(
  bytes: AsyncIterable<Uint8Array>,
  file: string,
  print: Printer,
): Promise<{ lines: number; byte_count: number }> {
  const draft = `${file}.part`;
  const tally = createTally((lines, byteCount) => {
    if (lines < PROGRESS_LINES) return;
    print.progress(`${lines} lines, ${Math.round(byteCount / 1e6)} MB`, "exporting");
  });
  try {
    await pipeline(tally.through(bytes), createWriteStream(draft, { mode: 0o600 }));
    if (!tally.isWhole()) return cutOff();
    await rename(draft, file);
    return tally.counts;
  } catch (error) {
    await rm(draft, { force: true });
    const { code = "" } = error as NodeJS.ErrnoException;
    if (/^E[A-Z]+$/.test(code)) {
      throw new Failure(EXIT.failed, `${file} cannot be written (${code})`, error);
    }
    return cutOff(error);
  }
}

/** Counts what goes through, and sees whether it ends as an export does. */
function createTally(onChunk: (lines: number, byteCount: number) => void = () => {}) {
  const counts = { lines: 0, byte_count: 0 };
  let tail = "";
  return { counts, through, isWhole };

  async function* through(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      counts.byte_count += chunk.length;
      for (const byte of chunk) if (byte === NEWLINE) counts.lines += 1;
      tail = (tail + Buffer.from(chunk).toString("latin1")).slice(-TAIL_CHARACTERS);
      onChunk(counts.lines, counts.byte_count);
      yield chunk;
    }
  }

  function isWhole(): boolean {
    return tail.endsWith("\n") && /(^|\n)\{"type":"end"[^\n]*\n$/.test(tail);
  }
}

function cutOff(error?: unknown): never {
  if (error instanceof Failure) throw error;
  // A reader that has seen enough is no fault of the server's.
  if ((error as NodeJS.ErrnoException | undefined)?.code === "EPIPE") throw error;
  throw new Failure(
    EXIT.unavailable,
    "The export was cut off before its end: the server's log says why. Try again",
    error,
  );
}
