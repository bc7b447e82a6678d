/** A program that holds an embedded database until it is killed: `embedded-holder.ts <folder>`. */
import { sql } from "drizzle-orm";
import { openTestEmbedded } from "./embedded.ts";

const database = await openTestEmbedded(process.argv[2] ?? "");
await database.sql.execute(sql`create table kept as select 1 as id`);
process.stdout.write(`${JSON.stringify({ pid: database.serverPid() })}\n`);
setInterval(() => {}, 60_000);
