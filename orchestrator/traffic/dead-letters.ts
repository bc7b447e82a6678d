/**
 * Records that the store will never take: a file for each source in a folder beside the spool's, a
 * line a record with the store's own words. They are kept for a person, up to a bound; beyond it
 * they are counted alone.
 */
import { mkdir, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";

export interface DeadLetter {
  /** The record, as it was spooled. */
  readonly line: string;
  readonly reason: string;
}

const DIR = "rejected";
const FILE_BYTES_MAX = 64 * 2 ** 20;

/** Durable afterwards, unless the source's file is full. */
export async function appendRejected(
  spoolDir: string,
  sourceId: string,
  letters: readonly DeadLetter[],
): Promise<void> {
  const dir = join(spoolDir, DIR);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await using file = await open(join(dir, `${sourceId}.ndjson`), "a", 0o600);
  let room = FILE_BYTES_MAX - (await file.stat()).size;
  let text = "";
  for (const { line, reason } of letters) {
    const letter = `${JSON.stringify({ reason, record: line })}\n`;
    room -= Buffer.byteLength(letter);
    if (room < 0) break;
    text += letter;
  }
  await file.appendFile(text);
  await file.datasync();
}

/** Where they lie, and how much it is; null when there are none. */
export async function describeRejected(spoolDir: string): Promise<string | null> {
  const dir = join(spoolDir, DIR);
  const names = await readdir(dir).catch(() => []);
  if (names.length === 0) return null;
  let byteCount = 0;
  for (const name of names) byteCount += (await stat(join(dir, name))).size;
  return `records that the store refused for good: ${byteCount} bytes in ${dir}`;
}
