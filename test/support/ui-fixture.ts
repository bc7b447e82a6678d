/**
 * A server for looking at the UI and testing it: the real API and its real streams over ports
 * that hold a fixture in memory.
 */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import { CONTENT_SECURITY_POLICY, VENDOR_FILES } from "../../dashboards/web/vendor.ts";
import { createApi } from "../../orchestrator/api/server.ts";
import type { Services } from "../../orchestrator/api/services.ts";
import type { TopUp } from "../../orchestrator/contract/budgets.ts";
import type { TrialEvent } from "../../orchestrator/contract/events.ts";
import type { Project } from "../../orchestrator/contract/projects.ts";
import type { Experiment, NewFork, Trial } from "../../orchestrator/contract/trials.ts";
import { Problem } from "../../orchestrator/problem.ts";
import { rfc3339, systemClock } from "../../orchestrator/runtime/clock.ts";
import { createIds, type TrialId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import type { SecretsStatus } from "../../orchestrator/secrets/secrets.ts";
import { createNoHosts } from "../../orchestrator/workers/no-hosts.ts";
import { createEgressPolicies } from "../../proxy/egress/dry-run.ts";
import { fakeAccounting } from "./accounting.ts";
import { fixtureApprovals } from "./ui-fixture-approvals.ts";
import { fixtureTree, forkOf } from "./ui-fixture-checkpoints.ts";
import {
  balance,
  calls,
  experimentTrials,
  findings,
  MARKUP,
  PATCH,
  project,
  RECORDING,
  story,
  trial,
} from "./ui-fixture-data.ts";
import { fixtureEngines } from "./ui-fixture-engines.ts";
import { type FixtureFlows, openFixtureFlows } from "./ui-fixture-flows.ts";
import { type FixtureModels, openFixtureModels } from "./ui-fixture-models.ts";
import {
  adherenceReport,
  budgetEvents,
  budgetReport,
  costReport,
  LEDGER_STATUS,
  ledgerReport,
  profitReport,
  repricing,
  statementLines,
} from "./ui-fixture-money.ts";
import { fixtureWorkers } from "./ui-fixture-workers.ts";

const ROOT = resolve(import.meta.dirname, "../..");
export const SESSION = "fixture-session";

export interface UiFixture extends AsyncDisposable {
  url: string;
  /** Logs a browser in. */
  loginUrl: string;
  /** Newest first. */
  trials: Trial[];
  experiments: Experiment[];
  projects: Project[];
  /** By what they show. */
  ids: { passed: TrialId; running: TrialId; paused: TrialId; hostile: TrialId };
  topUps: { name: string; topUp: TopUp; key: string }[];
  stopped: TrialId[];
  forks: NewFork[];
  /** What was said to the approval. */
  answers: object[];
  journal: { isIntact: boolean };
  secrets: SecretsStatus;
  /** Its flows; what is appended is told to live views. */
  flows: FixtureFlows;
  /** What was brought up and down, and what is asked of the planner. */
  models: FixtureModels;
  /** Changes a trial (or adds one) and tells the streams of it. */
  change(id: TrialId, changes: Partial<Trial>, event: Pick<TrialEvent, "type" | "data">): void;
  record(line: string): Promise<void>;
}

export async function startUiFixture(): Promise<UiFixture> {
  const dir = await mkdtemp(join(tmpdir(), "autocode-ui-"));
  const state = await fixtureState(dir);
  const api = createApi(services(state), {
    version: "0.0.0",
    pollMs: 50,
    web: {
      dir: join(ROOT, "dashboards/web"),
      packagesDir: join(ROOT, "node_modules"),
      vendorFiles: VENDOR_FILES,
      contentSecurityPolicy: CONTENT_SECURITY_POLICY,
    },
  });
  await api.listen({ host: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${(api.server.address() as AddressInfo).port}`;
  return {
    url,
    loginUrl: `${url}/login?secret=fixture`,
    ...state,
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

type State = Awaited<ReturnType<typeof fixtureState>>;

async function fixtureState(dir: string) {
  const idsOf = createIds(systemClock, seededRandom(3));
  const nowMs = systemClock.now();
  const experimentId = idsOf.next("experiment");
  const ids = {
    passed: idsOf.next("trial"),
    running: idsOf.next("trial"),
    paused: idsOf.next("trial"),
    hostile: idsOf.next("trial"),
  };
  const approvalIds = { budget: idsOf.next("approval"), rule: idsOf.next("approval") };
  const replay = trial(idsOf.next("trial"), nowMs - 30_000_000, {
    ...{ replay_of: ids.passed, pair: "qwen3-coder-next", duration_ms: 31_000 },
  });
  const older = trial(idsOf.next("trial"), nowMs - 90_000_000, {
    task: "add-retry-header",
    project: "shop-api",
    agent: "aider",
    state: "errored",
    verdict: "error",
    reason: "The hidden tests did not end within 10 m",
    duration_ms: 912_000,
    flags: ["tests_modified"],
  });
  const trials = [
    trial(ids.running, nowMs - 18_000, {
      state: "running",
      verdict: null,
      task: "sort-stable",
      duration_ms: null,
      budget: balance(500_000_000n, 120_400_000n, 60_000_000n),
    }),
    trial(ids.passed, nowMs - 600_000, {}),
    trial(ids.paused, nowMs - 900_000, {
      state: "paused",
      verdict: null,
      task: "stream-csv-export",
      agent: "claude-code",
      reason: "The allowance cannot cover the next call: 0.031 CAD needed, 0.012 CAD left",
      budget: balance(100_000_000n, 88_000_000n),
      ended_at: null,
      approval_id: approvalIds.budget,
    }),
    trial(ids.hostile, nowMs - 1_200_000, {
      task: `x${MARKUP}`,
      agent: MARKUP,
      pair: `a-very-long-pair-name-without-any-space-${"x".repeat(60)}`,
      state: "failed",
      verdict: "failed",
      reason: MARKUP,
      flags: ["tests_modified", MARKUP],
    }),
    replay,
    older,
  ];
  const experiment: Experiment = {
    id: experimentId,
    project: "tidy-cli",
    name: "first-look",
    seed: 7,
    assignment: "all",
    trial_count: 6,
    ended_count: 4,
    spent_nanos: "261003600",
    currency: "CAD",
    created_at: rfc3339(nowMs - 300_000),
    trials: experimentTrials(idsOf, experimentId, nowMs - 290_000),
  };
  trials.push(...experiment.trials);
  const events = story(ids.passed, nowMs - 600_000);
  for (const [index, text] of [MARKUP, `${MARKUP}\u001b[31mred\u001b[0m`].entries()) {
    events.push({
      seq: 100 + index,
      trial_id: ids.hostile,
      type: "agent.message",
      at: rfc3339(nowMs - 1_199_000),
      data: { text },
    });
    events.push({
      seq: 200 + index,
      trial_id: ids.hostile,
      type: "agent.tool_call",
      at: rfc3339(nowMs - 1_198_000),
      data: {
        name: text,
        arguments: {
          constructor: null,
          type: "script",
          props: { dangerouslySetInnerHTML: { __html: text } },
        },
      },
    });
  }
  const recordingPath = join(dir, "terminal.cast");
  await writeFile(recordingPath, `${RECORDING.join("\n")}\n`);
  await writeFile(join(dir, "changes.patch"), PATCH);
  await writeFile(join(dir, "agent.log"), "log\n".repeat(4_000));
  const livePath = join(dir, "live.cast");
  await writeFile(livePath, `${RECORDING.slice(0, 3).join("\n")}\n`);

  const listeners = new Set<(id: TrialId) => void>();
  const ofPassed = calls(createIds(systemClock, seededRandom(4)), ids.passed, nowMs - 590_000);
  const at = { nowMs, calls: ofPassed, approvalId: approvalIds.rule };
  const flows = await openFixtureFlows(idsOf, ids, at);
  return {
    flows,
    models: await openFixtureModels(nowMs),
    ofPassed,
    dir,
    idsOf,
    trials,
    events,
    listeners,
    recordingPath,
    livePath,
    ids,
    experiments: [experiment],
    projects: [
      project(
        "tidy-cli",
        [trials, nowMs],
        balance(25_000_000_000n, 3_218_400_300n, 560_000_000n),
        balance(5_000_000_000n, 4_261_003_600n, 60_000_000n),
      ),
      project("shop-api", [trials, nowMs], balance(8_000_000_000n, 912_000n), null),
    ],
    topUps: [] as UiFixture["topUps"],
    stopped: [] as TrialId[],
    forks: [] as NewFork[],
    approvalIds,
    answers: [] as object[],
    lines: statementLines(nowMs, ids.passed),
    /** Whether the journal agrees with the ledger. */
    journal: { isIntact: true },
    secrets: { state: "ready", detail: "Vault" } as SecretsStatus,
    change(id: TrialId, changes: Partial<Trial>, event: Pick<TrialEvent, "type" | "data">): void {
      const known = trials.find((each) => each.id === id);
      const shown = known ?? trial(id, systemClock.now(), {});
      Object.assign(shown, changes);
      if (known === undefined) trials.unshift(shown);
      events.push({
        ...event,
        seq: 1_000 + events.length,
        trial_id: id,
        at: rfc3339(systemClock.now()),
      });
      for (const listener of listeners) listener(id);
    },
    async record(line: string): Promise<void> {
      await writeFile(livePath, `${line}\n`, { flag: "a" });
      for (const listener of listeners) listener(ids.running);
    },
  };
}

function services(state: State): Services {
  const refuse = async (): Promise<never> => {
    throw new Problem("conflict", "The fixture cannot do this");
  };
  return {
    clock: systemClock,
    log: createLog("silent"),
    access: {
      authenticate: async (token) => (token === SESSION ? { role: "admin", name: null } : null),
      issueCliToken: async () => SESSION,
      issueLoginLink: async () => "fixture",
      redeemLoginLink: async (secret) =>
        secret === "fixture"
          ? { sessionToken: SESSION, expiresAtMs: systemClock.now() + 3_600_000 }
          : null,
      endSession: async () => {},
      createToken: refuse,
      renewToken: refuse,
      listTokens: async () => [],
      revokeToken: refuse,
    },
    agents: { list: async () => [], install: refuse },
    budgets: budgets(state),
    egress: createEgressPolicies({ find: async () => ({ config: {} }) }),
    idempotency: { once: (_request, effect) => effect() },
    journal: {
      status: async () => LEDGER_STATUS,
      open: refuse,
      verify: async () => ledgerReport(state.journal.isIntact),
    },
    secrets: {
      secrets: {
        name: "vault",
        can: { canWrite: true, canRotateKey: true, canIssueScoped: true },
        status: async () => state.secrets,
        publicKey: async () => LEDGER_STATUS.key.key_id,
        publicKeys: async () => [LEDGER_STATUS.key.key_id],
        ...{ get: refuse, put: refuse, list: refuse, remove: refuse, sign: refuse },
        ...{ verify: refuse, rotateKey: refuse, issueScoped: refuse },
      },
      watch: { last: async () => state.secrets },
      reseal: null,
      changed: refuse,
    },
    projects: {
      apply: refuse,
      list: async () => state.projects,
      get: async (name) => found(state.projects.find((each) => each.name === name)),
      tasks: async () => [],
      importTask: refuse,
    },
    ...fakeAccounting(),
    workerLogs: { read: async () => Readable.from(['{"msg":"enrolled"}\n']) },
    replays: { replay: refuse, cassette: refuse, script: refuse },
    checkpoints: {
      ...{ missing: refuse, store: refuse, commit: refuse, restore: refuse },
      tree: async (id) => fixtureTree(found(state.trials.find((each) => each.id === id))),
    },
    trials: trials(state),
    ...state.flows.services,
    approvals: fixtureApprovals(state),
    workerSessions: {
      ...{ enrol: refuse, authenticate: refuse, sourcePath: refuse, testsPath: refuse },
      ...{ patchPath: refuse, appendEvents: refuse, heartbeat: refuse },
      appendArtefact: refuse,
      report: refuse,
    },
    pairs: async () => state.models.pairs(),
    models: state.models.services,
    pricing: {
      list: async () => state.models.prices(),
      explain: async (model) => state.models.explain(model),
      reprice: async (id, { pair }) => repricing(id, pair),
    },
    doctor: async () => findings(),
    readiness: async () => ({}),
    ...{ orchestrators: { list: async () => [], urls: () => [] }, backups: { open: refuse } },
    weights: {
      list: async () => ({ dir: "model-weights", free_bytes: 2_000_000_000_000, weights: [] }),
      prepare: refuse,
      remove: refuse,
    },
    workers: fixtureWorkers(systemClock.now()),
    hosts: createNoHosts("fleet"),
    metrics: async () => "",
  };
}

function budgets(state: State): Services["budgets"] {
  const projectOf = (name: string) => found(state.projects.find((each) => each.name === name));
  const get = async (name: string) => ({
    owner: `project/${name}`,
    balance: projectOf(name).balance,
  });
  return {
    list: async () => Promise.all(state.projects.map(({ name }) => get(name))),
    get: async (name) => {
      const nowMs = systemClock.now();
      const { project, budget } = state.trials.find((each) => each.id === name) ?? {};
      if (project === undefined || budget == null)
        return budgetReport(projectOf(name), nowMs, null);
      return budgetReport(projectOf(project), nowMs, { id: name, balance: budget });
    },
    recordIncome: async (name, { currency, amount_nanos }) => ({
      owner: name,
      currency,
      income_nanos: amount_nanos,
    }),
    events: async (_name, { limit }) => ({
      events: budgetEvents(projectOf("tidy-cli"), systemClock.now()).slice(0, limit),
      next_cursor: null,
    }),
    profit: async (name) => profitReport(projectOf(name).name),
    costs: async (name, by) => costReport(projectOf(name).name, by),
    adherence: async (name) => adherenceReport(projectOf(name), state.ids.passed),
    statement: async (name, { limit, before }) => {
      const isTrial = state.trials.some((each) => each.id === name);
      const { owner, balance: total } = await get(isTrial ? "tidy-cli" : name);
      const from =
        before === undefined ? 0 : state.lines.findIndex((line) => line.transfer_id === before) + 1;
      const lines = state.lines.slice(from, from + limit);
      const isMore = from + limit < state.lines.length;
      return {
        owner,
        balance: total,
        lines,
        next_cursor: isMore ? (lines.at(-1)?.transfer_id ?? null) : null,
      };
    },
    topUp: async (name, topUp, key) => {
      state.topUps.push({ name, topUp, key });
      const added = BigInt(topUp.amount_nanos);
      const owner = state.projects.find((each) => each.name === name);
      const ofTrial = state.trials.find((each) => each.id === name)?.budget;
      const total = found(owner?.balance ?? ofTrial);
      total.funded_nanos = String(BigInt(total.funded_nanos) + added);
      total.available_nanos = String(BigInt(total.available_nanos) + added);
      return { owner: name, balance: total };
    },
    exportSpend: async () => "BilledCost\n0.001\n",
  };
}

function trials(state: State): Services["trials"] {
  const get = async (id: TrialId) => found(state.trials.find((each) => each.id === id));
  const artefacts = async (id: TrialId) => {
    await get(id);
    const isRunning = id === state.ids.running;
    return (isRunning ? ["terminal.cast"] : ["changes.patch", "terminal.cast", "agent.log"]).map(
      (name) => ({
        name,
        allocation_id: "allocation_1",
        byte_count: name === "agent.log" ? 16_000 : 1_240,
        updated_at: rfc3339(systemClock.now()),
      }),
    );
  };
  const refuse = async (): Promise<never> => {
    throw new Problem("conflict", "The fixture cannot do this");
  };
  return {
    create: refuse,
    createExperiment: refuse,
    list: async ({ project: name, state: wanted, limit, before }) => {
      const fitting = state.trials.filter(
        (each) =>
          (name === undefined || each.project === name) &&
          (wanted === undefined || each.state === wanted),
      );
      const from = before === undefined ? 0 : fitting.findIndex((each) => each.id === before) + 1;
      return fitting.slice(from, from + limit);
    },
    get,
    experiments: async (name) =>
      state.experiments.filter((each) => name === undefined || each.project === name),
    experiment: async (id) => found(state.experiments.find((each) => each.id === id)),
    cancel: async (id) => {
      state.stopped.push(id);
      state.change(
        id,
        { state: "cancelled", ended_at: rfc3339(systemClock.now()) },
        { type: "trial.state", data: { from: "running", to: "cancelled" } },
      );
      return get(id);
    },
    replayCassette: refuse,
    fork: async (id, wanted) => {
      state.forks.push(wanted);
      const made = forkOf(await get(id), state.idsOf.next("trial"), wanted);
      state.trials.unshift(made);
      return made;
    },
    resume: async (id) => {
      throw new Problem("budget_exceeded", `Top up ${id} first: 0.012 CAD is left`);
    },
    calls: async (id) => (id === state.ids.passed ? state.ofPassed : []),
    engines: async (id) => (id === state.ids.passed ? fixtureEngines(state.ofPassed) : []),
    events: async (id, afterSeq, limit) =>
      state.events
        .filter((each) => each.seq > afterSeq && (id === null || each.trial_id === id))
        .slice(0, limit),
    latestSeq: async () => Math.max(...state.events.map(({ seq }) => seq)),
    onEvent: (listener) => {
      state.listeners.add(listener);
      return { [Symbol.dispose]: () => state.listeners.delete(listener) };
    },
    artefacts,
    artefactPath: async (id, name) => {
      found((await artefacts(id)).find((each) => each.name === name));
      return id === state.ids.running ? state.livePath : join(state.dir, name);
    },
    trajectory: async () => ({ schema_version: "ATIF-v1.7" }),
  };
}

function found<Thing>(thing: Thing | undefined | null): Thing {
  if (thing === undefined || thing === null) throw new Problem("not_found", "The fixture has none");
  return thing;
}
