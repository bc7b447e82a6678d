/**
 * Pairs brought up and down: what people ask for becomes rows, which `servers.ts` makes true. With
 * its rows a pair gets the prices that its plan led to, so that no call of it is ever unpriced.
 */
import { sql } from "drizzle-orm";
import type { ModelCard } from "../../models/card.ts";
import type {
  EngineStatus,
  ModelPlan,
  PairPlan,
  ServedPair,
  UpRequest,
} from "../contract/models.ts";
import type { Orchestrator } from "../contract/orchestrators.ts";
import type { Database, Sql } from "../db/database.ts";
import { jsonText, readTime, rows } from "../db/rows.ts";
import { Problem } from "../problem.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { Weights } from "../weights/weights.ts";
import type { Planner } from "./planner.ts";
import { engineId, holdUps, readServers, SERVED_CHANNEL, type ServerRow, unitOf } from "./rows.ts";
import type { EngineLauncher, ModelServers } from "./serving.ts";
import { forecastWaitMs, type SwapOptions } from "./swap.ts";
import { type Queued, unitsOf } from "./turns.ts";

export interface ModelServersDeps {
  db: Database;
  launcher: Pick<EngineLauncher, "logs" | "addresses">;
  weights: Pick<Weights, "find" | "requireLicence">;
  cards: ReadonlyMap<string, ModelCard>;
  planner: Pick<Planner, "plan" | "pairName">;
  /** The orchestrators of our database. */
  others: () => Promise<Pick<Orchestrator, "host" | "is_alive">[]>;
  clock: Clock;
}

export interface ModelServersOptions {
  machine: string;
  swap: SwapOptions;
}

export function createModelServers(
  { db, launcher, weights, cards, planner, others, clock }: ModelServersDeps,
  { machine, swap }: ModelServersOptions,
): ModelServers {
  const { pairName } = planner;
  return { up, down, list, logs };

  async function up(request: UpRequest): Promise<ServedPair> {
    const plan = planner.plan(request.plan);
    if (request.is_dry_run === true) return planned(plan);
    if (!plan.fits) {
      const advice = plan.advice.length === 0 ? "" : `. Instead: ${plan.advice.join("; or ")}`;
      throw new Problem("conflict", `${plan.refusal ?? `${plan.pair} does not fit`}${advice}`);
    }
    const accepted = request.accepted_licences ?? [];
    for (const model of plan.models) await requireLicence(model, accepted);
    await db.sql.transaction(async (tx) => {
      await holdUps(tx);
      const there = await readServers(tx, sql`machine = ${machine}`);
      await refuseOther(tx, plan);
      // The first unit of a machine that serves nothing begins; the others get their turns.
      const isFree = !there.some(({ is_wanted: isWanted, is_awake: isAwake, pair }) => {
        return isWanted && isAwake && pair !== plan.pair;
      });
      const addresses = await launcher.addresses(plan);
      for (const [index, model] of plan.models.entries()) {
        const isFirst = index === 0 || plan.residency !== "alternate";
        const baseUrl = addresses[index];
        if (baseUrl === undefined) throw new Error(`${model.model} has no address`);
        await insertServer(tx, plan, model, { baseUrl, isAwake: isFree && isFirst, accepted });
        await insertPrice(tx, plan, model);
      }
      await tx.execute(sql`select pg_notify(${SERVED_CHANNEL}, '')`);
    });
    return find(plan.pair);
  }

  /** What is here already was accepted when it came. */
  async function requireLicence(
    { model, quantisation }: ModelPlan,
    accepted: readonly string[],
  ): Promise<void> {
    const card = cards.get(model);
    if (card === undefined || (await weights.find(model, quantisation)) !== null) return;
    await weights.requireLicence(card, accepted, "an operator");
  }

  async function refuseOther(tx: Sql, plan: PairPlan): Promise<void> {
    const [other] = await rows<{ is_wanted: boolean; machine: string; is_same: boolean }>(
      tx,
      sql`select is_wanted, machine, plan = ${jsonText(plan)}::jsonb as is_same from model_server
        where pair = ${plan.pair} order by is_wanted and machine = ${machine} limit 1`,
    );
    if (other === undefined) return;
    const { pair } = plan;
    if (!other.is_wanted) {
      throw new Problem("conflict", `${pair} is being brought down; try again when it is`);
    }
    if (other.machine !== machine) {
      throw new Problem("conflict", `${pair} is up on ${other.machine}; bring it down there first`);
    }
    if (!other.is_same) {
      const way = `autocode model down ${pair}, then bring it up by this one`;
      throw new Problem("conflict", `${pair} is up by another plan: ${way}`);
    }
  }

  async function insertServer(
    tx: Sql,
    plan: PairPlan,
    { side, model }: ModelPlan,
    given: { baseUrl: string; isAwake: boolean; accepted: readonly string[] },
  ): Promise<void> {
    const at = rfc3339(clock.now());
    await tx.execute(sql`
      insert into model_server (pair, side, model, machine, base_url, plan, accepted_licences,
        is_awake, state, detail, since, brought_up_at)
      values (${plan.pair}, ${side}, ${model}, ${machine}, ${given.baseUrl},
        ${jsonText(plan)}::jsonb, ${sql.param([...given.accepted])}::text[], ${given.isAwake},
        'starting', 'is brought up', ${at}, ${at})
      on conflict (pair, side) do update
      set state = 'starting', detail = 'is tried again', since = excluded.since, restarts = 0,
        has_served = false, not_before = null, turn_by = null, base_url = excluded.base_url,
        brought_up_at = excluded.brought_up_at, accepted_licences = excluded.accepted_licences
      where model_server.state = 'failed'`);
  }

  /** In force from now on, unless the newest of the model, in whatever currency, says the same. */
  async function insertPrice(tx: Sql, plan: PairPlan, { model, price }: ModelPlan): Promise<void> {
    if (price === null) return;
    const source = `plan of ${plan.pair} on ${plan.gpu_count} x ${plan.gpu}; ${price.terms.source}`;
    await tx.execute(sql`
      insert into own_model_price (model, currency, effective_from, terms, source)
      select ${model}, ${price.currency}, ${rfc3339(clock.now())}::timestamptz,
        ${jsonText(price.terms)}::jsonb, ${source.slice(0, 500)}
      where not exists (
        select from (
          select currency, terms from own_model_price where model = ${model}
          order by effective_from desc limit 1
        ) newest
        where currency = ${price.currency} and terms = ${jsonText(price.terms)}::jsonb
      )
      on conflict do nothing`);
  }

  async function down(text: string): Promise<ServedPair> {
    const pair = pairName(text);
    const before = (await list()).find((served) => served.pair === pair);
    if (before === undefined) throw new Problem("not_found", `${pair} is not up`);
    // Of a machine that nobody is on any more (or that has another name now) nobody ends them.
    const hosts = (await others()).filter((one) => one.is_alive).map(({ host }) => host);
    const living = sql.param([...hosts, machine]);
    await db.sql.execute(sql`
      with forgotten as (
        delete from model_server where pair = ${pair} and machine <> all(${living}::text[])
        returning pair
      ), ending as (
        update model_server set is_wanted = false
        where pair = ${pair} and machine = any(${living}::text[])
        returning pair
      ), changed as (select pair from forgotten union all select pair from ending)
      select pg_notify(${SERVED_CHANNEL}, '') from changed limit 1`);
    return { ...before, is_wanted: false };
  }

  async function find(pair: string): Promise<ServedPair> {
    const found = (await list()).find((served) => served.pair === pair);
    if (found === undefined) throw new Problem("not_found", `${pair} is not up`);
    return found;
  }

  async function list(): Promise<ServedPair[]> {
    const [servers, queue] = await Promise.all([readServers(db.sql), readQueue()]);
    const pairs = Map.groupBy(servers, ({ pair }) => pair);
    return [...pairs].map(([pair, members]) => {
      const [first] = members;
      const { count = 0 } = queue.find((each) => each.pair === pair) ?? {};
      const fellows = servers.filter((row) => row.machine === first?.machine);
      return {
        pair,
        is_wanted: members.every(({ is_wanted: isWanted }) => isWanted),
        plan: first?.plan ?? null,
        engines: members.map(statusOf),
        queued_trials: count,
        forecast_wait_ms: forecast(members, fellows, queue),
        brought_up_at: first === undefined ? null : rfc3339(readTime(first.brought_up_at)),
      };
    });
  }

  /** Until one of its units answers: a trial may begin then. */
  function forecast(
    members: readonly ServerRow[],
    fellows: readonly ServerRow[],
    queue: readonly Queued[],
  ): number | null {
    const nowMs = clock.now();
    const isBusy = ({ metrics }: ServerRow) =>
      (metrics?.running ?? 0) + (metrics?.waiting ?? 0) > 0;
    const { units, turnSinceMs } = unitsOf(fellows, queue, isBusy, nowMs);
    const waits = [...new Set(members.map(unitOf))].map((id) =>
      forecastWaitMs(units, id, { nowMs, turnSinceMs }, swap),
    );
    const known = waits.filter((ms) => ms !== null);
    return known.length === 0 ? null : Math.round(Math.min(...known));
  }

  async function readQueue(): Promise<(Queued & { count: number })[]> {
    const found = await rows<{ pair: string; id: TrialId; since: string; count: number }>(
      db.sql,
      sql`select pair, (array_agg(id order by created_at))[1] as id, min(created_at) as since,
          count(*)::int as count
        from trial where state = 'queued' and not cancel_requested and replay_of is null
        group by pair order by pair`,
    );
    return found.map(({ pair, id, since, count }) => ({
      ...{ pair, trialId: id, count },
      sinceMs: readTime(since),
    }));
  }

  async function logs(
    { pair: text, side }: Parameters<ModelServers["logs"]>[0],
    options: Parameters<ModelServers["logs"]>[1],
  ): Promise<AsyncIterable<Uint8Array>> {
    const pair = pairName(text);
    const [row] = await readServers(db.sql, sql`pair = ${pair} and side = ${side}`);
    if (row !== undefined && row.machine !== machine) {
      const detail = `The log of ${row.model} lies on ${row.machine}: ask the orchestrator there`;
      throw new Problem("not_found", detail);
    }
    const found = await launcher.logs(engineId({ pair, side }), options);
    if (found !== null) return found;
    throw new Problem("not_found", `There is no log of ${pair}'s ${side} model: it never started`);
  }
}

function planned(plan: PairPlan): ServedPair {
  return {
    ...{ pair: plan.pair, is_wanted: false, plan, engines: [], queued_trials: 0 },
    ...{ forecast_wait_ms: null, brought_up_at: null },
  };
}

function statusOf(row: ServerRow): EngineStatus {
  const { model, side, state, restarts, detail, metrics } = row;
  const since = rfc3339(readTime(row.since));
  return { model, side, state, base_url: row.base_url, since, restarts, detail, metrics };
}
