/**
 * Bench: how many transfers a second the journal seals, exports and checks, on a server of its own
 * with disk flushes on, one process, and the most memory that a check takes.
 *
 *     node test/bench/journal.ts [--json] [--transfers=100000]
 */
import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { parseArgs } from "node:util";
import { sql } from "drizzle-orm";
import { verifyExport } from "../../orchestrator/journal/verify.ts";
import { createJournal } from "../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../orchestrator/ledger/journal-export.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { openTestEmbedded, openTestFolder } from "../support/embedded.ts";
import { createTestSigner } from "../support/journal.ts";
import { openPath, pairOf } from "./ledger/paths.ts";

const CALLERS = 256;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    transfers: { type: "string", default: "100000" },
  },
});
const wanted = Number(values.transfers);

const ids = createIds(systemClock, systemRandom);
await using folder = await openTestFolder();
await using database = await openTestEmbedded(folder.path, { max_connections: "50" });
const ledger = createLedger(database, systemClock);
const path = await openPath(ledger, ids);
const signer = createTestSigner();
const journal = createJournal(database, systemClock, signer);

const cpuUs = new Map<string, number>();
let pairs = 0;
const made = await measure("write", async () => {
  await Promise.all(
    Array.from({ length: CALLERS }, async () => {
      while (pairs * 2 < wanted) {
        pairs += 1;
        await pairOf(ledger, ids, path);
      }
    }),
  );
});
await database.sql.execute(sql`analyze`);
const sealed = await measure("seal", () => journal.catchUp());

const file = join(folder.path, "export");
const ledgerExport = createLedgerExport(database, systemClock, journal, signer);
const exported = await measure("export", async () =>
  pipeline(await ledgerExport.open(), createWriteStream(file)),
);
globalThis.gc?.();
const beforeBytes = process.memoryUsage().rss;
let mostBytes = beforeBytes;
const checked = await measure("check", async () => {
  const onProgress = () => {
    mostBytes = Math.max(mostBytes, process.memoryUsage().rss);
  };
  const { fault } = await verifyExport(() => createReadStream(file), { onProgress });
  if (fault !== null) throw new Error(JSON.stringify(fault));
});

const figures = {
  transfers: wanted,
  written_per_second: Math.round(made),
  sealed_per_second: Math.round(sealed),
  exported_per_second: Math.round(exported),
  checked_per_second: Math.round(checked),
  // Of our process alone, and so the same on a busy machine.
  sealed_cpu_us: cpuUs.get("seal"),
  exported_cpu_us: cpuUs.get("export"),
  checked_cpu_us: cpuUs.get("check"),
  export_mb: Math.round((await stat(file)).size / 1e6),
  check_grew_mb: Math.round((mostBytes - beforeBytes) / 1e6),
};
const lines = values.json
  ? [JSON.stringify(figures)]
  : Object.entries(figures).map(([name, value]) => `${name.padEnd(20)} ${value}`);
process.stdout.write(`${lines.join("\n")}\n`);

/** Transfers a second; what one cost our process goes into `cpuUs`. */
async function measure(name: string, work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  const startMs = performance.now();
  await work();
  const { user, system } = process.cpuUsage(before);
  cpuUs.set(name, Math.round((user + system) / wanted));
  return (wanted * 1_000) / (performance.now() - startMs);
}
