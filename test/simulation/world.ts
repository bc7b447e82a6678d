/**
 * The world around an orchestrator that is killed again and again: one real database, a scheduler
 * and workers that outlive it, and everything else made anew for each life of the process.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "drizzle-orm";
import { createBlobs } from "../../orchestrator/checkpoints/files.ts";
import { createCheckpoints } from "../../orchestrator/checkpoints/postgres.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { createDays } from "../../orchestrator/projects/day.ts";
import { createLayout } from "../../orchestrator/projects/layout.ts";
import { createProjects } from "../../orchestrator/projects/postgres.ts";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import { createIds } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { type Random, seededRandom } from "../../orchestrator/runtime/random.ts";
import type { Scheduler } from "../../orchestrator/scheduler/scheduler.ts";
import type { Secrets } from "../../orchestrator/secrets/secrets.ts";
import { createTasks } from "../../orchestrator/tasks/tasks.ts";
import { createPacketRecords } from "../../orchestrator/traffic/packets.ts";
import type { FlowDraft } from "../../orchestrator/traffic/sink.ts";
import { createApprovals } from "../../orchestrator/trials/approvals-postgres.ts";
import { createEngine } from "../../orchestrator/trials/engine.ts";
import { createEnrolments } from "../../orchestrator/trials/enrolment.ts";
import { createGatewayEvents } from "../../orchestrator/trials/gateway-events.ts";
import type { Pairs } from "../../orchestrator/trials/pairs.ts";
import { createTrials } from "../../orchestrator/trials/postgres.ts";
import { createWorkerSessions } from "../../orchestrator/trials/sessions.ts";
import { createSteps } from "../../orchestrator/trials/steps.ts";
import type { Wakes } from "../../orchestrator/trials/wakes.ts";
import { AGENTS } from "../../worker-agent/agents/registry.ts";
import { openTestDatabase, type TestDatabase } from "../support/database.ts";
import { createMemoryTraffic } from "../support/memory-traffic.ts";
import { testSecrets } from "../support/secrets.ts";
import { type CrashingDatabase, createCrashingDatabase } from "./crashing-database.ts";

/** Short, since leases and silences are measured by the database's own clock. */
export const LEASE_MS = 40;
export const CHECKPOINT_BYTES = 1_000_000;
export const CHECKPOINTS_KEPT = 3;
const NEVER = Number.MAX_SAFE_INTEGER;

/** What trials need of the secrets. */
export type Signer = Pick<Secrets, "sign" | "verify">;

/** One life of the orchestrator. */
export type Life = ReturnType<typeof openLife>;

export interface World extends AsyncDisposable {
  database: TestDatabase;
  clock: Clock;
  random: Random;
  home: string;
  open(options: LifeOptions): Life;
}

export interface LifeOptions {
  operations: number;
  isAppliedAtDeath: boolean;
  scheduler: Scheduler;
  /** The one of the process's tests, unless given. */
  secrets?: Signer;
  /** Polled, never woken, unless given. */
  wakes?: Wakes;
  leaseMs?: number;
  /** Never, unless given: a simulated worker is lost when its scheduler says so. */
  staleMs?: number;
  concurrency?: number;
  /** Why a trial of a pair waits for its models; nothing, unless given. */
  waitFor?: (pair: string) => string | null;
}

/** Stands for what a pair means; the simulated workers pay the ledger themselves. */
const pairs: Pairs = {
  check: () => {},
  list: () => [
    {
      name: "any",
      normal: "normal-1",
      thinking: "thinking-1",
      provider: "simulated",
      is_scripted: true,
      is_available: true,
      detail: "",
      agents: [],
    },
  ],
  resolve: (file, name) => {
    const price = {
      version: "simulated@1",
      currency: file.currency,
      inputNanosPerMillion: "1",
      cacheReadNanosPerMillion: "1",
      cacheWriteNanosPerMillion: "1",
      outputNanosPerMillion: "1",
    };
    const model = {
      provider: "simulated",
      wires: ["openai.chat"] as const,
      contextTokens: 32_768,
      maxOutputTokens: 8_192,
      price,
    };
    return {
      name,
      isScripted: true,
      models: [
        { ...model, side: "normal", name: "normal-1", upstreamName: "normal-1" },
        { ...model, side: "thinking", name: "thinking-1", upstreamName: "thinking-1" },
      ],
    };
  },
};

/** Polled, never woken: the simulation decides when anything happens. */
const noWakes: Wakes = {
  onTrial: () => ({ [Symbol.dispose]: () => {} }),
  onEvent: () => ({ [Symbol.dispose]: () => {} }),
  [Symbol.asyncDispose]: async () => {},
};

export async function openWorld(seed: number): Promise<World> {
  const database = await openTestDatabase();
  const home = await mkdtemp(join(tmpdir(), "autocode-simulation-"));
  const random = seededRandom(seed);
  let nowMs = Date.parse("2026-11-21T12:00:00Z");
  const clock: Clock = { now: () => ++nowMs };
  const ids = createIds(clock, random);
  const secrets = await testSecrets();
  return {
    database,
    clock,
    random,
    home,
    open: ({ operations, isAppliedAtDeath, ...options }) => {
      const db = createCrashingDatabase(database, { operations, isAppliedAtDeath });
      return openLife({ db, home, secrets, clock, ids, random, ...options });
    },
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await rm(home, { recursive: true, force: true });
    },
  };
}

function openLife(parts: {
  db: CrashingDatabase;
  home: string;
  secrets: Signer;
  clock: Clock;
  ids: ReturnType<typeof createIds>;
  random: Random;
  scheduler: Scheduler;
  wakes?: Wakes;
  leaseMs?: number;
  staleMs?: number;
  concurrency?: number;
  waitFor?: (pair: string) => string | null;
}) {
  const { db, home, secrets, clock, ids, random, scheduler } = parts;
  const { wakes = noWakes, leaseMs = LEASE_MS, staleMs = NEVER, concurrency = 2 } = parts;
  const { waitFor = () => null } = parts;
  const log = createLog("silent");
  const layout = createLayout(home);
  const ledger = createLedger(db, clock);
  const keys = createKeys(db, clock, ids, random);
  const ledgerIn = (tx: Parameters<typeof createLedger>[0]) => createLedger(tx, clock);
  const days = createDays({ db, ledgerIn, ids, clock });
  const tasks = createTasks(db, layout, clock, ids);
  const agents = AGENTS.map(({ facts }) => facts);
  const funds = { db, ledger, ledgerIn };
  const projects = createProjects({ ...funds, tasks, days, pairs, agents, clock, ids });
  const shared = { db, ledger, projects, tasks, pairs, agents, wakes, layout, clock, random };
  const enrolments = createEnrolments({ db, secrets, clock, random });
  const blobs = createBlobs(layout, clock, random);
  const dropped: FlowDraft[] = [];
  const steps = createSteps(
    { db, ledger, keys, projects, scheduler, clock, ids, enrolments, waitFor },
    { staleMs, stopGraceMs: 0, retryDelayMs: 1 },
  );
  return {
    db,
    ids,
    keys,
    ledger,
    projects,
    tasks,
    layout,
    enrolments,
    /** What workers' networks dropped, as it would be recorded. */
    dropped,
    events: createGatewayEvents(db, clock),
    approvals: createApprovals({
      ledgerIn: (transaction) => createLedger(transaction, clock),
      ...{ db, projects, clock, ids },
    }),
    trials: createTrials({ ...shared, traffic: createMemoryTraffic(), ids }),
    sessions: createWorkerSessions({
      ...{ ...shared, keys, enrolments },
      recordPackets: createPacketRecords(
        { append: async (draft) => void dropped.push(draft) },
        { clock, log },
      ),
      gatewayUrl: () => "http://127.0.0.1:1",
      replayUrl: () => "http://127.0.0.1:2",
      egress: () => null,
      artefactBytesMax: 1_000_000,
      checkpoints: { every_ms: 60_000, bytes_max: CHECKPOINT_BYTES },
    }),
    blobs,
    checkpoints: createCheckpoints(
      { db, blobs, clock },
      { bytesMax: CHECKPOINT_BYTES, kept: CHECKPOINTS_KEPT },
    ),
    engine: createEngine(
      { db, scheduler, wakes, steps, log },
      { leaseMs, pollMs: 1_000, concurrency },
    ),
  };
}

/** Lets leases run out, by the clock that they are measured with. */
export async function waitForLeases(database: TestDatabase): Promise<void> {
  await database.sql.execute(sql`select pg_sleep(${(LEASE_MS + 5) / 1000})`);
}
