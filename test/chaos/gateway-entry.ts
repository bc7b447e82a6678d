/**
 * A gateway as a process of its own that kills itself with SIGKILL at the point it is told: the
 * real gateway over the real ledger, with nothing between them but the one who pulls the trigger.
 *
 *     GATEWAY='{"databaseUrl":…,"providerUrl":…,"kill":{"point":"reserve_after","nth":3}}'
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openPostgresDatabase } from "../../orchestrator/db/postgres.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { createPostgresCalls } from "../../proxy/gateway/calls-postgres.ts";
import { createGateway } from "../../proxy/gateway/server.ts";
import { createUndiciUpstream } from "../../proxy/gateway/undici.ts";
import type { Provider } from "../../proxy/gateway/upstream.ts";
import { PROVIDER } from "./payer.ts";
import { type GatewaySetup, TIMES } from "./points.ts";
import { withTrigger } from "./trigger.ts";

const setup = JSON.parse(process.env["GATEWAY"] ?? "") as GatewaySetup;
const clock = systemClock;
const log = createLog("silent");
const ids = createIds(clock, systemRandom);
const database = await connect();
const ledger = createLedger(database, clock);
const provider: Provider = {
  name: PROVIDER,
  baseUrl: setup.providerUrl,
  apiKey: "chaos",
  authStyle: "bearer",
  isHosted: false,
  hasContinuousUsage: setup.isSliced,
  hasTokenCount: false,
};
const parts = {
  ledger,
  calls: createPostgresCalls(database, ledger),
  upstream: createUndiciUpstream({
    connectTimeoutMs: 2_000,
    headTimeoutMs: TIMES.callMs,
    chunkTimeoutMs: TIMES.callMs,
  }),
};
const gateway = createGateway(
  {
    keys: createKeys(database, clock, ids, systemRandom),
    random: systemRandom,
    ...withTrigger(parts, setup.kill),
    providers: (name) => (name === PROVIDER ? provider : null),
    dayAccount: async () => null,
    ids,
    clock,
    log,
  },
  {
    callTimeoutMs: TIMES.callMs,
    settleGraceMs: TIMES.graceMs,
    callsPerKeyMax: 1_000,
    sliceTokens: 16,
  },
);
const { url } = await gateway.listen();
const reaper = setInterval(() => void ledger.expire(100).catch(() => 0), TIMES.reapMs);
process.once("SIGTERM", async () => {
  clearInterval(reaper);
  await gateway.close(TIMES.callMs);
  await database[Symbol.asyncDispose]();
});
process.stdout.write(`${url}\n`);

/** The database may be dead at the moment, too. */
async function connect() {
  for (;;) {
    try {
      const { databaseUrl, connectionsMax } = setup;
      return await openPostgresDatabase({ url: databaseUrl, log, connectionsMax });
    } catch {
      await sleep(100);
    }
  }
}
