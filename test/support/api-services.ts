/**
 * Services for tests of the API's edge: access and idempotency are the real ones on a test
 * database; what lies behind the other ports is held in memory, each with one of everything.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { Access } from "../../orchestrator/api/access.ts";
import { createAccess } from "../../orchestrator/api/access-postgres.ts";
import { createIdempotency } from "../../orchestrator/api/idempotency.ts";
import type { Services } from "../../orchestrator/api/services.ts";
import type { TrialEvent } from "../../orchestrator/contract/events.ts";
import type { NewTrial, Trial } from "../../orchestrator/contract/trials.ts";
import { Problem } from "../../orchestrator/problem.ts";
import { createIds, type Ids, type TrialId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { seededRandom, systemRandom } from "../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../orchestrator/secrets/file.ts";
import { createTrafficSources } from "../../orchestrator/traffic/sources-postgres.ts";
import { watchStored } from "../../orchestrator/traffic/stored.ts";
import { engineShares } from "../../orchestrator/trials/engine-share.ts";
import { createNoHosts } from "../../orchestrator/workers/no-hosts.ts";
import { createEgressPolicies } from "../../proxy/egress/dry-run.ts";
import { fakeAccounting } from "./accounting.ts";
import {
  APPROVAL,
  adherenceReport,
  agentOf,
  BALANCE,
  budget,
  budgetEvent,
  budgetReport,
  callOf,
  costReport,
  experimentOf,
  fakeCheckpoints,
  MODEL_PRICE,
  noModels,
  PROJECT,
  PROPOSAL,
  profitReport,
  REPRICING,
  STARTED_AT,
  STARTED_AT_MS,
  TASK,
  trialOf,
  WORKER,
} from "./api-answers.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";
import { openTestJournal } from "./journal.ts";
import { createMemoryTraffic } from "./memory-traffic.ts";

export const ALLOCATION_TOKEN = "allocation_token_of_the_fake_worker";

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
  /** The store of flows as another process has it: `services.traffic` is the one we watch. */
  traffic: ReturnType<typeof createMemoryTraffic>;
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
  const sealed = { dir: join(folder, "secrets"), passphrase: null };
  const secrets = await openFileSecrets(sealed, systemRandom);
  const trials = new Map<TrialId, Trial>();
  const memory = createMemoryTraffic();
  const watched = watchStored(memory);

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
    traffic: memory,
    worker: { artefact: "", events: [], reports: [] },
    emit,
    moveTo,
    services: {
      clock,
      log: createLog("silent"),
      access,
      idempotency: createIdempotency(database, clock),
      models: noModels(),
      workerLogs: {
        read: async (id, { allocationId, output }) => {
          known(id);
          const words = [output ?? "both", allocationId ?? "newest"].join(" of ");
          return Readable.from([`the log: ${words}: \u001b]0;owned\u0007sa`, "fe\n"]);
        },
      },
      journal: openJournals(database, clock),
      secrets: {
        secrets,
        watch: { last: secrets.status },
        reseal: secrets.reseal,
        changed: async () => count("secrets changed"),
      },
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
      egress: createEgressPolicies({
        find: async (name) => {
          known(name);
          return { config: { egress: { presets: ["npm"] } } };
        },
      }),
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
          lines: [
            {
              transfer_id: "transfer_01jd7sm1g0e0080000000000f1",
              kind: "direct",
              reason: "topup",
              debit: "organisation/CAD",
              credit: known(name),
              amount_nanos: "1500000000",
              available_nanos: BALANCE.available_nanos,
              note: "=1+1, for the ninth sprint",
              reverses_id: null,
              at: STARTED_AT,
            },
          ],
          next_cursor: before === undefined ? `page-of-${limit}` : null,
        }),
        topUp: async (name) => {
          count("topup");
          return budget(known(name));
        },
        exportSpend: async (_project, { format }) =>
          format === "csv" ? "BilledCost\n0.00042\n" : "[]",
      },
      traffic: watched.traffic,
      trafficSources: createTrafficSources(database, clock),
      flows: {
        onStored: watched.onStored,
        propose: async (flow, { isDryRun }) => {
          if (flow.project_id === null) {
            throw new Problem(
              "conflict",
              "This flow belongs to no project, so no policy is its own",
            );
          }
          if (!isDryRun) count("propose");
          return { ...PROPOSAL, approval_id: isDryRun ? null : APPROVAL.id };
        },
      },
      checkpoints: fakeCheckpoints(find),
      ...fakeAccounting(),
      replays: {
        replay: async (id) => ({ ...create(find(id), null), replay_of: id }),
        cassette: async (id) => {
          const { agent, task, pair, seed, verdict } = find(id);
          const trial = { id, agent, task, pair, seed, verdict };
          return { schema_version: 1, trial, exchanges: [] };
        },
        script: async (id) => `match: ${find(id).task}\nsteps: []\n`,
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
        replayCassette: async ({ project, cassette: { trial } }) => {
          const { agent, pair, task } = trial;
          const made = create({ project, agent, pair, task }, null);
          return { ...made, replay_of: made.id };
        },
        fork: async (id, { agent, pair }) => {
          const { project, task, ...parent } = find(id);
          const cell = { project, task, agent: agent ?? parent.agent, pair: pair ?? parent.pair };
          return create(cell, null);
        },
        resume: async (id) => {
          if (find(id).state !== "paused") throw new Problem("conflict", "It is not paused");
          moveTo(id, { state: "queued" });
          return find(id);
        },
        calls: async (id) => [callOf(find(id).id)],
        engines: async (id) => engineShares([callOf(find(id).id)], []),
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
      workers: fakeWorkers(),
      hosts: createNoHosts("local"),
      pairs: async () => [
        {
          name: "scripted",
          normal: "scripted-normal",
          thinking: "scripted-thinking",
          provider: "scripted",
          is_scripted: true,
          is_available: true,
          detail: "plays a script",
          agents: [{ agent: "qwen-code", verdict: "sound", reasons: [] }],
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
      weights: fakePulls(),
      readiness: async () => fixture.readiness,
      backups: { open: async () => Readable.from([Buffer.from("a backup")]) },
      orchestrators: { list: async () => [], urls: () => ["http://127.0.0.1:7700"] },
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

  function fakeWorkers(): Services["workers"] {
    const detail = { worker: WORKER, window_ms: 86_400_000, outages: [], allocations: [] };
    return {
      list: async () => ({
        ...{ scheduler: "local", workers: [WORKER], availability: null, window_ms: 86_400_000 },
        ...{ availability_target: 0.99, pending: 0, can_join: false },
      }),
      get: async () => detail,
      drain: async (_host, isDraining) => {
        count(isDraining ? "drain" : "undrain");
        return detail;
      },
      remove: async () => {},
      listJoinTokens: async () => ({ tokens: [] }),
      revokeJoinToken: async () => {},
      issueJoinToken: async ({ pool, uses }) => {
        const token = "autocode_join_of_the_fake_fleet";
        return { id: ids.next("token"), token, pool, uses, expires_at: STARTED_AT };
      },
      metrics: async () => "",
    };
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

/** A store where nothing is yet, and one model that can be pulled. */
function fakePulls(): Services["weights"] {
  const blank = { bytes_per_second: null, eta_ms: null };
  return {
    list: async () => ({ dir: "model-weights", free_bytes: 1_000, weights: [] }),
    remove: async ({ model, quantisation = "bf16" }) => ({
      freed_bytes: 600,
      removed: [{ model, quantisation, bytes: 600 }],
    }),
    prepare: async ({ model, quantisation = "bf16" }) => {
      if (model !== "made-up-1b") throw new Problem("not_found", `unknown pair "${model}"`);
      const line = { model, quantisation, ...blank, bytes_total: 600 };
      return {
        run: async (onProgress) => {
          onProgress({ ...line, step: "fetching", detail: "made/up", bytes: 300 });
          onProgress({ ...line, step: "pulled", detail: "model-weights/made-up-1b", bytes: 600 });
        },
      };
    },
  };
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
