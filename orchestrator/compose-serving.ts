/** Wires what plans and serves models on own GPUs. */
import { hostname } from "node:os";
import { join } from "node:path";
import type { Catalog } from "../models/catalog.ts";
import { loadHardware } from "../models/hardware.ts";
import { nearestName } from "../models/nearest.ts";
import type { Models } from "./api/services.ts";
import { openLauncher } from "./compose-launcher.ts";
import { createObserver } from "./compose-samples.ts";
import type { Config } from "./config.ts";
import type { ServingConfig } from "./config-serving.ts";
import type { AgentFacts } from "./contract/agents.ts";
import type { ServedPair, UpRequest } from "./contract/models.ts";
import type { Finding } from "./contract/system.ts";
import type { Database, Sql } from "./db/database.ts";
import type { Register } from "./duties/register.ts";
import type { Ledger } from "./ledger/ledger.ts";
import { Problem } from "./problem.ts";
import type { Days } from "./projects/day.ts";
import type { Layout } from "./projects/layout.ts";
import type { PostgresProjects } from "./projects/postgres.ts";
import { createSwapPayer } from "./projects/swap-payer.ts";
import type { BackgroundTask } from "./runtime/background.ts";
import { systemClock as clock, monotonicMs } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import { engineFigures } from "./serving/engine-figures.ts";
import { ENGINE_DEFAULTS, type EngineOptions } from "./serving/engine-state.ts";
import { createModelServers } from "./serving/model-servers.ts";
import { findOwnGpus } from "./serving/own-gpus.ts";
import { createPlanner, type Planner } from "./serving/planner.ts";
import { createRenders } from "./serving/renders.ts";
import { readServers } from "./serving/rows.ts";
import { createServers } from "./serving/servers.ts";
import { SWAP_DEFAULTS } from "./serving/swap.ts";
import { createSwapCharges } from "./serving/swap-charge.ts";
import { createEgressEvents } from "./trials/egress-events.ts";
import type { Weights } from "./weights/weights.ts";

const PERIOD_MS = 1_000;
const SETTLE_ALONE_MS = 500;
const OPEN_ENGINES =
  "trials here are not isolated, so agents reach these engines past the gateway, outside of every " +
  "budget: install iproute2 and nftables, or bubblewrap, and start again";
const IDLE_MS = 1_500;

/** Disposed of, it looks after engines no more; they end with `end`. */
export interface Serving extends AsyncDisposable {
  models: Models;
  /** One process of this machine does this for all. */
  task: BackgroundTask;
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** In order: what we started ends with the last of us here. A kill leaves it to the next. */
  end(): Promise<void>;
  /** Which launcher engines have, and whether it answers. */
  describe(): Promise<Finding>;
}

export interface ServingParts {
  db: Database;
  layout: Pick<Layout, "engines" | "logs" | "weights">;
  planner: Planner;
  catalog: Pick<Catalog, "cards" | "book">;
  weights: Weights;
  /** Who pays for a swap, and out of what. */
  projects: Pick<PostgresProjects, "findById" | "accounts">;
  days: Days;
  ledgerIn: (transaction: { sql: Sql }) => Ledger;
  /** What keeps trials of this machine apart; null: they run elsewhere. */
  isolation: () => Promise<{ kind: "namespace" | "sandbox" | "none" } | null>;
  /** Our own gateway knows afterwards what the database says of engines. */
  tellGateway: () => Promise<void>;
  /** The orchestrators of our database: our engines run on for another of this machine. */
  register: Pick<Register, "list" | "leave">;
  log: Log;
}

export async function buildServing(
  parts: ServingParts,
  { serving, workerEnv }: Pick<Config, "serving" | "workerEnv">,
): Promise<Serving> {
  const { db, layout, planner, catalog, weights, register, projects, days, ledgerIn, log } = parts;
  const machine = hostname();
  const { cards } = catalog;
  const { launcher, client, program, describe } = await openLauncher(
    { layout, log },
    { serving, workerEnv },
  );
  const swap = SWAP_DEFAULTS;
  const charges = createSwapCharges({
    ...{ db, ledgerIn, fx: catalog.book.fx, clock, log },
    payer: createSwapPayer(db, projects, days),
    tell: createEgressEvents(db, clock).tell,
  });
  const servers = createServers(
    {
      ...{ db, launcher, weights, cards, clock, log, nowMs: monotonicMs },
      client,
      observe: createObserver(db, log),
      settleSwaps: charges.settle,
      tellGateway: parts.tellGateway,
      ...{ program, isShared },
    },
    { machine, engine: engineOptions(db), swap, idleMs: IDLE_MS, periodMs: PERIOD_MS },
  );
  const upAndDown = createModelServers(
    { db, launcher, weights, cards, planner, others: register.list, clock },
    { machine, swap },
  );
  const { plan, hardware } = planner;
  const { render } = createRenders({
    ...{ planner, cards, weights, weightsRoot: layout.weights, python: serving.python },
    servingDir: join(import.meta.dirname, "../models/serving"),
  });
  return {
    models: { ...upAndDown, up, plan, hardware, render },
    task: servers.task,
    describe,
    metrics: async () => engineFigures(await readServers(db.sql)),
    end,
    [Symbol.asyncDispose]: servers[Symbol.asyncDispose],
  };

  async function up(request: UpRequest): Promise<ServedPair> {
    const served = await upAndDown.up(request);
    const isOpen = request.is_dry_run !== true && (await parts.isolation())?.kind === "none";
    return isOpen ? { ...served, warnings: [OPEN_ENGINES] } : served;
  }

  /** We leave before we look: of two that end at once the later one sees nobody, and ends them. */
  async function end(): Promise<void> {
    await register.leave();
    await servers.endAll();
    await launcher[Symbol.asyncDispose]();
  }

  async function isShared(): Promise<boolean> {
    return (await register.list()).some(
      ({ host, is_this: isThis, is_alive: isAlive }) => isAlive && !isThis && host === machine,
    );
  }
}

/**
 * The embedded database has one process at a time, so that its gateway is the only one, and is told
 * before an engine leaves: what it had sent has to arrive. Others look every few seconds.
 */
function engineOptions({ name }: Pick<Database, "name">): EngineOptions {
  return name === "embedded" ? { ...ENGINE_DEFAULTS, settleMs: SETTLE_ALONE_MS } : ENGINE_DEFAULTS;
}

/** @param root the folder that has `models/`. @throws CatalogError for a file that is not right. */
export async function buildPlanner(
  root: string,
  catalog: Catalog,
  agents: readonly AgentFacts[],
  { gpus: configured, hardwareFile }: Pick<ServingConfig, "gpus" | "hardwareFile">,
): Promise<Planner> {
  const gpus = await loadHardware(join(root, "models"), hardwareFile);
  if (configured !== null && !gpus.has(configured.name)) {
    const nearest = `the nearest is "${nearestName(configured.name, gpus.keys())}"`;
    const known = `known: ${[...gpus.keys()].join(", ")}`;
    const detail = `AUTOCODE_GPUS: unknown GPU "${configured.name}"; ${nearest}; ${known}`;
    throw new Problem("invalid_request", detail);
  }
  const own = () => findOwnGpus(configured, gpus.keys());
  return createPlanner({ catalog, gpus, own, agents });
}
