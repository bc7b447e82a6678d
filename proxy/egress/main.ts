/**
 * The egress proxy as a process of its own: `npm run egress`. It decides by the database that
 * `DATABASE_URL` names, opens the same secrets as the orchestrator, and an orchestrator sends its
 * workers to it when it is told its address (`AUTOCODE_EGRESS_URL`).
 *
 * On SIGTERM or SIGINT it closes its connections, writes its records down and exits.
 */
import { answerArguments } from "../../orchestrator/cli/no-arguments.ts";
import { print, printError } from "../../orchestrator/cli/print.ts";
import { composeEgress } from "../../orchestrator/compose-egress.ts";
import { type Config, ConfigError, readConfig } from "../../orchestrator/config.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { aborted, stopSignal } from "../../orchestrator/runtime/stop-signal.ts";

const EXIT_USAGE = 2;
const EXIT_UNAVAILABLE = 5;

const PROGRAM = {
  name: "npm run egress",
  summary: "Starts an egress proxy by itself",
  variables: {
    DATABASE_URL: "the orchestrator's PostgreSQL; it is needed",
    AUTOCODE_EGRESS_PORT: "where it listens (any free port, the last one again)",
    AUTOCODE_EGRESS: "embedded or mitmproxy",
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
    await using opened = await composeEgress(config, log);
    await opened.start();
    const fault = await opened.fault();
    const at = opened.door()?.url ?? "nowhere yet";
    print(
      `autocode egress (${config.egress.engine}) at ${at}${fault === null ? "" : `: ${fault}`}`,
    );
    await aborted(stopping);
    print("autocode egress: stopping: what was recorded goes to the store …");
  } catch (error) {
    log.error({ err: error }, "egress failed");
    printError(explain(error));
    return EXIT_UNAVAILABLE;
  }
  print("autocode egress: stopped");
  return 0;
}

function withDatabase(config: Config): Config & { databaseUrl: string } {
  const { databaseUrl } = config;
  if (databaseUrl !== null) return { ...config, databaseUrl };
  throw new ConfigError(
    "DATABASE_URL: an egress proxy of its own process needs the installation's database; set it " +
      "to that of the orchestrator, or let the orchestrator run its own proxy (npm start)",
  );
}

/** One line for a person. */
function explain(error: unknown): string {
  const { code, port } = error as { code?: string; port?: number };
  if (code === "EADDRINUSE") return `port ${port} is in use; set AUTOCODE_EGRESS_PORT`;
  return error instanceof Error ? error.message : String(error);
}
