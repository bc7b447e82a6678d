/**
 * How long own GPUs served nobody because another model got its turn on them, and for whom.
 *
 * A swap lasts from when the last of the others leaves the GPUs, or it begins to load itself where
 * that is later, until it answers. A leader that takes over counts from its own first look, so that
 * an orchestrator's absence is nobody's to pay. Calls that the others still end are not in it, nor
 * is what a download takes.
 *
 * Invariant: a turn that ends is written down in the statement that ends it: once, or not yet.
 */
import { sql } from "drizzle-orm";
import { ownPrice } from "../../models/own-price.ts";
import type { ModelPlan } from "../contract/models.ts";
import type { Database } from "../db/database.ts";
import { ceilDiv } from "../money.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { derivedId, type TrialId } from "../runtime/ids.ts";
import type { EngineAction } from "./engine-state.ts";
import { engineId, modelPlan, type ServerRow } from "./rows.ts";
import type { EngineCondition } from "./serving.ts";

export interface SwapMeter {
  /** Another unit's turn has begun. */
  begin(): void;
  /** Before `action` is done to an engine. */
  look(row: ServerRow, action: EngineAction | null, condition: EngineCondition): void;
  /** It does not load yet after all. */
  forget(row: ServerRow): void;
  /** It answers: nobody waits for it any more. */
  end(row: ServerRow): Promise<void>;
}

/** Twice what the longest step of a round may take, in which nobody looks. */
const STALE_MS = 600_000;

/** @param nowMs milliseconds that are never set back. */
export function createSwapMeter(
  db: Pick<Database, "sql">,
  clock: Clock,
  nowMs: () => number,
): SwapMeter {
  const loadingSince = new Map<string, { trialId: TrialId; sinceMs: number }>();
  let leavingSince: number | null = null;
  let lookedAtMs = nowMs();
  return { begin, look, forget, end };

  function begin(): void {
    leavingSince = null;
  }

  function look(row: ServerRow, action: EngineAction | null, condition: EngineCondition): void {
    const id = engineId(row);
    if (nowMs() - lookedAtMs > STALE_MS) forgetAll();
    lookedAtMs = nowMs();
    const isLeaving = action === "sleep" || action === "stop";
    if (row.is_wanted && !row.is_awake && isLeaving) leavingSince = nowMs();
    const isLoading = row.state === "starting" && condition.state === "running";
    const { turn_by: trialId } = row;
    const isKnown = trialId !== null && loadingSince.get(id)?.trialId === trialId;
    if (trialId === null) loadingSince.delete(id);
    else if ((isLoading || action === "start" || action === "wake") && !isKnown) {
      loadingSince.set(id, { trialId, sinceMs: leavingSince ?? nowMs() });
      leavingSince = null;
    }
  }

  /** Another has led since, whose swaps these are not. */
  function forgetAll(): void {
    loadingSince.clear();
    leavingSince = null;
  }

  function forget(row: ServerRow): void {
    loadingSince.delete(engineId(row));
  }

  async function end(row: ServerRow): Promise<void> {
    const { turn_by: trialId, pair, side, model } = row;
    // One that had not left when its turn came again took nothing from anybody.
    const begun = loadingSince.get(engineId(row));
    const sinceMs = begun?.trialId === trialId ? (begun?.sinceMs ?? null) : null;
    const durationMs = sinceMs === null ? 0 : Math.round(Math.max(0, nowMs() - sinceMs));
    const plan = modelPlan(row);
    const { costNanos, currency } = swapCost(plan, durationMs);
    const id = derivedId("transfer", "swap", trialId ?? "", pair, side, row.since);
    await db.sql.execute(sql`
      with ended as (
        update model_server
        set asked_at = null, asked_last_at = null, asked_by = null, turn_by = null
        where pair = ${pair} and side = ${side} and turn_by is not distinct from ${trialId}
        returning pair
      )
      insert into model_swap (transfer_id, trial_id, pair, side, model, ended_at, duration_ms,
        gpu_ms, cost_nanos, currency)
      select ${id}, ${trialId}, ${pair}, ${side}, ${model}, ${rfc3339(clock.now())}::timestamptz,
        ${durationMs}::bigint, ${durationMs * plan.gpus.length}::bigint, ${costNanos}::bigint,
        ${currency}
      from ended where ${trialId !== null && sinceMs !== null}
      on conflict do nothing`);
    loadingSince.delete(engineId(row));
  }
}

const HOUR_MS = 3_600_000n;

/** The hour of all its GPUs, for as long as none of them served. */
function swapCost({ price }: ModelPlan, durationMs: number) {
  if (price === null) return { costNanos: null, currency: null };
  const { hourNanos } = ownPrice(price.terms, (field, message) => new Error(`${field} ${message}`));
  const costNanos = ceilDiv(hourNanos * BigInt(durationMs), HOUR_MS);
  return { costNanos, currency: price.currency };
}
