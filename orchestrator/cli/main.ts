/** The `autocode` command: finds the command, reads its arguments, runs it, ends as it did. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openClient } from "./client.ts";
import { type Command, commandHelp, overview, readArguments } from "./command.ts";
import { agentTest } from "./commands/agent-test.ts";
import { agentInstall, agentLs } from "./commands/agents.ts";
import { approvalApprove, approvalLs, approvalReject, approvalShow } from "./commands/approvals.ts";
import { projectDownload, trialArtefacts, trialDownload } from "./commands/artefacts.ts";
import { backup, restore } from "./commands/backup.ts";
import {
  budgetAdherence,
  budgetCosts,
  budgetEvents,
  budgetIncome,
  budgetPl,
} from "./commands/budget-reports.ts";
import { budgetSet } from "./commands/budget-set.ts";
import { budgetExport, budgetShow, budgetStatement, budgetTopup } from "./commands/budgets.ts";
import { egressPolicy, egressTest } from "./commands/egress.ts";
import {
  experimentLs,
  experimentReport,
  experimentRun,
  experimentShow,
} from "./commands/experiments.ts";
import { ledgerExport, ledgerKey, ledgerVerify } from "./commands/ledger.ts";
import { modelPlan } from "./commands/model-plan.ts";
import { modelPull } from "./commands/model-pull.ts";
import { modelRender } from "./commands/model-render.ts";
import { modelRm } from "./commands/model-rm.ts";
import { modelDown, modelLogs, modelUp } from "./commands/model-up.ts";
import { modelLs, modelPrice } from "./commands/models.ts";
import { orchestratorLs } from "./commands/orchestrators.ts";
import { projectApply, projectInit, projectLs, projectShow } from "./commands/projects.ts";
import {
  secretGet,
  secretLs,
  secretPut,
  secretReseal,
  secretRm,
  secretRotateKey,
  secretStatus,
  secretToken,
} from "./commands/secrets.ts";
import { completionScript, doctor, login, up } from "./commands/system.ts";
import { taskImport, taskInit, taskLs } from "./commands/tasks.ts";
import { tokenCreate, tokenLs, tokenRevoke } from "./commands/tokens.ts";
import { trafficReconcile, trafficUnmatched } from "./commands/traffic-accounting.ts";
import { trafficDoctor } from "./commands/traffic-doctor.ts";
import { trafficSearch, trafficTail, trafficTotals } from "./commands/traffic-search.ts";
import { trafficExport, trafficShow } from "./commands/traffic-show.ts";
import { trialCheckpoints, trialFork } from "./commands/trial-checkpoints.ts";
import { trialReplay } from "./commands/trial-replay.ts";
import { trialReprice } from "./commands/trial-reprice.ts";
import { trialRun } from "./commands/trial-run.ts";
import {
  trialAttach,
  trialDiff,
  trialLogs,
  trialLs,
  trialResume,
  trialShow,
  trialStop,
  trialTrajectory,
} from "./commands/trials.ts";
import {
  workerDrain,
  workerLs,
  workerRemove,
  workerShow,
  workerToken,
  workerTokenLs,
  workerTokenRevoke,
} from "./commands/workers.ts";
import { readCliConfig } from "./config.ts";
import { EXIT, type Exit, Failure, usage } from "./failure.ts";
import { createPrinter, printError } from "./print.ts";

const completion: Command = {
  name: "completion",
  summary: "Print a shell's completion script: bash, zsh or fish",
  positionals: [{ name: "shell", isRequired: true }],
  async run({ positionals: [shell = ""], print }) {
    print.raw(completionScript(shell, COMMANDS));
    return EXIT.done;
  },
};

const USUAL: readonly Command[] = [
  up,
  login,
  tokenCreate,
  tokenLs,
  tokenRevoke,
  doctor,
  trialRun,
  trialLs,
  trialShow,
  trialLogs,
  trialAttach,
  trialStop,
  trialResume,
  trialDiff,
  trialTrajectory,
  trialReprice,
  trialCheckpoints,
  trialFork,
  trialReplay,
  trialArtefacts,
  trialDownload,
  experimentRun,
  experimentLs,
  experimentShow,
  experimentReport,
  projectInit,
  projectApply,
  projectLs,
  projectShow,
  projectDownload,
  taskInit,
  taskImport,
  taskLs,
  budgetShow,
  budgetSet,
  budgetTopup,
  budgetIncome,
  budgetStatement,
  budgetEvents,
  budgetPl,
  budgetCosts,
  budgetAdherence,
  budgetExport,
  ledgerExport,
  ledgerVerify,
  ledgerKey,
  egressTest,
  egressPolicy,
  approvalLs,
  approvalShow,
  approvalApprove,
  approvalReject,
  agentLs,
  agentInstall,
  agentTest,
  modelLs,
  modelPlan,
  modelPrice,
  modelPull,
  modelRm,
  modelUp,
  modelDown,
  modelLogs,
  modelRender,
  workerLs,
  workerShow,
  workerDrain,
  workerRemove,
  workerToken,
  workerTokenLs,
  workerTokenRevoke,
  orchestratorLs,
  trafficTail,
  trafficSearch,
  trafficShow,
  trafficTotals,
  trafficExport,
  trafficUnmatched,
  trafficReconcile,
  trafficDoctor,
  backup,
  restore,
  secretStatus,
  secretLs,
  secretGet,
  secretPut,
  secretRm,
  secretRotateKey,
  secretReseal,
  secretToken,
];

/** A template engine and a Vault's client: a tenth of a second that no other command waits for. */
async function loadHeavy(): Promise<Command[]> {
  const [{ vaultInit }, { vmBuild, vmLs, vmRender, vmValidate }, snapshots] = await Promise.all([
    import("./commands/vault.ts"),
    import("./commands/vm.ts"),
    import("./commands/vm-snapshots.ts"),
  ]);
  const { vmFollow, vmRestore, vmSnapshot, vmSnapshotLs, vmSnapshotRm } = snapshots;
  const ofVm = [vmLs, vmRender, vmValidate, vmBuild];
  return [vaultInit, ...ofVm, vmSnapshot, vmSnapshotLs, vmSnapshotRm, vmRestore, vmFollow];
}

const isUsual = USUAL.some(({ name }) => name.split(" ")[0] === process.argv[2]);
const COMMANDS = [...USUAL, ...(isUsual ? [] : await loadHeavy()), completion];

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<Exit> {
  const config = readCliConfig();
  const print = createPrinter(config);
  try {
    const found = findCommand(args);
    if (found === null) return await general(args, config.rootDir, print.raw);
    const { command, rest } = found;
    if (asksForHelp(rest)) {
      print.raw(`${commandHelp(command)}\n`);
      return EXIT.done;
    }
    const connect = () => openClient(config);
    return await command.run({ ...readArguments(command, rest), config, print, connect });
  } catch (error) {
    print.clearProgress();
    if (error instanceof Failure) {
      printError(`autocode: ${error.message}`);
      return error.exit;
    }
    // A reader that has seen enough (`| head`) is no fault.
    if ((error as NodeJS.ErrnoException).code === "EPIPE") return EXIT.done;
    printError(error instanceof Error ? (error.stack ?? error.message) : String(error));
    return EXIT.failed;
  }
}

/** The command that the first words name; options before it are not ours to guess at. */
function findCommand(args: readonly string[]): { command: Command; rest: string[] } | null {
  for (const words of [3, 2, 1]) {
    const name = args.slice(0, words).join(" ");
    const command = COMMANDS.find((each) => each.name === name);
    if (command !== undefined) return { command, rest: args.slice(words) };
  }
  return null;
}

/** What is no command: help, the version, a noun alone, or a mistake. */
async function general(
  args: readonly string[],
  rootDir: string,
  write: (text: string) => void,
): Promise<Exit> {
  const version = await readVersion(rootDir);
  const [noun] = args;
  if (noun === "--version" || noun === "-V") {
    write(`${version}\n`);
    return EXIT.done;
  }
  const ofNoun = COMMANDS.filter(({ name }) => name.startsWith(`${noun} `));
  if (noun === undefined || noun === "help" || noun === "--help" || noun === "-h") {
    write(`${overview(COMMANDS, version)}\n`);
    return noun === undefined ? EXIT.usage : EXIT.done;
  }
  if (ofNoun.length > 0 && asksForHelp(args)) {
    write(`${ofNoun.map(({ name, summary }) => `autocode ${name}: ${summary}`).join("\n")}\n`);
    return EXIT.done;
  }
  if (ofNoun.length > 0) {
    const verbs = ofNoun.map(({ name }) => name.slice(noun.length + 1)).join(", ");
    throw usage(`autocode ${noun} needs one of: ${verbs}`);
  }
  throw usage(`there is no command "${noun}". See \`autocode --help\``);
}

function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const options = end === -1 ? args : args.slice(0, end);
  return options.includes("--help") || options.includes("-h");
}

async function readVersion(rootDir: string): Promise<string> {
  const text = await readFile(join(rootDir, "package.json"), "utf8");
  return String((JSON.parse(text) as { version: unknown }).version);
}
