/**
 * Builds every service from the configuration: the only place that knows which engine is behind
 * which port. What was opened is closed in the reverse order.
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CONTENT_SECURITY_POLICY, VENDOR_FILES } from "../dashboards/web/vendor.ts";
import { loadCatalog } from "../models/catalog.ts";
import { createScriptedModel } from "../models/scripted/server.ts";
import { createEgressPolicies } from "../proxy/egress/dry-run.ts";
import { AGENTS } from "../worker-agent/agents/registry.ts";
import { installAgent, installedVersion } from "../worker-agent/install.ts";
import { probeIsolation } from "../worker-agent/probe-isolation.ts";
import { closedFolder } from "../worker-agent/rooms.ts";
import { gatewayAddress } from "./addresses.ts";
import { type AgentInstaller, createAgents } from "./agents/installed.ts";
import { createAccess } from "./api/access-postgres.ts";
import { createIdempotency } from "./api/idempotency.ts";
import { createApi } from "./api/server.ts";
import type { Services } from "./api/services.ts";
import { createMarksTask } from "./budgets/marks.ts";
import { createBudgetMetrics } from "./budgets/metrics.ts";
import { createBudgets } from "./budgets/postgres.ts";
import { buildAccounting } from "./compose-accounting.ts";
import { buildBackups } from "./compose-backup.ts";
import { buildCheckpoints } from "./compose-checkpoints.ts";
import {
  describeOrchestrators,
  joinOrchestrators,
  LEASE_MS,
  type Published,
  publishEndpoint,
  takePlace,
} from "./compose-duties.ts";
import { buildEgress } from "./compose-egress.ts";
import { buildGateway, expireTask, learnProviders, providerAddresses } from "./compose-gateway.ts";
import { buildReplays } from "./compose-replay.ts";
import { firstUid, openScheduler } from "./compose-scheduler.ts";
import { changedKeys, openSecrets, refreshTask, sealTask } from "./compose-secrets.ts";
import { buildPlanner, buildServing } from "./compose-serving.ts";
import { openTraffic } from "./compose-traffic.ts";
import { buildWeights } from "./compose-weights.ts";
import { buildWorkers } from "./compose-workers.ts";
import type { Config } from "./config.ts";
import type { Endpoint } from "./contract/system.ts";
import type { Database, Sql } from "./db/database.ts";
import { openEmbeddedDatabase } from "./db/embedded.ts";
import { migrate } from "./db/migrate.ts";
import { openPostgresDatabase } from "./db/postgres.ts";
import { createDoctor } from "./doctor/doctor.ts";
import type { Keys } from "./keys/keys.ts";
import { createKeys } from "./keys/postgres.ts";
import { createJournal } from "./ledger/journal.ts";
import { createLedgerExport } from "./ledger/journal-export.ts";
import type { Ledger } from "./ledger/ledger.ts";
import { createLedger } from "./ledger/postgres.ts";
import { createDays } from "./projects/day.ts";
import { createLayout, type Layout, makeProjectFolders } from "./projects/layout.ts";
import { createProjects, type PostgresProjects } from "./projects/postgres.ts";
import { closeFolders } from "./projects/private-folders.ts";
import { createTopUps } from "./projects/top-ups.ts";
import { startBackground } from "./runtime/background.ts";
import { systemClock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { choosePort } from "./runtime/ports.ts";
import { systemRandom } from "./runtime/random.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import { openServedModels } from "./serving/served-models.ts";
import { createTasks } from "./tasks/tasks.ts";
import { createPacketRecords } from "./traffic/packets.ts";
import { createTrafficRetention } from "./traffic/retention.ts";
import { createApprovals } from "./trials/approvals-postgres.ts";
import { createCatalogPairs } from "./trials/catalog-pairs.ts";
import { createEgressProposals } from "./trials/egress-proposals.ts";
import { createEngine, type Engine } from "./trials/engine.ts";
import { createEnrolments, type Enrolments } from "./trials/enrolment.ts";
import { createTrials } from "./trials/postgres.ts";
import { createPricing } from "./trials/pricing.ts";
import { createWorkerSessions } from "./trials/sessions.ts";
import { createSteps } from "./trials/steps.ts";
import { openWakes, type Wakes } from "./trials/wakes.ts";
import { createWorkerLogs } from "./trials/worker-logs.ts";

export const VERSION = "0.1.0";

const ROOT = join(import.meta.dirname, "..");
const clock = systemClock;
const random = systemRandom;
const ids = createIds(clock, random);

const ARTEFACT_BYTES_MAX = 64 * 1024 * 1024;
const GATEWAY_GRACE_MS = 2_000;
const RETENTION_MS = 600_000;

export interface Installation extends AsyncDisposable {
  services: Services;
  /** Starts listening and driving trials. @throws Error when a port is taken. */
  start(): Promise<Published>;
  /** Writes down where the command line finds us; its token. */
  publish(at: Published): Promise<string>;
}

/** @throws Problem or Error, its message for people, when an engine cannot be opened. */
export async function compose(config: Config, log: Log): Promise<Installation> {
  await using opening = new AsyncDisposableStack();
  const place = opening.use(await takePlace(createLayout(config.home)));
  const layout = createLayout(config.home, place.seat.number);
  await closeFolders(layout);
  const db = opening.use(await openDatabase(config, layout, log));
  await migrate(db, { clock });

  const scripted = createScriptedModel({ scriptsDir: config.scriptsDir });
  opening.defer(() => scripted.close());
  const { url: scriptedUrl } = await scripted.listen();
  const catalog = await loadCatalog(join(ROOT, "models"));
  const safe = opening.use(await openSecrets(config, log));
  const { secrets, apiKeys, identity: key } = safe;
  const addressesOf = () => providerAddresses(config, scriptedUrl, apiKeys.read);
  const agents = AGENTS.map(({ facts }) => facts);
  const pairs = createCatalogPairs(catalog, addressesOf, apiKeys.read, clock, agents);

  const ledger = createLedger(db, clock);
  const { scheduler: schedulerName } = config;
  const ours = { db, place, ids, log, key, scheduler: schedulerName, version: VERSION };
  const { duties, register, enter } = opening.use(await joinOrchestrators(ours));
  const journal = createJournal(db, clock, secrets);
  const keys = createKeys(db, clock, ids, random);
  const ledgerIn = (tx: { sql: Sql }) => createLedger(tx, clock);
  const days = createDays({ db, ledgerIn, ids, clock });
  const topUps = createTopUps({ db, ledgerIn, clock, log });
  const tasks = createTasks(db, layout, clock, ids);
  const funds = { db, ledger, ledgerIn };
  const projects = createProjects({ ...funds, tasks, days, pairs, agents, clock, ids });
  const wakes = opening.use(await openWakes(db));
  const ownKeys = () => config.providers.flatMap(({ apiKey }) => apiKey ?? []);
  const record = opening.use(await openTraffic({ db, layout, secrets, ownKeys, log }, config));
  const { traffic } = record;
  const providers = pairs.addresses;
  const accounting = buildAccounting({ db, traffic, secrets, providers, log }, config);
  opening.use(record.onStored(accounting.matcher.onStored));
  const replaying = buildReplays({ db, traffic, redact: record.redact, keys, log });
  opening.defer(() => replaying.server.close());
  const flows = await record.openSink("gateway", "gateway");
  const engines = opening.use(await openServedModels({ db, clock, log }, pairs.serve));
  const passing = { db, ledger, keys, days, projects, pairs, flows, served: engines, log };
  const gateway = buildGateway(passing, config);
  // Engines end once the gateway has ended its last calls; workers that are being ended still
  // report, so the API is closed after the scheduler.
  const closing = { api: async () => {}, engines: async () => {} };
  opening.defer(() => closing.engines());
  opening.defer(() => gateway.close(GATEWAY_GRACE_MS));

  const addresses = { api: "", gateway: "", replay: "" };
  const sink = await record.openSink("egress", config.egress.engine);
  const egress = opening.use(
    buildEgress({ db, projects, secrets, layout, sink, log }, config, {
      ownAddresses: () => Object.values(addresses),
      gatewayUrl: () => addresses.gateway,
      replay: replaying.replays.decide,
    }),
  );
  opening.defer(() => closing.api());
  const enrolments = createEnrolments({ db, secrets, clock, random });
  const apiUrl = () => register.urls().join(",");
  const asked = { config, layout, apiUrl, log, place, db, enrolments };
  const { scheduler, describe, fleet = null } = await openScheduler(asked);
  opening.use(scheduler);
  const { waitFor } = pairs;
  const driven = { db, ledger, keys, projects, scheduler, enrolments, wakes, waitFor, log };
  const engine = buildEngine(driven);
  opening.use(engine);

  const hosts = buildWorkers({ db, scheduler, fleet, config: config.fleet, log });
  const { cards } = catalog;
  const { weights, pulls } = opening.use(
    buildWeights({ db, layout, secrets, cards, catalog }, config),
  );
  const planner = await buildPlanner(ROOT, catalog, agents, config.serving);
  const paying = { projects, days, ledgerIn };
  const isolation = async () => (config.scheduler === "local" ? probeIsolation(null) : null);
  const knowing = { register, isolation, tellGateway: engines.refresh };
  const served = { db, layout, planner, catalog, weights, ...knowing, ...paying, log };
  const serving = opening.use(await buildServing(served, config));
  closing.engines = serving.end;
  const kept = buildCheckpoints({ db, layout, clock, random }, config);
  const shared = { db, ledger, projects, tasks, pairs, agents, wakes, layout, clock, random };
  const installer = createInstaller(config, layout);
  const doctor = createDoctor({
    ...{ db, config, describeScheduler: describe, installer, pairs, gateway, journal, secrets },
    closedToAgents: () => closedToAgents(config, layout),
    probeIsolation: isolation,
  });
  const budgetMetrics = createBudgetMetrics(db, clock);
  const services: Services = {
    clock,
    log,
    access: createAccess(db, clock, { ids, random }),
    agents: createAgents(installer),
    budgets: createBudgets({ db, ledger, projects, clock }),
    egress: createEgressPolicies(projects),
    idempotency: createIdempotency(db, clock),
    models: serving.models,
    weights: pulls,
    journal: { ...createLedgerExport(db, clock, journal, secrets), status: journal.status },
    projects: {
      ...projects,
      apply: async (given) => {
        const { id, name } = await projects.apply(given);
        await makeProjectFolders(layout, id);
        // What its schedules have due is there before anyone looks.
        await topUps.replenish(await projects.find(name));
        return projects.get(name);
      },
    },
    approvals: createApprovals({ db, ledgerIn, projects, clock, ids }),
    trials: createTrials({ ...shared, traffic, ids }),
    replays: replaying.trials,
    workerLogs: createWorkerLogs({ db, scheduler, redact: record.redact }),
    traffic,
    trafficSources: record.sources,
    unmatched: accounting.matcher,
    reconciliations: accounting.reconciler,
    flows: { ...createEgressProposals({ db, clock, ids }), onStored: record.onStored },
    checkpoints: kept.checkpoints,
    workerSessions: createWorkerSessions({
      ...{ ...shared, keys, enrolments, checkpoints: kept.limits },
      recordPackets: createPacketRecords(sink, { clock, log }),
      ...{ gatewayUrl: () => addresses.gateway, replayUrl: () => addresses.replay },
      egress: egress.door,
      artefactBytesMax: ARTEFACT_BYTES_MAX,
    }),
    pricing: createPricing(db, pairs, clock),
    pairs: async (project) =>
      pairs.list(project === undefined ? null : (await projects.find(project)).config),
    ...doctor,
    doctor: async () => [
      ...(await doctor.doctor()),
      await safe.describe(),
      await egress.describe(),
      await record.describe(),
      await serving.describe(),
      await accounting.matcher.describe(),
      await accounting.reconciler.describe(),
      ...(await describeOrchestrators(register)),
    ],
    readiness: async () => ({
      ...(await doctor.readiness()),
      duties: duties.fault(),
      secrets: await safe.fault(),
      egress: await egress.fault(),
    }),
    secrets: { ...safe, changed: () => changedKeys(apiKeys, pairs.refresh) },
    orchestrators: register,
    backups: buildBackups({ db, config, layout, secrets }, VERSION),
    workers: hosts.workers,
    hosts: hosts.hosts,
    metrics: async () =>
      [
        ...[doctor.metrics(), budgetMetrics.text(), hosts.workers.metrics()],
        ...[accounting.matcher.metrics(), accounting.reconciler.metrics(), serving.metrics()],
      ].reduce(async (text, more) => `${await text}${await more}`),
  };
  const api = createApi(services, {
    version: VERSION,
    allowedHosts: [config.host, new URL(config.apiUrl ?? "http://127.0.0.1").hostname],
    web: {
      dir: join(ROOT, "dashboards/web"),
      packagesDir: join(ROOT, "node_modules"),
      vendorFiles: VENDOR_FILES,
      contentSecurityPolicy: CONTENT_SECURITY_POLICY,
    },
  });
  closing.api = () => api.close();

  const opened = opening.move();
  const publish = (at: Published) => publishEndpoint(place, layout, services.access, at);
  return { services, start, publish, [Symbol.asyncDispose]: () => opened.disposeAsync() };

  async function start(): Promise<Published> {
    // The embedded database has one process at a time: whoever made these was killed.
    if (db.name === "embedded") await ledger.abandon(clock.now());
    await learnProviders(db, pairs);
    const { host } = config;
    const last = await readEndpoint(layout);
    // Workers that outlived our absence call at once: what must not be recorded is known before.
    await record.start();
    addresses.gateway = config.gatewayUrl ?? (await listenGateway(last.gateway_url));
    const replays = await replaying.server.listen(config.egress.replayPort, host);
    addresses.replay = gatewayAddress(config, replays.url);
    await egress.start(last.egress_url);
    const port = await choosePort(config.port, host, last.url);
    addresses.api = await api.listen({ port, host });
    await enter(config.apiUrl ?? addresses.api);
    const background = startBackground(
      [
        ...[expireTask(ledger), sealTask(journal), topUps.task, createMarksTask(db, clock, log)],
        ...[kept.collection, ...hosts.tasks, ...accounting.duties, serving.task],
        createTrafficRetention({ db, traffic, clock, log }, { periodMs: RETENTION_MS }),
      ],
      log,
      duties,
    );
    // Not a duty: each process has a login and a memory of its own.
    const own = startBackground(
      [safe.watch.task, refreshTask(apiKeys, pairs.refresh), accounting.matcher.task],
      log,
    );
    opened.defer(() => own.stop());
    opened.defer(() => duties.handOver());
    opened.defer(() => background.stop());
    // A round that is under way, of which one step may take minutes, ends at once.
    opened.defer(() => serving[Symbol.asyncDispose]());
    engine.start();
    const egressUrl = egress.door()?.url;
    return { url: addresses.api, gatewayUrl: addresses.gateway, egressUrl };
  }

  async function listenGateway(lastUrl: string | undefined): Promise<string> {
    const port = await choosePort(config.gatewayPort, config.host, lastUrl);
    return gatewayAddress(config, (await gateway.listen(port, config.host)).url);
  }
}

/** What keeps a slot's user from running an agent, so that the worker runs it as root. */
async function closedToAgents(config: Config, layout: Layout): Promise<string | null> {
  if (!config.isRoot) return null;
  const node = dirname(process.execPath);
  const uid = firstUid(config.home);
  const user = { uid, gid: uid };
  return closedFolder(user, [layout.allocations, layout.agents, node]);
}

async function openDatabase(config: Config, layout: Layout, log: Log): Promise<Database> {
  return config.databaseUrl === null
    ? openEmbeddedDatabase({ dir: layout.postgres, log })
    : openPostgresDatabase({ url: config.databaseUrl, log });
}

function buildEngine(dependencies: {
  db: Database;
  ledger: Ledger;
  keys: Keys;
  projects: PostgresProjects;
  scheduler: Scheduler;
  enrolments: Enrolments;
  wakes: Wakes;
  waitFor: (pair: string) => string | null;
  log: Log;
}): Engine {
  const { db, scheduler, wakes, log } = dependencies;
  const steps = createSteps(
    { ...dependencies, clock, ids },
    // Three times this is more than a worker waits for us (120 s, after a beat of 20): one that
    // outlived our absence is heard again, not given up by the first look.
    { staleMs: 50_000, stopGraceMs: 15_000, retryDelayMs: 2_000 },
  );
  return createEngine(
    { db, scheduler, wakes, steps, log },
    { leaseMs: LEASE_MS, pollMs: 1_000, concurrency: 4, isAlone: db.name === "embedded" },
  );
}

function createInstaller(config: Config, { agents: agentsDir }: Layout): AgentInstaller {
  const plugin = (name: string) => {
    const found = AGENTS.find(({ facts }) => facts.name === name);
    if (found === undefined) throw new Error(`no plugin for ${name}`);
    return found;
  };
  return {
    facts: AGENTS.map(({ facts }) => facts),
    install: async (name, onProgress) => {
      await installAgent(plugin(name), { agentsDir, env: config.workerEnv, onProgress });
    },
    installedVersion: (name) => installedVersion(plugin(name), agentsDir),
  };
}

/** Where the last start listened, as it wrote it down for the command line. */
async function readEndpoint(layout: Layout): Promise<Partial<Endpoint>> {
  const text = await readFile(layout.endpoint, "utf8").catch(() => "{}");
  try {
    return JSON.parse(text) as Partial<Endpoint>;
  } catch {
    return {};
  }
}
