/**
 * Builds the egress proxy: which engine carries the bytes, and the guard that decides for it.
 *
 * Invariant: without an authority (the secrets are sealed) there is no proxy, and without a proxy
 * no allocation is told of one: it is not placed, since it could reach nothing.
 */
import { lookup } from "node:dns/promises";
import { sql } from "drizzle-orm";
import { type Authority, openAuthority } from "../proxy/egress/ca.ts";
import { openEmbeddedProxy } from "../proxy/egress/embedded.ts";
import type { EgressProxy } from "../proxy/egress/guard.ts";
import { openMitmproxy } from "../proxy/egress/mitmproxy.ts";
import { createEgressGuard, type EgressGuardOptions } from "../proxy/egress/sessions-postgres.ts";
import { makePassage } from "../worker-agent/rooms.ts";
import { gatewayAddress } from "./addresses.ts";
import { buildReplays } from "./compose-replay.ts";
import { openSecrets } from "./compose-secrets.ts";
import { openTraffic } from "./compose-traffic.ts";
import type { Config } from "./config.ts";
import type { Finding } from "./contract/system.ts";
import type { Database } from "./db/database.ts";
import { migrate } from "./db/migrate.ts";
import { openPostgresDatabase } from "./db/postgres.ts";
import { createKeys } from "./keys/postgres.ts";
import { Problem } from "./problem.ts";
import { createLayout, type Layout } from "./projects/layout.ts";
import { type PostgresProjects, readProject } from "./projects/postgres.ts";
import { type BackgroundTask, startBackground } from "./runtime/background.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import { createIds } from "./runtime/ids.ts";
import type { Log } from "./runtime/log.ts";
import { choosePort } from "./runtime/ports.ts";
import { systemRandom as random } from "./runtime/random.ts";
import type { Secrets } from "./secrets/secrets.ts";
import type { FlowSink } from "./traffic/sink.ts";
import { createEgressEvents } from "./trials/egress-events.ts";
import type { EgressDoor } from "./trials/egress-sessions.ts";

const ids = createIds(clock, random);
const RETRY_MS = 2_000;

export interface EgressParts {
  db: Database;
  projects: Pick<PostgresProjects, "findById">;
  secrets: Secrets;
  layout: Pick<Layout, "egress">;
  sink: FlowSink;
  log: Log;
}

type Settings = Pick<
  Config,
  "egress" | "host" | "apiUrl" | "scheduler" | "databaseUrl" | "elasticsearch" | "nomad" | "secrets"
>;

export interface Egress extends AsyncDisposable {
  door: EgressDoor;
  /**
   * Listens, or says in the log why not and tries again: sealed secrets are no reason not to start.
   *
   * @param lastUrl where it listened before: its port is kept, so that workers find it again.
   * @throws Error when the port is taken, or the engine is not there.
   */
  start(lastUrl: string | undefined): Promise<void>;
  fault(): Promise<string | null>;
  describe(): Promise<Finding>;
}

/** @param options what else of ours must not be reached: the API and the gateway. */
export function buildEgress(
  { db, projects, secrets, layout, sink, log }: EgressParts,
  config: Settings,
  { ownAddresses, ...options }: EgressGuardOptions,
): Egress {
  const events = createEgressEvents(db, clock);
  const guard = createEgressGuard(
    { db, projects, secrets, resolver: { resolve }, clock, log, sink, ...events },
    {
      ...options,
      ownAddresses: () => [...ownAddresses(), ...engineAddresses(config)],
      perSession: config.egress.perSession,
    },
  );
  let authority: Authority | null = null;
  let proxy: EgressProxy | null = null;
  let why = "it has not started yet";
  const closing = new AsyncDisposableStack();
  return { door, start, fault, describe, [Symbol.asyncDispose]: () => closing.disposeAsync() };

  function door(): ReturnType<EgressDoor> {
    if (authority === null) return null;
    const authorityPem = authority.certificatePem;
    if (config.egress.url !== null) return { url: config.egress.url, authorityPem };
    return proxy === null ? null : { url: gatewayAddress(config, proxy.url), authorityPem };
  }

  async function start(lastUrl: string | undefined): Promise<void> {
    const port = await choosePort(config.egress.port, config.host, lastUrl);
    await open(port);
    const again: BackgroundTask = {
      name: "open_egress",
      periodMs: RETRY_MS,
      activate: async () => {
        if (authority === null) await open(port);
        return { is_open: authority !== null };
      },
    };
    const background = startBackground([guard.watch, again], log);
    closing.defer(() => background.stop());
  }

  async function open(port: number): Promise<void> {
    try {
      const opened = await openAuthority({ secrets, clock, random });
      if (config.egress.url === null) proxy = closing.use(await openEngine(opened, port));
      authority = opened;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "secrets_sealed") throw error;
      if (why !== error.message)
        log.warn({ err: error }, "no egress proxy: the secrets are sealed");
      why = error.message;
    }
  }

  async function openEngine(opened: Authority, port: number): Promise<EgressProxy> {
    const deps = { guard, sink, authority: opened, ids, clock, log };
    const { host } = config;
    if (config.egress.engine === "embedded") return openEmbeddedProxy(deps, { host, port });
    const { mitmdump } = config.egress;
    return openMitmproxy(deps, { mitmdump, host, port, dir: layout.egress, mode: "regular" });
  }

  async function fault(): Promise<string | null> {
    if (door() === null) return why;
    return proxy === null ? null : proxy.fault();
  }

  async function describe(): Promise<Finding> {
    const part = "egress";
    const found = await fault();
    const { engine, url } = config.egress;
    const at = door()?.url ?? "nowhere";
    if (found !== null) {
      const next = "unseal the secrets, or read the log; no trial starts meanwhile";
      return { part, status: "warn", detail: `${engine}: ${found}`, next_step: next };
    }
    const detail = url === null ? `${engine} at ${at}` : `processes of their own at ${url}`;
    return { part, status: "ok", detail, next_step: null };
  }
}

/** Each address once, in the order the system gave them. */
async function resolve(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true, order: "verbatim" });
  return [...new Set(found.map(({ address }) => address))];
}

/** What must not be reached through a proxy, whatever a rule says. */
function engineAddresses(config: Settings): string[] {
  const vault = config.secrets.vault?.address;
  return [
    config.databaseUrl,
    config.elasticsearch?.url,
    config.nomad?.address,
    vault,
    config.egress.url,
  ].filter((each): each is string => typeof each === "string");
}

export interface EgressProcess extends AsyncDisposable {
  /** @throws Error when the port is taken, or the engine is not there. */
  start(): Promise<void>;
  door: EgressDoor;
  /** Null when it serves. */
  fault(): Promise<string | null>;
}

/**
 * An egress proxy on the database that `DATABASE_URL` names, without an orchestrator: beside the
 * workers of one network, say.
 *
 * @throws Problem `unavailable` when the database does not answer.
 */
export async function composeEgress(
  config: Config & { databaseUrl: string },
  log: Log,
): Promise<EgressProcess> {
  await using opening = new AsyncDisposableStack();
  const layout = createLayout(config.home);
  await makePassage(layout.shared);
  const db = opening.use(await openPostgresDatabase({ url: config.databaseUrl, log }));
  await migrate(db, { clock });
  const { secrets, watch } = opening.use(await openSecrets(config, log));
  const ownKeys = () => config.providers.flatMap(({ apiKey }) => apiKey ?? []);
  const record = opening.use(await openTraffic({ db, layout, secrets, ownKeys, log }, config));
  const sink = await record.openSink("egress", config.egress.engine);
  const { replays } = buildReplays({
    ...{ db, traffic: record.traffic, redact: record.redact, log },
    keys: createKeys(db, clock, ids, random),
  });
  // Of an orchestrator what it is told of them: they are elsewhere.
  const ours = [config.apiUrl, config.gatewayUrl].filter((each) => each !== null);
  const egress = opening.use(
    buildEgress(
      { db, projects: { findById: (id) => readProject(db.sql, id) }, secrets, layout, sink, log },
      { ...config, egress: { ...config.egress, url: null } },
      {
        ownAddresses: () => ours,
        gatewayUrl: () => config.gatewayUrl ?? "",
        replay: replays.decide,
      },
    ),
  );
  const opened = opening.move();
  return { start, door: egress.door, fault, [Symbol.asyncDispose]: () => opened.disposeAsync() };

  async function start(): Promise<void> {
    await record.start();
    await egress.start(undefined);
    const background = startBackground([watch.task], log);
    opened.defer(() => background.stop());
  }

  async function fault(): Promise<string | null> {
    const isThere = await db.sql.execute(sql`select 1`).then(
      () => true,
      () => false,
    );
    return isThere ? egress.fault() : "the database does not answer";
  }
}
