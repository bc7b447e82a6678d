/** Pairs served by fake engines: the real rows, duty and processes, with another program behind. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadCatalog } from "../../models/catalog.ts";
import { loadHardware } from "../../models/hardware.ts";
import type { PairPlan, Residency, ServedPair } from "../../orchestrator/contract/models.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { systemClock as clock, monotonicMs } from "../../orchestrator/runtime/clock.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { createEngineClient, listenAddress } from "../../orchestrator/serving/engine-client.ts";
import { ENGINE_DEFAULTS } from "../../orchestrator/serving/engine-state.ts";
import { createModelServers } from "../../orchestrator/serving/model-servers.ts";
import { createPlanner } from "../../orchestrator/serving/planner.ts";
import { openProcesses } from "../../orchestrator/serving/processes.ts";
import { createServers, type ServersDeps } from "../../orchestrator/serving/servers.ts";
import type { EngineLauncher } from "../../orchestrator/serving/serving.ts";
import { createSwapCharges, type SwapChargesDeps } from "../../orchestrator/serving/swap-charge.ts";
import type { Weights } from "../../orchestrator/weights/weights.ts";
import { openTestDatabase, type TestDatabase } from "./database.ts";
import { eventually } from "./eventually.ts";

const ROOT = join(import.meta.dirname, "../..");
const FAKE = join(import.meta.dirname, "fake-engine.ts");
const log = createLog("silent");

export const MACHINE = "test-machine";
export const catalog = await loadCatalog(join(ROOT, "models"));
const gpus = await loadHardware(join(ROOT, "models"));

/** Short enough for a test, in the order of the real ones. */
export const QUICK = {
  ...ENGINE_DEFAULTS,
  ...{ settleMs: 10, backoffMs: 20, backoffMaxMs: 40, restartsMax: 2, missesMax: 2 },
  endMaxMs: 2_000,
};

export interface ServedWorldOptions {
  residency?: Residency;
  weights?: Pick<Weights, "find" | "pull" | "requireLicence">;
  engine?: Partial<typeof QUICK>;
  /** Of the trials that the test has. */
  payer?: SwapChargesDeps["payer"];
  tell?: SwapChargesDeps["tell"];
  /** One that outlives it; its own, unless given. */
  database?: TestDatabase;
  /** What plans say of a swap. */
  swapMs?: number;
  /** Around the real one. */
  launcher?: (real: EngineLauncher) => EngineLauncher;
  nowMs?: () => number;
  /** Whether another orchestrator of the machine lives, until the world is closed. */
  isShared?: () => boolean;
  /** Further arguments of a model's fake engine. */
  more?: (model: string) => string[];
}

export type ServedWorld = Awaited<ReturnType<typeof openServedWorld>>;

export async function openServedWorld(options: ServedWorldOptions = {}) {
  const folder = await mkdtemp(join(tmpdir(), "autocode-served-"));
  const database = options.database ?? (await openTestDatabase());
  const told: { trialId: string; data: Record<string, unknown> }[] = [];
  const weights = options.weights ?? storedWeights();
  const real = createPlanner({ catalog, gpus, own: async () => null, agents: [] });
  const planner = {
    ...real,
    plan: (request: Parameters<typeof real.plan>[0]): PairPlan => {
      const plan = real.plan(request);
      const { residency = plan.residency } = options;
      const { swapMs = residency === "alternate" ? 50 : null } = options;
      return { ...plan, residency, swap_ms: swapMs };
    },
  };
  const others = async () => [{ host: MACHINE, is_alive: true }];
  let isClosing = false;
  const first = await openLife();
  return {
    ...first,
    database,
    folder,
    told,
    openLife,
    untilServed,
    starts: (model: string) => join(folder, `starts-${model}`),
    [Symbol.asyncDispose]: close,
  };

  /** An orchestrator of this machine: another one finds what this one left. */
  async function openLife(engine: Partial<typeof QUICK> = {}) {
    const real = await openProcesses(
      { clock, log },
      {
        dir: join(folder, "engines"),
        logsDir: join(folder, "logs"),
        host: "127.0.0.1",
        env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
        ...{ graceMs: 2_000, pollMs: 10 },
      },
    );
    const launcher = options.launcher?.(real) ?? real;
    const charges = createSwapCharges({
      ...{ db: database, ledgerIn: (tx) => createLedger(tx, clock), clock, log },
      payer: options.payer ?? (() => assert.fail("no trial is there to pay")),
      fx: catalog.book.fx,
      tell: options.tell ?? (async (trialId, _type, data) => void told.push({ trialId, data })),
    });
    const deps: ServersDeps = {
      ...{ db: database, launcher, weights, cards: catalog.cards, clock, log },
      client: createEngineClient(),
      settleSwaps: charges.settle,
      tellGateway: async () => {},
      nowMs: options.nowMs ?? monotonicMs,
      isShared: async () => !isClosing && (options.isShared?.() ?? false),
      program: ({ card, baseUrl }) => {
        const { host, port } = listenAddress(baseUrl);
        const argv = [
          ...[process.execPath, FAKE, "--model", card.name],
          ...["--host", host, "--port", String(port)],
          ...["--starts", join(folder, `starts-${card.name}`)],
          ...(options.more?.(card.name) ?? []),
        ];
        return { kind: "command", argv, env: {} };
      },
    };
    const servers = createServers(deps, {
      machine: MACHINE,
      engine: { ...QUICK, ...options.engine, ...engine },
      swap: { turnMinMs: 50, waitMaxMs: 100 },
      ...{ idleMs: 30, periodMs: 20 },
    });
    const models = createModelServers(
      { db: database, launcher, weights, cards: catalog.cards, planner, others, clock },
      { machine: MACHINE, swap: { turnMinMs: 50, waitMaxMs: 100 } },
    );
    return { launcher, servers, models };
  }

  /** Rounds until the only pair is as wanted. */
  function untilServed(
    holds: (served: ServedPair | undefined) => boolean,
    life: Pick<typeof first, "servers" | "models"> = first,
  ): Promise<ServedPair | undefined> {
    const look = async () => {
      await life.servers.task.activate();
      return (await life.models.list())[0];
    };
    return eventually(look, holds, 20_000);
  }

  async function close(): Promise<void> {
    isClosing = true;
    await first.servers.endAll();
    await first.launcher[Symbol.asyncDispose]();
    if (options.database === undefined) await database[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  }
}

export function states(served: ServedPair | undefined): string {
  return served?.engines.map(({ state }) => state).join(" ") ?? "gone";
}

export function storedWeights(): Pick<Weights, "find" | "pull" | "requireLicence"> {
  const found = { dir: "/weights", revision: "0".repeat(40) };
  return { find: async () => found, pull: async () => found, requireLicence: async () => {} };
}

export type { TestDatabase };
