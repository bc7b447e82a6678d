/** The rows of engines, as the database has them, and what is read off them. */
import { type SQL, sql } from "drizzle-orm";
import type { Side } from "../contract/agents.ts";
import type { EngineMetrics, EngineState, ModelPlan, PairPlan } from "../contract/models.ts";
import type { Sql } from "../db/database.ts";
import { readTime, rows } from "../db/rows.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { EngineView } from "./engine-state.ts";

/** NOTIFY: what is served, where, or at which price has changed. */
export const SERVED_CHANNEL = "autocode_served";

export type ServerRow = {
  pair: string;
  side: Side;
  model: string;
  machine: string;
  base_url: string;
  plan: PairPlan;
  weights_dir: string | null;
  accepted_licences: string[];
  is_wanted: boolean;
  is_awake: boolean;
  state: EngineState;
  has_served: boolean;
  restarts: number;
  detail: string;
  since: string;
  not_before: string | null;
  metrics: EngineMetrics | null;
  brought_up_at: string;
  asked_at: string | null;
  asked_last_at: string | null;
  asked_by: TrialId | null;
  turn_by: TrialId | null;
};

/** In the order in which engines of one unit load: normal, then thinking. */
export function readServers(db: Pick<Sql, "execute">, where: SQL = sql`true`) {
  return rows<ServerRow>(
    db,
    sql`select * from model_server where ${where} order by brought_up_at, pair, side`,
  );
}

/** Any number. */
const UP_LOCK = 52_180;

/**
 * To the transaction's end no pair is brought up by another: two would take the same port or turn,
 * or weights that are being removed.
 */
export async function holdUps(transaction: Sql): Promise<void> {
  await transaction.execute(sql`select pg_advisory_xact_lock(${UP_LOCK})`);
}

/** An engine's id at its launcher. */
export function engineId({ pair, side }: Pick<ServerRow, "pair" | "side">): string {
  return `${pair.replaceAll(/[^A-Za-z0-9._-]/g, "_")}.${side}`;
}

/** What the gateway calls the provider that an engine is. */
export function providerName({ pair, side }: Pick<ServerRow, "pair" | "side">): string {
  return `${SERVED_PREFIX}${pair}/${side}`;
}
export const SERVED_PREFIX = "served/";

/** What is awake together: a pair, or one side where its models alternate. */
export function unitOf({ pair, side, plan }: ServerRow): string {
  return plan.residency === "alternate" ? `${pair}/${side}` : pair;
}

export function modelPlan({ plan, side }: Pick<ServerRow, "plan" | "side">): ModelPlan {
  const found = plan.models.find((model) => model.side === side);
  if (found === undefined) throw new Error(`the plan of ${plan.pair} has no ${side} model`);
  return found;
}

export function viewOf(row: ServerRow): EngineView {
  return {
    state: row.state,
    detail: row.detail,
    isWanted: row.is_wanted,
    isAwake: row.is_awake,
    hasServed: row.has_served,
    restarts: row.restarts,
    sinceMs: readTime(row.since),
    notBeforeMs: row.not_before === null ? null : readTime(row.not_before),
  };
}
