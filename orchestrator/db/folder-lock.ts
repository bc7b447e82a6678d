/**
 * The lock on a data folder: one orchestrator at a time.
 *
 * SQLite (built into Node) is used for nothing but its file lock, which the kernel drops when the
 * process ends, however it ends. A file holding a process id would go stale after a kill -9, and
 * two starters could both take it over.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Problem } from "../problem.ts";

/**
 * Takes the lock of `dir`, which is made when absent.
 *
 * @throws Problem `conflict` naming the process that holds it; `invalid_request` when the folder
 * cannot be written.
 */
export async function lockFolder(dir: string): Promise<Disposable> {
  const pidFile = join(dir, "autocode.pid");
  let held: DatabaseSync;
  try {
    await mkdir(dir, { recursive: true, mode: 0o755 });
    held = lock(join(dir, "autocode.lock"));
  } catch (cause) {
    throw await refusal(dir, pidFile, cause);
  }
  await writeFile(pidFile, `${process.pid}\n`);
  return { [Symbol.dispose]: () => held.close() };
}

/**
 * Takes the lock that the file `path` stands for; null when another process, or another part of
 * this one, has it.
 *
 * @throws Error when the file cannot be made.
 */
export function tryLock(path: string): Disposable | null {
  try {
    const held = lock(path);
    return { [Symbol.dispose]: () => held.close() };
  } catch (error) {
    if (isLocked(error)) return null;
    throw error;
  }
}

function lock(path: string): DatabaseSync {
  const held = new DatabaseSync(path);
  try {
    // The journal is a file by default, which a full disk has no room for.
    held.exec("pragma busy_timeout = 0; pragma journal_mode = memory; begin exclusive");
    return held;
  } catch (error) {
    held.close();
    throw error;
  }
}

function isLocked(error: unknown): boolean {
  return /database is locked/.test((error as Error).message);
}

async function refusal(dir: string, pidFile: string, cause: unknown): Promise<Problem> {
  if (isLocked(cause)) {
    const pid = (await readFile(pidFile, "utf8").catch(() => "unknown")).trim();
    return new Problem(
      "conflict",
      `Another autocode (process ${pid}) uses ${dir}: stop it, or set AUTOCODE_HOME to another ` +
        "folder; several orchestrators of one installation need one DATABASE_URL",
      { facts: { pid }, cause },
    );
  }
  return new Problem(
    "invalid_request",
    `The data folder ${dir} cannot be written: make it writable, or set AUTOCODE_HOME`,
    { cause },
  );
}
