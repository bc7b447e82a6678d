/** Migrates a database until it is killed: `node migrator.ts <database url> <folder>`. */
import { migrate } from "../../orchestrator/db/migrate.ts";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";

const [url = "", folder = ""] = process.argv.slice(2);
await using database = await openPostgresDatabase({ url, log: createLog("silent") });
await migrate(database, { folder });
