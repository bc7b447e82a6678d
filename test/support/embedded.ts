/** The embedded server as an installation has it, disk flushes and all, in a temporary folder. */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EmbeddedDatabase, openEmbeddedDatabase } from "../../orchestrator/db/embedded.ts";
import { migrate } from "../../orchestrator/db/migrate.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";

/** A folder that the server's user may enter, removed in the end. */
export async function openTestFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "autocode-test-"));
  await chmod(path, 0o755);
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** A migrated database on a server of its own, in `dir`. */
export async function openTestEmbedded(
  dir: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<EmbeddedDatabase> {
  const database = await openEmbeddedDatabase({ dir, log: createLog("silent"), settings });
  await migrate(database);
  return database;
}
