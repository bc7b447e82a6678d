/**
 * `node session-databases.ts <from> <to> <database>…`: writes a new folder's path over an old one's
 * in every text of SQLite databases that a CLI keeps its sessions in. Started by the worker-agent
 * as the agent's user, whose files these are, from a copy of this file alone.
 */
import { DatabaseSync } from "node:sqlite";

/** Replaces `from` by `to` in each text column of each table. @throws what SQLite throws. */
export function rewriteDatabase(file: string, from: string, to: string): void {
  const database = new DatabaseSync(file);
  try {
    const tables = database.prepare("select name from sqlite_master where type = 'table'").all();
    for (const { name: table } of tables) {
      const columns = database.prepare(`pragma table_info(${quoted(table)})`).all();
      for (const { name: column } of columns) {
        const at = quoted(column);
        database
          .prepare(
            `update ${quoted(table)} set ${at} = replace(${at}, ?, ?)
             where typeof(${at}) = 'text' and instr(${at}, ?) > 0`,
          )
          .run(from, to, from);
      }
    }
  } finally {
    database.close();
  }
}

function quoted(name: unknown): string {
  return `"${String(name).replaceAll('"', '""')}"`;
}

if (import.meta.main) {
  const [, , from = "", to = "", ...files] = process.argv;
  for (const file of files) rewriteDatabase(file, from, to);
}
