/**
 * Builds the gateway: inside the orchestrator's process (`compose.ts`), or as a process of its own
 * (`proxy/gateway/main.ts`) beside any number of others on one database.
 *
 * Invariant: of what another process may change (keys, projects, their providers), a gateway
 * remembers nothing for longer than a second without asking the database again.
 */
import { join } from "node:path";
import { sql } from "drizzle-orm";
import { loadCatalog } from "../models/catalog.ts";
import { createScriptedModel } from "../models/scripted/server.ts";
import { compilePolicy } from "../proxy/egress/policy.ts";
import { createPostgresCalls } from "../proxy/gateway/calls-postgres.ts";
import type { GatewayDeps } from "../proxy/gateway/gateway.ts";
import { createGateway, type Gateway } from "../proxy/gateway/server.ts";
import { createUndiciUpstream } from "../proxy/gateway/undici.ts";
import { AGENTS } from "../worker-agent/agents/registry.ts";
import { makePassage } from "../worker-agent/rooms.ts";
import { openApiKeys, refreshTask } from "./compose-secrets.ts";
import { openTraffic } from "./compose-traffic.ts";
import { type Config, HOSTED, type ProviderConfig } from "./config.ts";
import type { ProjectFile } from "./contract/projects.ts";
import type { Database } from "./db/database.ts";
import { migrate } from "./db/migrate.ts";
import { openPostgresDatabase } from "./db/postgres.ts";
import { rows } from "./db/rows.ts";
import type { Grant, KeyLimits, Keys } from "./keys/keys.ts";
import { createKeys } from "./keys/postgres.ts";
import type { Ledger } from "./ledger/ledger.ts";
import { createLedger } from "./ledger/postgres.ts";
import { createDays, type Days } from "./projects/day.ts";
import { createLayout } from "./projects/layout.ts";
import { createProjects, dayOf, type PostgresProjects } from "./projects/postgres.ts";
import { type Background, startBackground } from "./runtime/background.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import { createKept } from "./runtime/kept.ts";
import type { Log } from "./runtime/log.ts";
import { systemRandom as random } from "./runtime/random.ts";
import { openServedModels, type ServedModels } from "./serving/served-models.ts";
import { createTasks } from "./tasks/tasks.ts";
import type { FlowSink } from "./traffic/sink.ts";
import {
  type CatalogPairs,
  createCatalogPairs,
  type ProviderAddress,
} from "./trials/catalog-pairs.ts";
import { createGatewayEvents } from "./trials/gateway-events.ts";

const ids = createIds(clock, random);
const MODELS = join(import.meta.dirname, "../models");
const PROJECT_KEPT_MS = 1_000;
const LEARN_PERIOD_MS = 10_000;
const EXPIRE_PERIOD_MS = 10_000;
const EXPIRE_BATCH = 500;

export interface GatewayParts {
  db: Database;
  ledger: Ledger;
  keys: Pick<Keys, "find">;
  days: Days;
  projects: Pick<PostgresProjects, "findById">;
  pairs: CatalogPairs;
  /** Where what passes is recorded. */
  flows: FlowSink;
  served: Pick<ServedModels, "until">;
  log: Log;
}

export function buildGateway(
  parts: GatewayParts,
  config: Pick<Config, "keyRequestsPerMinute" | "keyTokensPerMinute" | "keyCallsAtOnce">,
): Gateway {
  const { db, ledger, days, projects, pairs, flows, served, log } = parts;
  const events = createGatewayEvents(db, clock);
  const projectOf = createKept(projects.findById, PROJECT_KEPT_MS, clock);
  const deps: GatewayDeps = {
    keys: { find },
    ledger,
    calls: createPostgresCalls(db, ledger),
    upstream: createUndiciUpstream({
      connectTimeoutMs: 10_000,
      headTimeoutMs: 30 * 60_000,
      chunkTimeoutMs: 10 * 60_000,
    }),
    providers: pairs.provider,
    untilPresent: (name, { trialId }, signal) => served.until(name, trialId, signal),
    dayAccount: async (grant: Grant) => days.dayAccount(dayOf(await projectOf(grant.projectId))),
    tokenDayAccount: async (grant: Grant) =>
      days.tokenDayAccount(dayOf(await projectOf(grant.projectId))),
    ids,
    clock,
    random,
    log,
    flows,
    isRecordRequired: async ({ projectId }) =>
      compilePolicy((await projectOf(projectId)).config.egress, null, null).isRecordRequired,
    hooks: {
      onCalls: events.settled,
      onRefusal: ({ code, message }, grant) => events.refused(grant.trialId, code, message),
      onBudgetExhausted: (grant, facts) => events.exhausted(grant.trialId, facts),
      onQuotaExhausted: (grant, quota) => events.quotaExhausted(grant.trialId, quota),
      onThreshold: (grant, percent, balance) => events.threshold(grant.trialId, percent, balance),
    },
  };
  return createGateway(deps, { keyLimits: keyLimits(config) });

  /** The key, and what its project's file says of providers that were not known here yet. */
  async function find(secret: string) {
    const found = await parts.keys.find(secret);
    if (found.outcome !== "granted") return found;
    const isKnown = found.grant.models.every(({ provider }) => pairs.provider(provider) !== null);
    if (!isKnown) pairs.learn((await projectOf(found.grant.projectId)).config);
    return found;
  }
}

/** 0 is no limit. */
function keyLimits(config: Parameters<typeof buildGateway>[1]): KeyLimits {
  const { keyRequestsPerMinute, keyTokensPerMinute, keyCallsAtOnce } = config;
  return {
    ...(keyRequestsPerMinute > 0 ? { requestsPerMinute: keyRequestsPerMinute } : {}),
    ...(keyTokensPerMinute > 0 ? { tokensPerMinute: keyTokensPerMinute } : {}),
    callsAtOnce: keyCallsAtOnce,
  };
}

export interface GatewayProcess extends AsyncDisposable {
  gateway: Gateway;
  /** @throws Error when the port is taken. */
  start(): Promise<{ url: string }>;
  /** Whether the database answers. */
  isReady(): Promise<boolean>;
}

/**
 * A gateway on the database that `DATABASE_URL` names, without an orchestrator.
 *
 * @throws Problem `unavailable` when the database does not answer.
 */
export async function composeGateway(
  config: Config & { databaseUrl: string },
  log: Log,
): Promise<GatewayProcess> {
  await using opening = new AsyncDisposableStack();
  const layout = createLayout(config.home);
  // Before any closed folder below it: who makes that first closes what is missing above it.
  await makePassage(layout.shared);
  const db = opening.use(await openPostgresDatabase({ url: config.databaseUrl, log }));
  await migrate(db, { clock });
  const scripted = createScriptedModel({ scriptsDir: config.scriptsDir });
  opening.defer(() => scripted.close());
  const { url: scriptedUrl } = await scripted.listen();
  const catalog = await loadCatalog(MODELS);
  const apiKeys = opening.use(await openApiKeys(config, log));
  const addresses = () => providerAddresses(config, scriptedUrl, apiKeys.read);
  const pairs = createCatalogPairs(catalog, addresses, apiKeys.read, clock);
  const ledger = createLedger(db, clock);
  const ledgerIn = (tx: Parameters<typeof createLedger>[0]) => createLedger(tx, clock);
  const days = createDays({ db, ledgerIn, ids, clock });
  const tasks = createTasks(db, layout, clock, ids);
  const agents = AGENTS.map(({ facts }) => facts);
  const funds = { db, ledger, ledgerIn };
  const projects = createProjects({ ...funds, tasks, days, pairs, agents, clock, ids });
  const keys = createKeys(db, clock, ids, random);
  const ownKeys = () => addresses().flatMap(({ apiKey }) => apiKey ?? []);
  const recording = { db, layout, secrets: apiKeys.secrets, ownKeys, log };
  const record = opening.use(await openTraffic(recording, config));
  const flows = await record.openSink("gateway", "gateway");
  const served = opening.use(await openServedModels({ db, clock, log }, pairs.serve));
  const parts = { db, ledger, keys, days, projects, pairs, flows, served, log };
  const gateway = buildGateway(parts, config);
  opening.defer(() => gateway.close(config.gatewayGraceMs));
  const opened = opening.move();
  return { gateway, start, isReady, [Symbol.asyncDispose]: () => opened.disposeAsync() };

  async function start(): Promise<{ url: string }> {
    await learnProviders(db, pairs);
    await record.start();
    const listening = await gateway.listen(config.gatewayPort, config.host);
    const background: Background = startBackground(
      [
        expireTask(ledger),
        refreshTask(apiKeys, pairs.refresh),
        {
          name: "learn_providers",
          periodMs: LEARN_PERIOD_MS,
          activate: () => learnProviders(db, pairs),
        },
      ],
      log,
    );
    opened.defer(() => background.stop());
    return listening;
  }

  async function isReady(): Promise<boolean> {
    return db.sql.execute(sql`select 1`).then(
      () => true,
      () => false,
    );
  }
}

export function expireTask(ledger: Ledger) {
  return {
    name: "expire_reservations",
    periodMs: EXPIRE_PERIOD_MS,
    activate: async () => ({ expired: await ledger.expire(EXPIRE_BATCH) }),
  };
}

/** Projects may name providers of their own. */
export async function learnProviders(db: Database, pairs: CatalogPairs): Promise<void> {
  const found = await rows<{ config: ProjectFile }>(
    db.sql,
    sql`select config from project order by name`,
  );
  for (const { config } of found) pairs.learn(config);
}

/**
 * The installation's own model servers: the scripted one, those that the environment names, and
 * the providers that `readKey` has a key for.
 */
export function providerAddresses(
  config: Pick<Config, "providers">,
  scriptedUrl: string,
  readKey: (variable: string) => string | null,
): ProviderAddress[] {
  const scripted: ProviderAddress = {
    name: "scripted",
    baseUrl: scriptedUrl,
    apiKey: null,
    authStyle: "bearer",
    isHosted: false,
    hasContinuousUsage: true,
    hasTokenCount: true,
  };
  return [
    scripted,
    ...[...config.providers, ...keyed(config.providers)].map((provider): ProviderAddress => {
      const { name, baseUrl } = provider;
      const [kind] = name.split("-");
      const isOwn = kind === "vllm";
      return {
        name,
        baseUrl,
        apiKey: readKey(`${kind?.toUpperCase()}_API_KEY`),
        authStyle: name === "anthropic" ? "x-api-key" : "bearer",
        isHosted: !isOwn,
        hasContinuousUsage: isOwn,
        hasTokenCount: name === "anthropic" || isOwn,
        hasTokenize: isOwn,
      };
    }),
  ];

  /** Those that only the secrets have a key for. */
  function keyed(known: readonly ProviderConfig[]): ProviderConfig[] {
    return (["openai", "anthropic"] as const)
      .filter((name) => !known.some((each) => each.name === name))
      .filter((name) => readKey(`${name.toUpperCase()}_API_KEY`) !== null)
      .map((name) => ({ name, baseUrl: HOSTED[name], apiKey: null }));
  }
}
