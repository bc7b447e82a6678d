/**
 * Services for tests of the API's edge: access and idempotency are the real ones on a test
 * database; what lies behind the other ports is held in memory, each with one of everything.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Access } from "../../orchestrator/api/access.ts";
import { createAccess } from "../../orchestrator/api/access-postgres.ts";
import { createIdempotency } from "../../orchestrator/api/idempotency.ts";
import type { Services } from "../../orchestrator/api/services.ts";
import type { AgentStatus } from "../../orchestrator/contract/agents.ts";
import type { Approval } from "../../orchestrator/contract/approvals.ts";
import type {
  AdherenceReport,
  Budget,
  BudgetEvent,
  BudgetReport,
  CostReport,
  ProfitReport,
} from "../../orchestrator/contract/budgets.ts";
import type { Call } from "../../orchestrator/contract/calls.ts";
import type { TrialEvent } from "../../orchestrator/contract/events.ts";
import type { ModelPrice } from "../../orchestrator/contract/prices.ts";
import type { Project, Task } from "../../orchestrator/contract/projects.ts";
import type { Repricing } from "../../orchestrator/contract/repricing.ts";
import type { Experiment, NewTrial, Trial } from "../../orchestrator/contract/trials.ts";
import { Problem } from "../../orchestrator/problem.ts";
import { createIds, type Ids, type TrialId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { seededRandom } from "../../orchestrator/runtime/random.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";
import { openTestJournal } from "./journal.ts";

export const STARTED_AT_MS = Date.UTC(2026, 10, 21, 12);
const STARTED_AT = new Date(STARTED_AT_MS).toISOString();
export const ALLOCATION_TOKEN = "allocation_token_of_the_fake_worker";

export const APPROVAL: Approval = {
  id: "approval_01kah27zs8e4rsk0ncyqjpys5f",
  trial_id: "trial_01kah27zs8e4rsk0ncyqjpys5f",
  project: "demo",
  kind: "budget",
  state: "open",
  facts: {
    currency: "CAD",
    limit_nanos: "50000000",
    spent_nanos: "41000000",
    shortage: {
      level: "trial",
      account_id: "account_01kah27zs8e4rsk0ncyqjpys5f",
      unit: "CAD",
      required_nanos: "12000000",
      available_nanos: "9000000",
    },
    forecast: {
      low_nanos: "8000000",
      high_nanos: "31000000",
      confidence_percent: 50,
      basis: "own_calls",
      evidence_count: 7,
    },
    suggested_nanos: "30000000",
    checkpoint: {
      files_changed: 1,
      lines_added: 3,
      lines_removed: 2,
      completed_phases: ["plan"],
      has_session: true,
    },
  },
  content_sha256: "5f".repeat(32),
  reason: null,
  topped_up_nanos: null,
  created_at: "2026-11-21T00:00:00.000Z",
  resolved_at: null,
};
const BALANCE = {
  currency: "CAD",
  funded_nanos: "9007199254740993",
  reserved_nanos: "0",
  spent_nanos: "420000",
  available_nanos: "9007199254320993",
};

const MODEL_PRICE: ModelPrice = {
  model: "scripted-normal",
  currency: "CAD",
  version: "scripted-normal@2025-01-01",
  input_nanos_per_million: "200000000",
  cache_read_nanos_per_million: "20000000",
  cache_write_nanos_per_million: "250000000",
  long_cache_write_nanos_per_million: "400000000",
  output_nanos_per_million: "800000000",
  tiers: [],
  gpu: null,
};

const CHARGE = { model: "m", price_version: "m@2026-01-01", cost_nanos: "420000" };
const REPRICING: Omit<Repricing, "trial_id"> = {
  currency: "CAD",
  charged_nanos: "420000",
  repriced_nanos: "400000",
  difference_nanos: "-20000",
  estimated_count: 0,
  reservation_count: 0,
  calls: [
    {
      call_id: "call_01jd7sm1g0e0080000000000c1",
      side: "normal",
      started_at: STARTED_AT,
      input_tokens: 1500,
      output_tokens: 45,
      is_estimated: false,
      basis: "usage",
      charged: CHARGE,
      repriced: { ...CHARGE, cost_nanos: "400000" },
      difference_nanos: "-20000",
    },
  ],
};

export const PROJECT: Project = {
  id: "project_01jd7sm1g0e0080000000000p1",
  name: "demo",
  currency: "CAD",
  time_zone: "America/Toronto",
  per_trial_nanos: "500000000",
  daily_allowance_nanos: null,
  agents: ["aider", "qwen-code"],
  pairs: ["scripted"],
  tasks: ["fix-add"],
  balance: BALANCE,
  today: null,
  trial_counts: {},
  created_at: STARTED_AT,
};

const TASK: Task = {
  id: "task_01jd7sm1g0e0080000000000k1",
  project: "demo",
  name: "fix-add",
  instruction: "Make add() add.",
  base_commit: "a".repeat(40),
  has_hidden_tests: true,
  test: "tests/test.sh",
  source: "examples/tasks/fix-add",
  created_at: STARTED_AT,
};

export interface ApiFixture extends AsyncDisposable {
  services: Services;
  access: Access;
  database: TestDatabase;
  ids: Ids;
  clock: { ms: number; now(): number };
  trials: Map<TrialId, Trial>;
  /** The folder that artefacts are read from: `<folder>/<name>`. */
  folder: string;
  /** Appends an event and wakes the streams. */
  emit(id: TrialId, type: TrialEvent["type"], data: TrialEvent["data"]): void;
  /** Moves a trial to a state, with the event of it. */
  moveTo(id: TrialId, change: Partial<Trial>): void;
  /** How often each effect took place: "trial", "experiment", "topup". */
  effects: Record<string, number>;
  /** Called with each new trial; a test may drive it from there. */
  onCreate: (id: TrialId) => void;
  readiness: Record<string, string | null>;
  worker: { artefact: string; events: number[]; reports: unknown[] };
}

export async function openApiServices(): Promise<ApiFixture> {
  const database = await openTestDatabase();
  const folder = await mkdtemp(join(tmpdir(), "autocode-api-"));
  const clock = { ms: STARTED_AT_MS, now: () => clock.ms };
  const random = seededRandom(7);
  const ids = createIds(clock, random);
  const access = createAccess(database, clock, { ids, random });
  const events: TrialEvent[] = [];
  const listeners = new Set<(id: TrialId) => void>();
  const trials = new Map<TrialId, Trial>();

  const fixture: ApiFixture = {
    access,
    database,
    ids,
    clock,
    trials,
    folder,
    effects: {},
    onCreate: () => {},
    readiness: { database: null, scheduler: null },
    worker: { artefact: "", events: [], reports: [] },
    emit,
    moveTo,
    services: {
      clock,
      log: createLog("silent"),
      access,
      idempotency: createIdempotency(database, clock),
      journal: openJournals(database, clock),
      agents: fakeAgents(),
      approvals: {
        list: async ({ state }) =>
          [APPROVAL].filter((each) => state === undefined || each.state === state),
        get: async () => APPROVAL,
        approve: async (_id, { content_sha256, amount_nanos = "10000000" }) => {
          if (content_sha256 !== APPROVAL.content_sha256) {
            throw new Problem("conflict", "content_sha256: the approval asks for something else");
          }
          count("approve");
          return { ...APPROVAL, state: "granted", topped_up_nanos: amount_nanos };
        },
        reject: async (_id, { reason }) => {
          count("reject");
          return { ...APPROVAL, state: "rejected", reason };
        },
      },
      budgets: {
        list: async () => [budget("project/demo")],
        get: async (name, at) => budgetReport(name, known(name), at ?? STARTED_AT),
        recordIncome: async (name, { currency, amount_nanos }) => {
          count("income");
          return { owner: known(name), currency, income_nanos: amount_nanos };
        },
        events: async (name, { before }) => ({
          events: [budgetEvent(known(name))],
          next_cursor: before === undefined ? "1" : null,
        }),
        profit: async (name) => profitReport(known(name) && name),
        costs: async (name, by) => costReport(known(name) && name, by),
        adherence: async (name) => adherenceReport(known(name) && name),
        statement: async (name, { limit, before }) => ({
          owner: known(name),
          balance: BALANCE,
          lines: [],
          next_cursor: before === undefined ? `page-of-${limit}` : null,
        }),
        topUp: async (name) => {
          count("topup");
          return budget(known(name));
        },
        exportSpend: async (_project, { format }) =>
          format === "csv" ? "BilledCost\n0.00042\n" : "[]",
      },
      projects: {
        apply: async ({ file_name: file, file_text: text }) => {
          if (text.includes("bad")) throw new Problem("invalid_request", `${file}:1: bad key`);
          return PROJECT;
        },
        list: async () => [PROJECT],
        get: async (name) => {
          known(name);
          return PROJECT;
        },
        tasks: async () => [TASK],
        importTask: async (_name, source) => ({ ...TASK, source }),
      },
      trials: {
        create: async (trial) => create(trial, null),
        createExperiment: async (spec) => {
          count("experiment");
          const id = ids.next("experiment");
          const made = spec.agents.flatMap((agent) =>
            spec.pairs.flatMap((pair) =>
              spec.tasks.map((task) => create({ project: spec.project, agent, pair, task }, id)),
            ),
          );
          return experimentOf(id, spec.name, made);
        },
        list: async ({ limit, before, state }) =>
          [...trials.values()]
            .toSorted((a, b) => (a.id < b.id ? 1 : -1))
            .filter((trial) => before === undefined || trial.id < before)
            .filter((trial) => state === undefined || trial.state === state)
            .slice(0, limit),
        get: async (id) => find(id),
        experiments: async () => [],
        experiment: async (id) =>
          experimentOf(
            id,
            "matrix",
            [...trials.values()].filter((trial) => trial.experiment_id === id),
          ),
        cancel: async (id) => {
          find(id);
          moveTo(id, { state: "cancelled", ended_at: STARTED_AT });
          return find(id);
        },
        resume: async (id) => {
          if (find(id).state !== "paused") throw new Problem("conflict", "It is not paused");
          moveTo(id, { state: "queued" });
          return find(id);
        },
        calls: async (id) => [callOf(find(id).id)],
        events: async (id, afterSeq, limit) => {
          if (id !== null) find(id);
          return events
            .filter((event) => event.seq > afterSeq && (id === null || event.trial_id === id))
            .slice(0, limit);
        },
        latestSeq: async () => events.length,
        onEvent: (listener) => {
          listeners.add(listener);
          return { [Symbol.dispose]: () => void listeners.delete(listener) };
        },
        artefacts: async (id) => [
          {
            name: "changes.patch",
            allocation_id: find(id).id,
            byte_count: 9,
            updated_at: STARTED_AT,
          },
        ],
        artefactPath: async (id, name) => {
          find(id);
          if (name === "absent.txt" || (name === "terminal.cast" && !hasTerminal())) {
            throw new Problem("not_found", "The trial has no artefact of this name");
          }
          return join(folder, name);
        },
        trajectory: async (id) => ({ schema_version: "ATIF-v1.7", session_id: find(id).id }),
      },
      workerSessions: fakeWorkerSessions(),
      pairs: async () => [
        {
          name: "scripted",
          normal: "scripted-normal",
          thinking: "scripted-thinking",
          provider: "scripted",
          is_scripted: true,
          is_available: true,
          detail: "plays a script",
        },
      ],
      pricing: {
        list: async ({ currency = "CAD" }) => ({ prices: [{ ...MODEL_PRICE, currency }] }),
        explain: async (model, { at = STARTED_AT }) => {
          if (model !== MODEL_PRICE.model) throw new Problem("not_found", "no such model");
          return {
            at,
            price: MODEL_PRICE,
            steps: [{ what: "entry", calculation: "as it says", source: "made up" }],
            entries: [],
          };
        },
        reprice: async (id, { pair }) => {
          if (pair === "nobody") throw new Problem("invalid_request", "pair: unknown pair");
          return { trial_id: find(id).id, ...REPRICING };
        },
      },
      doctor: async () => [
        { part: "database", status: "ok", detail: "embedded 18.4", next_step: null },
        {
          part: "agent aider",
          status: "missing",
          detail: "not installed",
          next_step: "install it",
        },
      ],
      readiness: async () => fixture.readiness,
      metrics: async () => "autocode_trials_total 0\n",
    },
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
  await writeFile(join(folder, "changes.patch"), "--- a\n+++ b\n");
  return fixture;

  function hasTerminal(): boolean {
    return fixture.effects["terminal"] !== undefined;
  }

  function count(effect: string): void {
    fixture.effects[effect] = (fixture.effects[effect] ?? 0) + 1;
  }

  function known(name: string): string {
    if (name === "demo" || trials.has(name as TrialId)) return `project/${name}`;
    throw new Problem("not_found", `There is no budget ${name}`);
  }

  function find(id: TrialId): Trial {
    const trial = trials.get(id);
    if (trial === undefined) throw new Problem("not_found", "No trial has this id");
    return trial;
  }

  function create(spec: NewTrial, experimentId: string | null): Trial {
    if (spec.agent === "nobody") {
      throw new Problem("invalid_request", "agent: there is no agent nobody");
    }
    if (spec.agent === "broken") throw new Error("a defect that must not be shown");
    count("trial");
    const id = ids.next("trial");
    const trial = trialOf(id, spec, experimentId);
    trials.set(id, trial);
    emit(id, "trial.state", { from: null, to: "queued" });
    fixture.onCreate(id);
    return trial;
  }

  function emit(id: TrialId, type: TrialEvent["type"], data: TrialEvent["data"]): void {
    events.push({ seq: events.length + 1, trial_id: id, type, at: STARTED_AT, data });
    for (const listener of listeners) listener(id);
  }

  function moveTo(id: TrialId, change: Partial<Trial>): void {
    const from = find(id);
    trials.set(id, { ...from, ...change });
    emit(id, "trial.state", { from: from.state, to: change.state ?? from.state });
  }

  function fakeWorkerSessions(): Services["workerSessions"] {
    const session = {
      allocationId: ids.next("allocation"),
      trialId: ids.next("trial"),
      purpose: "agent" as const,
    };
    return {
      enrol: async () => {
        throw new Problem("unauthenticated", "This enrolment token is unknown or used");
      },
      authenticate: async (token) => {
        if (token === ALLOCATION_TOKEN) return session;
        throw new Problem("unauthenticated", "This allocation token is unknown");
      },
      sourcePath: async () => join(folder, "changes.patch"),
      testsPath: async () => null,
      patchPath: async () => null,
      sessionPath: async () => null,
      appendEvents: async (_session, batch) => {
        fixture.worker.events.push(...batch.map(({ cursor }) => cursor));
        return Math.max(...fixture.worker.events);
      },
      heartbeat: async () => ({ action: "continue" }),
      appendArtefact: async (_session, _name, offset, bytes) => {
        if (offset !== fixture.worker.artefact.length) throw new Problem("conflict", "a gap");
        for await (const chunk of bytes) fixture.worker.artefact += String(chunk);
        return fixture.worker.artefact.length;
      },
      report: async (_session, report) => void fixture.worker.reports.push(report),
    };
  }
}

/** Of the test database's ledger, the real ones. */
function openJournals(database: TestDatabase, clock: ApiFixture["clock"]): Services["journal"] {
  const { journal, ledgerExport } = openTestJournal({ database, clock });
  return { ...ledgerExport, status: journal.status };
}

function budget(owner: string): Budget {
  return { owner, balance: BALANCE };
}

function budgetReport(name: string, owner: string, at: string): BudgetReport {
  const tokens = {
    ...BALANCE,
    currency: "TOK",
    funded_nanos: "2000000",
    available_nanos: "1580000",
  };
  const burn = { last_hour_nanos: "420000", last_day_nanos: "420000", lasts_the_day: false };
  const level = { is_limited: true, alerts: [50, 80, 90, 95, 100], passed: [] };
  const spending = { ...burn, basis: "not_enough_history", exhausted_at: null } as const;
  return {
    name,
    project: "demo",
    ...budget(owner),
    at,
    time_zone: "America/Toronto",
    levels: [
      {
        ...level,
        ...{ scope: "organisation", owner: "organisation/CAD", is_limited: false },
        ...{ balance: BALANCE, burn: { ...spending, basis: "not_limited" } },
      },
      { ...level, scope: "project", owner, balance: BALANCE, burn: spending },
      {
        ...level,
        ...{ scope: "project", owner: `tokens/${owner}`, balance: tokens },
        burn: { ...burn, basis: "last_hour", exhausted_at: "2026-11-21T16:00:00.000Z" },
      },
    ],
    next_top_up: {
      at: "2026-12-01T05:00:00.000Z",
      date: "2026-12-01",
      every: "month",
      amount_nanos: "10000000000",
    },
  };
}

function budgetEvent(owner: string): BudgetEvent {
  return {
    seq: 2,
    scope: "project",
    owner,
    kind: "threshold",
    percent: 80,
    currency: "CAD",
    funded_nanos: BALANCE.funded_nanos,
    spent_nanos: BALANCE.spent_nanos,
    at: STARTED_AT,
  };
}

function profitReport(project: string): ProfitReport {
  const nothing = { income_nanos: "0", cost_nanos: "420000", result_nanos: "-420000" };
  const rows = [{ agent: "aider", pair: "scripted", trials: 2, passed: 1, ...nothing }];
  return { project, currency: "CAD", ...nothing, rows };
}

function costReport(project: string, by: CostReport["by"]): CostReport {
  const costs = { trials: 2, passed: 1, cost_nanos: "420000", cost_per_success_nanos: "420000" };
  const rows = [{ group: "aider / scripted", tokens: "1545", ...costs }];
  return { project, currency: "CAD", by, ...costs, rows };
}

function adherenceReport(project: string): AdherenceReport {
  const row = {
    scope: "project" as const,
    owner: `project/${project}`,
    currency: "CAD",
    limit_nanos: BALANCE.funded_nanos,
    peak_nanos: "900000",
    peak_at: STARTED_AT,
    least_available_nanos: "9007199253840993",
    is_within: true,
  };
  const rest = { is_within: true, budget_count: 1, next_cursor: null };
  const signed = { position: 12, chain: "ab".repeat(32), key_id: "file:1", signed_at: STARTED_AT };
  const journal = { ...signed, covered_transfers: 3, all_transfers: 3 };
  return { project, ...rest, rows: [row], journal };
}

function fakeAgents(): Services["agents"] {
  const installed = new Set<string>();
  return {
    list: async () => ["aider", "qwen-code"].map((name) => agentOf(name, installed.has(name))),
    install: async (agent, onProgress) => {
      onProgress({ agent, step: "installing", detail: "1.2.3 from npm" });
      installed.add(agent);
      onProgress({ agent, step: "installed", detail: "1.2.3" });
    },
  };
}

function agentOf(name: string, isInstalled: boolean): AgentStatus {
  return {
    facts: {
      name,
      title: name,
      package_source: "npm",
      package_name: name,
      version: "1.2.3",
      license: "Apache-2.0",
      is_redistributable: true,
      wire: "openai.chat",
      pair_mode: "phases",
      is_exit_code_trusted: false,
      budget_stop_status: 403,
      prompt_floor_tokens: 1000,
    },
    installed_version: isInstalled ? "1.2.3" : null,
  };
}

function trialOf(id: TrialId, spec: NewTrial, experimentId: string | null): Trial {
  return {
    id,
    project: spec.project,
    experiment_id: experimentId,
    task: typeof spec.task === "string" ? spec.task : "inline",
    agent: spec.agent,
    agent_version: "1.2.3",
    pair: spec.pair,
    attempt: 1,
    seed: 1,
    priority: 0,
    state: "queued",
    reason: null,
    verdict: null,
    flags: [],
    tries: 0,
    resume_at: null,
    approval_id: null,
    budget: BALANCE,
    usage: {
      input_tokens: 1200,
      cache_read_tokens: 300,
      cache_write_tokens: 0,
      output_tokens: 45,
      reasoning_tokens: 5,
    },
    call_count: 2,
    is_scripted: true,
    created_at: STARTED_AT,
    started_at: null,
    ended_at: null,
    duration_ms: null,
  };
}

function experimentOf(id: string, name: string, trials: Trial[]): Experiment {
  return {
    id,
    project: "demo",
    name,
    seed: 1,
    assignment: "all",
    trial_count: trials.length,
    ended_count: trials.filter(({ ended_at }) => ended_at !== null).length,
    spent_nanos: "840000",
    currency: "CAD",
    created_at: STARTED_AT,
    trials,
  };
}

function callOf(trialId: string): Call {
  return {
    id: "call_01jd7sm1g0e0080000000000c1",
    trial_id: trialId,
    wire: "openai.chat",
    side: "normal",
    model: "scripted-normal",
    model_requested: "normal",
    provider: "scripted",
    price_version: "scripted-normal@2026-01-01",
    reserved_nanos: "900000",
    cost_nanos: "420000",
    usage: {
      input_tokens: 1200,
      cache_read_tokens: 300,
      cache_write_tokens: 0,
      output_tokens: 45,
      reasoning_tokens: 5,
    },
    long_cache_write_tokens: 0,
    gpu_ms: null,
    attempts: [],
    is_estimated: false,
    status: 200,
    started_at: STARTED_AT,
    first_byte_ms: 3,
    duration_ms: 12,
    error: null,
  };
}
