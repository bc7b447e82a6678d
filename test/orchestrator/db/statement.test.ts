import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { together } from "../../../orchestrator/db/statement.ts";
import { openTestDatabase } from "../../support/database.ts";

for (const inside of [false, true]) {
  test(`statements together take effect all, or none (${inside ? "inside" : "outside"} a transaction)`, async () => {
    await using database = await openTestDatabase();
    await database.sql.execute(sql`create table note (text text primary key)`);
    const insert = (text: string) => ({
      text: "/* prepared: test.note */ insert into note values ($1) returning text",
      values: [text],
    });
    const count = {
      text: "select count(*)::int as count from note where text <> $1",
      values: ["c"],
    };
    const run = (statements: Parameters<typeof together>[1]) =>
      inside
        ? database.sql.transaction((tx) => together({ sql: tx }, statements))
        : together(database, statements);

    assert.deepEqual(await run([insert("a"), insert("b"), count]), [
      [{ text: "a" }],
      [{ text: "b" }],
      [{ count: 2 }],
    ]);
    await assert.rejects(run([insert("d"), insert("a"), insert("e")]), (error: Error) => {
      const { code } = (error.cause ?? error) as { code?: string };
      return code === "23505";
    });
    const left = await rows(database.sql, sql`select text from note order by text`);
    assert.deepEqual(left, [{ text: "a" }, { text: "b" }]);
    // The connection that met the failure is of use again.
    assert.deepEqual(await run([count]), [[{ count: 2 }]]);
  });
}
