/** The whole installation into one file, while it runs, and back from it, while none runs. */
import { createHash, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { readFile, rename, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { pathToFileURL } from "node:url";
import { wrap } from "../../backup/envelope.ts";
import type { Restored } from "../../contract/restored.ts";
import { type Command, JSON_OPTION, type Option } from "../command.ts";
import { EXIT, Failure, usage } from "../failure.ts";
import type { Printer } from "../print.ts";

const PASSPHRASE_FILE: Option = {
  type: "string",
  value: "<file>",
  help: "Seal it with the passphrase in this file",
};
const PROGRESS_BYTES = 1_000_000;

export const backup: Command = {
  name: "backup",
  summary: "Write the whole installation into one file, while it runs",
  positionals: [{ name: "file|-", isRequired: true }],
  options: { "passphrase-file": PASSPHRASE_FILE, json: JSON_OPTION },
  notes: [
    "Database, bundles, artefacts, checkpoints and sealed secrets as they are at one moment. Agents",
    "are installed again; what a Vault keeps is not in it. `autocode restore` reads it.",
  ],
  async run({ positionals: [path = ""], options, config, print, connect }) {
    const passphrase = await readPassphrase(config.cwd, options.text("passphrase-file"));
    if (path === "-" && options.flag("json")) throw usage("--json needs a file: - is the backup");
    const client = await connect();
    const tally = createTally(print);
    const sealing = passphrase === null ? null : { passphrase, salt: randomBytes(16) };
    const bytes = tally.through(wrap(await client.bytes("backup"), sealing));
    if (path === "-") {
      await print.pour(bytes).catch(cutOff);
      return EXIT.done;
    }
    const file = resolve(config.cwd, path);
    await writeWhole(bytes, file);
    print.clearProgress();
    const counts = tally.counts();
    if (options.flag("json")) {
      print.json({ file, ...counts, is_sealed: sealing !== null });
      return EXIT.done;
    }
    print.line(`${counts.byte_count} bytes in ${file}`);
    print.line(`SHA-256 ${counts.sha256}`);
    if (sealing === null) {
      print.note(
        "It is not sealed, and may hold the key of the secrets: keep it as you keep the data " +
          "folder, or give --passphrase-file",
      );
    }
    return EXIT.done;
  },
};

export const restore: Command = {
  name: "restore",
  summary: "Put a backup in the place of an installation that is empty and does not run",
  positionals: [{ name: "file", isRequired: true }],
  options: {
    "passphrase-file": { ...PASSPHRASE_FILE, help: "The passphrase that it was sealed with" },
    force: {
      type: "boolean",
      help: "Replace what is there; its files are moved aside",
    },
    json: JSON_OPTION,
  },
  notes: [
    "Into AUTOCODE_HOME, and the database of DATABASE_URL where it is set. Every hash and the ledger",
    "are checked first: what is not whole changes nothing. Trials that ran begin their try again.",
  ],
  async run({ positionals: [path = ""], options, config, print }) {
    const passphrase = await readPassphrase(config.cwd, options.text("passphrase-file"));
    const file = resolve(config.cwd, path);
    await stat(file).catch((cause: unknown) => {
      throw new Failure(EXIT.usage, `${file}: there is no such file`, cause);
    });
    // In this process: there is no server to ask.
    const main = pathToFileURL(join(config.rootDir, "orchestrator/compose-backup.ts")).href;
    const { restoreBackup } = (await import(main)) as { restoreBackup: Restore };
    const onProgress = (step: string, name: string) => print.progress(`${step} ${name}`, step);
    const isForced = options.flag("force");
    const restored = await restoreBackup({ file, passphrase, isForced, onProgress }).catch(failed);
    print.clearProgress();
    if (options.flag("json")) {
      print.json(restored);
      return EXIT.done;
    }
    tell(restored, print);
    return EXIT.done;
  },
};

type Restore = (request: {
  file: string;
  passphrase: string | null;
  isForced: boolean;
  onProgress(step: string, name: string): void;
}) => Promise<Restored>;

function tell(restored: Restored, print: Printer): void {
  const { created_at: madeAt, version, tables, files, transfers, requeued } = restored;
  print.line(`restored     the installation of ${madeAt}, autocode ${version}`);
  print.line(`database     ${tables} tables, ${transfers} transfers; the ledger is intact`);
  print.line(`files        ${files}`);
  print.line(`trials       ${requeued} were running, and are begun again at the next start`);
  if (restored.replaced !== null) print.line(`moved aside  ${restored.replaced}`);
  if (restored.missing.length > 0) {
    print.note(`${restored.missing.length} files that rows name were lost before the backup:`);
    for (const path of restored.missing.slice(0, 10)) print.note(`  ${path}`);
  }
  if (restored.secrets !== "file") {
    print.note(`Its secrets are kept by ${restored.secrets}, and were not part of the backup`);
  }
  print.note("Start it with `npm start` or `autocode up`");
}

async function readPassphrase(cwd: string, name: string | undefined): Promise<string | null> {
  if (name === undefined) return null;
  const text = await readFile(resolve(cwd, name), "utf8").catch((cause: unknown) => {
    throw new Failure(EXIT.usage, `--passphrase-file: ${name} cannot be read`, cause);
  });
  const passphrase = text.replace(/\r?\n$/, "");
  if (passphrase === "") throw usage(`--passphrase-file: ${name} is empty`);
  return passphrase;
}

/** Under its name at last, and only when it is whole. */
async function writeWhole(bytes: AsyncIterable<Uint8Array>, file: string): Promise<void> {
  const draft = `${file}.part`;
  try {
    await pipeline(bytes, createWriteStream(draft, { mode: 0o600 }));
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    const { code = "" } = error as NodeJS.ErrnoException;
    if (/^E[A-Z]+$/.test(code) && code !== "ECONNRESET") {
      throw new Failure(EXIT.failed, `${file} cannot be written (${code})`, error);
    }
    cutOff(error);
  }
}

function createTally(print: Printer) {
  const hash = createHash("sha256");
  let byteCount = 0;
  return { through, counts };

  async function* through(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      hash.update(chunk);
      byteCount += chunk.length;
      if (byteCount > PROGRESS_BYTES) {
        print.progress(`${Math.round(byteCount / 1e6)} MB written`, "writing the backup");
      }
      yield chunk;
    }
  }

  function counts(): { byte_count: number; sha256: string } {
    return { byte_count: byteCount, sha256: hash.digest("hex") };
  }
}

function cutOff(error: unknown): never {
  if (error instanceof Failure || (error as NodeJS.ErrnoException).code === "EPIPE") throw error;
  throw new Failure(
    EXIT.unavailable,
    "The backup was cut off before its end: the server's log says why. Try again",
    error,
  );
}

/** A problem is told in its own words: the orchestrator's code is not ours to import. */
function failed(error: unknown): never {
  const { name, message } = error as Error;
  if (name !== "Problem" && name !== "ConfigError") throw error;
  throw new Failure(name === "ConfigError" ? EXIT.usage : EXIT.failed, message, error);
}
