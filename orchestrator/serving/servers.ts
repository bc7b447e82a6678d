/**
 * Makes engines what their rows say: one leader a machine does it, a round a second. All that it
 * must know is in the rows and at the launcher; what it remembers (misses, busy moments, pulls) it
 * may lose.
 *
 * Invariant: a row says `ready` only while its engine answers, and says otherwise before the engine
 * is put to sleep or ended.
 */
import { createServer } from "node:net";
import { sql } from "drizzle-orm";
import type { ModelCard } from "../../models/card.ts";
import type { EngineMetrics, ModelPlan, PairPlan } from "../contract/models.ts";
import type { Database } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import type { BackgroundTask } from "../runtime/background.ts";
import { type Clock, type EpochMs, rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { Log } from "../runtime/log.ts";
import type { Weights } from "../weights/weights.ts";
import { endEngines } from "./end-engines.ts";
import { type EngineClient, listenAddress } from "./engine-client.ts";
import { readEngineMetrics } from "./engine-metrics.ts";
import { type EngineOptions, type EngineStep, nextStep, type Seen } from "./engine-state.ts";
import { createPulls, type WantedWeights } from "./pulls.ts";
import {
  engineId,
  modelPlan,
  readServers,
  SERVED_CHANNEL,
  type ServerRow,
  unitOf,
  viewOf,
} from "./rows.ts";
import type { EngineCondition, EngineLauncher, EngineProgram, EngineSpec } from "./serving.ts";
import { createStopBackoff } from "./stop-backoff.ts";
import { nextTurn, type SwapOptions } from "./swap.ts";
import { createSwapMeter } from "./swap-meter.ts";
import { type Queued, unitsOf } from "./turns.ts";

export interface ServersDeps {
  db: Pick<Database, "sql">;
  launcher: EngineLauncher;
  client: EngineClient;
  weights: Pick<Weights, "find" | "pull">;
  cards: ReadonlyMap<string, ModelCard>;
  /** Takes what an engine that answers says at `/metrics`; never rejects. */
  observe?: (row: ServerRow, text: string, startedAtMs: EpochMs) => Promise<void>;
  /** What serves a model, as the launcher takes it. @throws Problem where it cannot. */
  program: (engine: EngineToStart) => EngineProgram;
  /** The gateway of this process knows afterwards what rows say; others hear of it. */
  tellGateway: () => Promise<void>;
  /** Charges the swaps that are written down, and tells of them. */
  settleSwaps: () => Promise<unknown>;
  /** Whether another orchestrator of this machine lives. */
  isShared: () => Promise<boolean>;
  clock: Clock;
  /** Milliseconds that are never set back: what a swap takes is paid for, what fails waits. */
  nowMs: () => number;
  log: Log;
}

export interface EngineToStart {
  id: string;
  card: ModelCard;
  plan: ModelPlan;
  /** What `plan` is of. */
  pairPlan: PairPlan;
  weightsDir: string;
  baseUrl: string;
  isSleepable: boolean;
}

export interface ServersOptions {
  machine: string;
  engine: EngineOptions;
  swap: SwapOptions;
  /** How long after its last call an engine still counts as busy. */
  idleMs: number;
  periodMs: number;
}

export interface Servers extends AsyncDisposable {
  /** A duty of this machine's orchestrators. */
  readonly task: BackgroundTask;
  /** Ends the rounds, and the engines of this machine unless another here looks after them. */
  endAll(): Promise<void>;
}

interface Looked {
  row: ServerRow;
  condition: EngineCondition;
}

/** Rounds at once, while each has moved something. */
const ROUNDS_MAX = 8;
const DETAIL_MAX = 8_000;

export function createServers(deps: ServersDeps, options: ServersOptions): Servers {
  const { db, launcher, client, clock, log } = deps;
  const misses = new Map<string, number>();
  const busyAt = new Map<string, EpochMs>();
  const swaps = createSwapMeter(db, clock, deps.nowMs);
  const backoff = createStopBackoff(deps.nowMs);
  const closing = new AbortController();
  const pulls = createPulls(deps.weights, log, closing.signal);
  const task: BackgroundTask = {
    name: `model_servers_${options.machine}`.slice(0, 100),
    periodMs: options.periodMs,
    activate,
  };
  return { task, endAll, [Symbol.asyncDispose]: async () => closing.abort() };

  async function activate(): Promise<{ engines: number }> {
    await deps.settleSwaps();
    for (let round = 0; ; round++) {
      if (closing.signal.aborted) return { engines: 0 };
      const servers = await readServers(db.sql, sql`machine = ${options.machine}`);
      if (servers.length === 0) return { engines: 0 };
      const hasMoved = (await giveTurn(servers)) || (await stepAll(servers));
      if (!hasMoved || round >= ROUNDS_MAX) return { engines: servers.length };
    }
  }

  async function endAll(): Promise<void> {
    closing.abort();
    await endEngines(deps, options);
  }

  /** Whether another unit's turn has begun. */
  async function giveTurn(servers: readonly ServerRow[]): Promise<boolean> {
    const nowMs = clock.now();
    const { units, turnSinceMs } = unitsOf(servers, await readQueue(db), isBusy, nowMs);
    // A turn that a download takes would leave the GPUs to nobody.
    const isComing = (row: ServerRow) => pulls.progress(engineId(row)) !== null;
    const able = units.filter((unit) => unit.isAwake || !unit.rows.some(isComing));
    const next = nextTurn(able, { nowMs, turnSinceMs }, options.swap);
    if (next === null) return false;
    const trialId = units.find(({ id }) => id === next)?.waitingFor ?? null;
    const awake = servers.filter((row) => unitOf(row) === next).map(engineKey);
    const isNext = sql`pair || '/' || side = any(${sql.param(awake)}::text[])`;
    // All rows at once: a half-given turn would leave two awake, or none.
    await db.sql.execute(sql`update model_server
      set is_awake = ${isNext},
        turn_by = case when ${isNext} and has_served and not is_awake then ${trialId} end
      where machine = ${options.machine}`);
    swaps.begin();
    log.info({ unit: next, trial_id: trialId }, "models: another turn on the GPUs");
    return true;
  }

  function isBusy(row: ServerRow): boolean {
    const atMs = busyAt.get(engineId(row));
    return atMs !== undefined && clock.now() - atMs < options.idleMs;
  }

  /** Whether one of them has moved. One that fails hinders no other. */
  async function stepAll(servers: readonly ServerRow[]): Promise<boolean> {
    const looked = await Promise.all(
      servers.map(async (row) => ({ row, condition: await launcher.condition(engineId(row)) })),
    );
    const tryOne = async (engine: Looked) => {
      try {
        return await stepOne(engine, looked);
      } catch (error) {
        if (closing.signal.aborted) return false;
        log.error({ err: error, engine: engineId(engine.row) }, "model server not looked after");
        return false;
      }
    };
    // What leaves the GPUs does so side by side, and then what comes loads one by one.
    const isComing = ({ row }: Looked) => row.is_wanted && row.is_awake;
    const left = await Promise.all(looked.filter((engine) => !isComing(engine)).map(tryOne));
    let hasMoved = left.includes(true);
    for (const engine of looked.filter(isComing)) hasMoved = (await tryOne(engine)) || hasMoved;
    return hasMoved;
  }

  async function stepOne(engine: Looked, all: readonly Looked[]): Promise<boolean> {
    const { row, condition } = engine;
    if (backoff.isHeld(engineId(row), askedOf(engine))) return false;
    if (!row.is_wanted) pulls.drop(engineId(row));
    const { seen, metrics } = await look(engine, all);
    const step = await pullAhead(row, condition, nextStep(viewOf(row), seen, options.engine));
    // Gateways hear that it leaves before it does; that it is there, once it is.
    const isLeaving = step.action !== null && step.action !== "start" && step.action !== "wake";
    if (isLeaving && row.state === "ready") {
      await write(row, { ...step, state: "draining" }, metrics);
    }
    if (isLeaving) await deps.tellGateway();
    swaps.look(row, step.action, condition);
    const done = await act(engine, step);
    if (done.action === "start") engine.condition = { state: "running", startedAtMs: clock.now() };
    if (done.action === "wake") engine.row = { ...row, state: "starting" };
    if (done.action === "stop") engine.condition = { state: "absent" };
    if (done.action === "remove") {
      await db.sql.execute(sql`
        with gone as (delete from model_server
          where pair = ${row.pair} and side = ${row.side} and not is_wanted returning pair)
        select pg_notify(${SERVED_CHANNEL}, '') from gone`);
      return true;
    }
    const hasChanged = await write(row, done, metrics);
    if (done.state === "ready" && (row.state !== "ready" || row.turn_by !== null)) {
      await swaps.end(row);
      if (row.turn_by !== null) await deps.settleSwaps();
    }
    return hasChanged && (done.state !== row.state || condition.state !== engine.condition.state);
  }

  /** Weights come while an engine waits for its turn: it then waits for its own alone. */
  async function pullAhead(
    row: ServerRow,
    { state }: EngineCondition,
    step: EngineStep,
  ): Promise<EngineStep> {
    if (state !== "absent" || step.state !== "starting" || step.action !== null) return step;
    try {
      await pulls.ahead(engineId(row), wantedBy(deps.cards, row));
      return step;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return { ...step, state: "failed", detail: error.message };
    }
  }

  async function look(
    { row, condition }: Looked,
    all: readonly Looked[],
  ): Promise<{ seen: Seen; metrics: EngineMetrics | null }> {
    const id = engineId(row);
    const isUp = condition.state === "running" && row.state !== "sleeping";
    const answers = isUp && (await client.answers(row.base_url, row.model));
    misses.set(id, answers || !isUp ? 0 : (misses.get(id) ?? 0) + 1);
    const text = answers ? await client.metrics(row.base_url) : null;
    if (text !== null && condition.state === "running") {
      await deps.observe?.(row, text, condition.startedAtMs);
    }
    const nowMs = clock.now();
    const metrics = text === null ? null : readEngineMetrics(text, nowMs, row.metrics);
    const inFlight = metrics === null ? null : metrics.running + metrics.waiting;
    const before = row.metrics?.generation_tokens_total ?? metrics?.generation_tokens_total;
    if ((inFlight ?? 0) > 0 || metrics?.generation_tokens_total !== before) busyAt.set(id, nowMs);
    const seen = {
      nowMs,
      condition,
      answers,
      misses: misses.get(id) ?? 0,
      inFlight,
      isSleepable: isSleepable(row),
      gpusHeldBy: holderOf(row, all),
    };
    return { seen, metrics: isUp ? metrics : null };
  }

  /** What came of the step: an action that fails is a state of its own. */
  async function act(engine: Looked, step: EngineStep): Promise<EngineStep> {
    const { row } = engine;
    const id = engineId(row);
    switch (step.action) {
      case "start":
        return start(row, step);
      case "stop":
        return end(engine, step);
      case "sleep":
        return client.sleep(row.base_url, closing.signal).then(
          () => step,
          async (error: Error) => {
            closing.signal.throwIfAborted();
            log.warn({ err: error, engine: id }, "engine does not sleep; it is ended instead");
            return end(engine, { ...step, detail: `ended to free its GPUs: ${error.message}` });
          },
        );
      case "wake":
        return client.wake(row.base_url, closing.signal).then(
          () => step,
          async (error: Error) => {
            closing.signal.throwIfAborted();
            log.warn({ err: error, engine: id }, "engine does not wake; it is started again");
            return end(engine, { ...step, detail: `is started again: ${error.message}` });
          },
        );
      default:
        return step.state === "starting"
          ? { ...step, detail: pulls.progress(id) ?? step.detail }
          : step;
    }
  }

  /** One that does not end keeps its GPUs: it stays as it is, says so, and is tried again. */
  async function end(engine: Looked, step: EngineStep): Promise<EngineStep> {
    const { row } = engine;
    try {
      await launcher.stop(engineId(row));
      backoff.ended(engineId(row));
      return { ...step, action: "stop" };
    } catch (error) {
      backoff.failed(engineId(row), askedOf(engine));
      if (!(error instanceof Problem)) throw error;
      const { hasServed, restarts, notBeforeMs } = viewOf(row);
      const state = row.state === "ready" ? "draining" : row.state;
      return { hasServed, restarts, notBeforeMs, state, detail: error.message, action: null };
    }
  }

  async function start(row: ServerRow, step: EngineStep): Promise<EngineStep> {
    const plan = modelPlan(row);
    try {
      const wanted = wantedBy(deps.cards, row);
      const { card } = wanted;
      const weightsDir = await pulls.find(engineId(row), wanted);
      if (weightsDir === null) {
        // Nobody pays for GPUs by what a download takes.
        swaps.forget(row);
        const detail = pulls.progress(engineId(row)) ?? "pulls its weights";
        return { ...step, detail, action: null };
      }
      const engine = { id: engineId(row), baseUrl: row.base_url };
      const facts = { card, plan, pairPlan: row.plan, isSleepable: isSleepable(row) };
      const program = deps.program({ ...engine, ...facts, weightsDir });
      return await launch({ ...engine, model: row.model, program }, row, step);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (isPortTaken(error)) return move(row, step);
      return { ...step, state: "failed", detail: error.message, action: null };
    }
  }

  /** A cluster that is away for a moment has refused nothing: it is asked again. */
  async function launch(spec: EngineSpec, row: ServerRow, step: EngineStep): Promise<EngineStep> {
    try {
      await launcher.start(spec);
      return step;
    } catch (error) {
      if (!(error instanceof Problem && error.code === "unavailable")) throw error;
      swaps.forget(row);
      return { ...step, state: "starting", detail: error.message, action: null };
    }
  }

  /** Its port was free when it was brought up, and is not now: it gets another. */
  async function move(row: ServerRow, step: EngineStep): Promise<EngineStep> {
    const baseUrl = await atFreePort(row.base_url);
    await db.sql.execute(sql`update model_server set base_url = ${baseUrl}
      where pair = ${row.pair} and side = ${row.side} and base_url = ${row.base_url}`);
    return { ...step, detail: "its port was taken: it gets another", action: null };
  }

  /** Whether anything but its figures was new. Overtaken by an up or a down, it writes nothing. */
  async function write(
    row: ServerRow,
    step: EngineStep,
    metrics: EngineMetrics | null,
  ): Promise<boolean> {
    const isNew = step.state !== row.state;
    const detail = step.detail.slice(0, DETAIL_MAX);
    const notBefore = step.notBeforeMs === null ? null : rfc3339(step.notBeforeMs);
    const same =
      !isNew && detail === row.detail && step.restarts === row.restarts && notBefore === null;
    if (same && row.not_before === null && metrics === null && row.metrics === null) return false;
    const changed = await rows<{ pair: string }>(
      db.sql,
      sql`update model_server
        set state = ${step.state}, detail = ${detail}, has_served = ${step.hasServed},
          restarts = ${step.restarts}, not_before = ${notBefore},
          metrics = ${metrics === null ? null : JSON.stringify(metrics)}::jsonb,
          since = case when ${isNew} then ${rfc3339(clock.now())}::timestamptz else since end
        where pair = ${row.pair} and side = ${row.side} and is_wanted = ${row.is_wanted}
          and brought_up_at = ${row.brought_up_at}::timestamptz
        returning pair`,
    );
    if (changed.length === 0 || same) return false;
    if (isNew) {
      const { pair, side } = row;
      log.info({ pair, side, from: row.state, to: step.state, detail }, "model server");
      await db.sql.execute(sql`select pg_notify(${SERVED_CHANNEL}, '')`);
    }
    return true;
  }
}

/** Of each pair the trial that is first in line. */
async function readQueue(db: Pick<Database, "sql">): Promise<Queued[]> {
  const found = await rows<{ pair: string; id: TrialId; created_at: string }>(
    db.sql,
    sql`select distinct on (pair) pair, id, created_at from trial
      where state = 'queued' and not cancel_requested and replay_of is null
      order by pair, created_at`,
  );
  return found.map(({ pair, id: trialId, created_at: since }) => ({
    ...{ pair, trialId },
    sinceMs: readTime(since),
  }));
}

/** @throws Problem when its card is gone. */
function wantedBy(cards: ServersDeps["cards"], row: ServerRow): WantedWeights {
  const card = cards.get(row.model);
  if (card === undefined) throw new Problem("conflict", `no card of ${row.model} any more`);
  const { quantisation } = modelPlan(row);
  return { card, quantisation, acceptedLicences: row.accepted_licences };
}

function isPortTaken({ cause }: Problem): boolean {
  return cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE";
}

async function atFreePort(baseUrl: string): Promise<string> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once("error", reject).listen(0, listenAddress(baseUrl).host, resolve);
  });
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  const url = new URL(baseUrl);
  url.port = String(typeof address === "object" ? address?.port : "");
  return url.origin;
}

function engineKey({ pair, side }: ServerRow): string {
  return `${pair}/${side}`;
}

/** By which an end that failed is told from another: who asks for it, and of what. */
function askedOf({ row, condition }: Looked): string {
  return JSON.stringify([row.brought_up_at, row.is_wanted, row.is_awake, condition.state]);
}

/** It alternates with another: it sleeps between its turns. Others end, which frees all. */
function isSleepable({ plan }: ServerRow): boolean {
  return plan.residency === "alternate";
}

/**
 * Who has the GPUs that it needs: an engine of another unit, or one of its own that shares GPUs
 * with it and still loads, since each measures what is free as it does.
 */
function holderOf(row: ServerRow, all: readonly Looked[]): string | null {
  const holder = all.find(({ row: other, condition }) => {
    if (engineId(other) === engineId(row)) return false;
    if (condition.state !== "running" || other.state === "sleeping") return false;
    if (unitOf(other) !== unitOf(row)) return true;
    const { gpus } = modelPlan(row);
    const isShared = modelPlan(other).gpus.some((gpu) => gpus.includes(gpu));
    return isShared && other.state === "starting";
  });
  return holder === undefined ? null : `${holder.row.model} (${holder.row.pair})`;
}
