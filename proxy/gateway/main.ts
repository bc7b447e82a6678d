/**
 * The gateway as a process of its own: `npm run gateway`. Any number of them serve one ledger, the
 * database that `DATABASE_URL` names; an orchestrator sends its workers to them when it is told
 * their address (`AUTOCODE_GATEWAY_URL`).
 *
 * On SIGTERM or SIGINT it takes no new call, lets the running ones end for a grace, settles, exits.
 */
import { answerArguments } from "../../orchestrator/cli/no-arguments.ts";
import { print, printError } from "../../orchestrator/cli/print.ts";
import { composeGateway } from "../../orchestrator/compose-gateway.ts";
import { type Config, ConfigError, readConfig } from "../../orchestrator/config.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { aborted, stopSignal } from "../../orchestrator/runtime/stop-signal.ts";
import { openAdminServer } from "./admin-server.ts";

const EXIT_USAGE = 2;
const EXIT_UNAVAILABLE = 5;

const PROGRAM = {
  name: "npm run gateway",
  summary: "Starts a gateway by itself, which any number of others may stand beside",
  variables: {
    DATABASE_URL: "the orchestrator's PostgreSQL; it is needed",
    AUTOCODE_GATEWAY_PORT: "where it listens (0: any free port)",
    AUTOCODE_GATEWAY_METRICS_PORT: "metrics and readiness, on loopback",
    AUTOCODE_GATEWAY_GRACE_MS: "how long running calls may go on after SIGTERM",
  },
};

const stopping = stopSignal();
process.exitCode = await main();

async function main(): Promise<number> {
  const answered = answerArguments(process.argv.slice(2), PROGRAM);
  if (answered !== null) return answered;
  let config: Config & { databaseUrl: string };
  try {
    config = withDatabase(readConfig());
  } catch (error) {
    printError(explain(error));
    return error instanceof ConfigError ? EXIT_USAGE : EXIT_UNAVAILABLE;
  }
  const log = createLog(config.logLevel);
  try {
    await using opened = await composeGateway(config, log);
    const { gateway, isReady } = opened;
    await using admin = await openAdminServer(
      {
        metrics: gateway.metrics,
        isReady: async () => !stopping.aborted && (await isReady()),
      },
      config.gatewayMetricsPort,
    );
    const { url } = await opened.start();
    print(`autocode gateway at ${url}, metrics at http://127.0.0.1:${admin.port}/metrics`);
    await aborted(stopping);
    print(`autocode gateway: stopping: running calls have ${config.gatewayGraceMs} ms to end …`);
    await gateway.close(config.gatewayGraceMs);
  } catch (error) {
    log.error({ err: error }, "gateway failed");
    printError(explain(error));
    return EXIT_UNAVAILABLE;
  }
  print("autocode gateway: stopped");
  return 0;
}

function withDatabase(config: Config): Config & { databaseUrl: string } {
  const { databaseUrl } = config;
  if (databaseUrl !== null) return { ...config, databaseUrl };
  throw new ConfigError(
    "DATABASE_URL: a gateway of its own process needs the ledger's database; set it to that of " +
      "the orchestrator, or let the orchestrator run its own gateway (npm start)",
  );
}

/** One line for a person. */
function explain(error: unknown): string {
  const { code, port } = error as { code?: string; port?: number };
  if (code === "EADDRINUSE") {
    return `port ${port} is in use; set AUTOCODE_GATEWAY_PORT or AUTOCODE_GATEWAY_METRICS_PORT`;
  }
  return error instanceof Error ? error.message : String(error);
}
