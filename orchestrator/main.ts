/**
 * `autocode up`: configuration, composition, listening, the example on the first start, and an
 * orderly end on SIGINT or SIGTERM that leaves no process behind.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { refuseNoAddress } from "./addresses.ts";
import { runFirstExample } from "./cli/first-run.ts";
import { answerArguments } from "./cli/no-arguments.ts";
import { print, printError } from "./cli/print.ts";
import { compose, type Installation } from "./compose.ts";
import { type Config, ConfigError, readConfig } from "./config.ts";
import { Problem } from "./problem.ts";
import { createLog, type Log } from "./runtime/log.ts";
import { aborted, stopSignal } from "./runtime/stop-signal.ts";

const EXIT_USAGE = 2;
const EXIT_UNAVAILABLE = 5;
const LOGIN_LINK_MS = 15 * 60_000;

const PROGRAM = {
  name: "npm start",
  summary: "Starts everything, in the foreground; Ctrl-C stops it",
  variables: {
    AUTOCODE_HOME: "the data folder: all state is in it",
    AUTOCODE_PORT: "API and web UI (7700; 0: any free port)",
    AUTOCODE_EXAMPLE: "off: no example project and no experiment on the first start",
    DATABASE_URL: "your PostgreSQL instead of our own",
    AUTOCODE_SCHEDULER: "where trials run: local, fleet or nomad",
  },
};

const stopping = stopSignal();
process.exitCode = await main();

async function main(): Promise<number> {
  // `autocode up` has read its own.
  const answered = import.meta.main ? answerArguments(process.argv.slice(2), PROGRAM) : null;
  if (answered !== null) return answered;
  let config: Config;
  try {
    config = readConfig();
    refuseNoAddress(config);
    await mkdir(config.home, { recursive: true });
  } catch (error) {
    printError(explain(error));
    return error instanceof ConfigError ? EXIT_USAGE : EXIT_UNAVAILABLE;
  }
  const log = createLog(config.logLevel, join(config.home, "shared/logs/orchestrator.log"));
  try {
    print(`autocode: opening ${config.home} …`);
    await using installation = await compose(config, log);
    const addresses = await installation.start();
    await up(config, installation, addresses, log);
    print("autocode: stopping: every worker and the database are being ended …");
  } catch (error) {
    log.error({ err: error }, "start failed");
    printError(explain(error));
    return EXIT_UNAVAILABLE;
  }
  print("autocode: stopped");
  return 0;
}

async function up(
  config: Config,
  { services, publish }: Installation,
  addresses: Parameters<Installation["publish"]>[0],
  log: Log,
): Promise<void> {
  const { url, gatewayUrl, egressUrl } = addresses;
  const token = await publish(addresses);
  log.info({ url, gateway_url: gatewayUrl, egress_url: egressUrl }, "listening");
  print(`autocode: API and UI at ${url}, gateway at ${gatewayUrl}`);

  if (config.isFirstRunExample && !(await hasExample(services))) {
    await runFirstExample({ url, token, signal: stopping });
  }
  if (stopping.aborted) return;
  const secret = await services.access.issueLoginLink(LOGIN_LINK_MS);
  print("");
  print(`Open ${url}/login?secret=${secret}`);
  print("(works once, for 15 minutes; another one: npx autocode login) · Ctrl-C stops everything");
  await aborted(stopping);
}

async function hasExample({ projects }: Installation["services"]): Promise<boolean> {
  return (await projects.list()).some(({ name }) => name === "example");
}

/** One line for a person: what was wrong, and what to do where that is known. */
function explain(error: unknown): string {
  const { code, path, port } = error as { code?: string; path?: string; port?: number };
  if (code === "EADDRINUSE") {
    return `AUTOCODE_PORT: port ${port} is in use; end what listens there or set AUTOCODE_PORT=0`;
  }
  if (code === "EACCES" || code === "EROFS" || code === "EPERM") {
    return `AUTOCODE_HOME: ${path ?? "the data folder"} cannot be written; set AUTOCODE_HOME`;
  }
  if (code === "EEXIST" || code === "ENOTDIR") {
    return `AUTOCODE_HOME: ${path ?? "the data folder"} is no folder; set AUTOCODE_HOME to one`;
  }
  if (error instanceof Problem) return error.message;
  return error instanceof Error ? error.message : String(error);
}
