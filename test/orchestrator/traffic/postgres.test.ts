/** The embedded store of traffic, held to the port's suite; what is its own: partitions, locks. */
import { connect, createServer, type Socket } from "node:net";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { createPostgresTraffic } from "../../../orchestrator/traffic/postgres.ts";
import { openTestDatabase } from "../../support/database.ts";
import { type TrafficFixture, testTraffic } from "./conformance.ts";
import { CLOCK } from "./conformance-world.ts";

const log = createLog("silent");

testTraffic("postgres", open);

async function open(): Promise<TrafficFixture> {
  const db = await openTestDatabase();
  return {
    traffic: createPostgresTraffic(db, { clock: CLOCK, log }),
    settle: async () => {},
    away: () => away(db.url),
    [Symbol.asyncDispose]: () => db[Symbol.asyncDispose](),
  };
}

/** A database that was there when it was opened, and is gone. */
async function away(databaseUrl: string) {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  const relay = createServer((from) => {
    const to = connect(Number(target.port), target.hostname);
    for (const socket of [from, to]) {
      sockets.add(socket);
      socket.on("error", () => {});
    }
    from.pipe(to).pipe(from);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const address = relay.address();
  const url = new URL(databaseUrl);
  url.host = `127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
  const db = await openPostgresDatabase({ url: url.href, log });
  relay.close();
  for (const socket of sockets) socket.destroy();
  const traffic = createPostgresTraffic(db, { clock: CLOCK, log });
  return { ...traffic, [Symbol.asyncDispose]: () => db[Symbol.asyncDispose]() };
}
