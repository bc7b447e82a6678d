/** Statements as the server gets them, for what is too hot to be built anew each time. */
import { type SQL, sql } from "drizzle-orm";
import type { Database, Rows, Sql, Statement } from "./database.ts";

/** `Database.together`, or the same on a transaction's own `sql`, inside it. */
export async function together(
  db: { sql: Sql } & Pick<Partial<Database>, "together">,
  statements: readonly Statement[],
): Promise<Rows[]> {
  if (db.together !== undefined) return db.together(statements);
  return db.sql.transaction(async (tx) => {
    const answers: Rows[] = [];
    for (const statement of statements) {
      answers.push((await tx.execute(asSql(statement))).rows as Rows);
    }
    return answers;
  });
}

/** The statement for whoever runs drizzle's. */
export function asSql({ text, values }: Statement): SQL {
  // Odd parts are the numbers of values.
  const parts = text.split(/\$(\d+)/);
  return sql.join(
    parts.map((part, at) => (at % 2 === 0 ? sql.raw(part) : sql.param(values[Number(part) - 1]))),
  );
}
