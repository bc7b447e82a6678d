/** An engine's row, as a test of what is read off it needs it: ready, awake, its trial done. */
import type { PairPlan } from "../../orchestrator/contract/models.ts";
import type { ServerRow } from "../../orchestrator/serving/rows.ts";

export const BROUGHT_UP_AT = "2026-06-01T12:00:00.000Z";

const PLAN: PairPlan = {
  pair: "p",
  gpu: "h100",
  gpu_count: 1,
  gpu_memory_bytes: 80 * 2 ** 30,
  concurrency: 8,
  fits: true,
  residency: "together",
  models: [],
  swap_ms: null,
  steps: [],
  refusal: null,
  advice: [],
};

export function serverRow({
  plan = {},
  ...more
}: Partial<Omit<ServerRow, "plan">> & { plan?: Partial<PairPlan> } = {}): ServerRow {
  return {
    pair: "p",
    side: "normal",
    model: "m",
    machine: "test-machine",
    base_url: "http://127.0.0.1:1/v1",
    plan: { ...PLAN, ...plan },
    weights_dir: null,
    accepted_licences: [],
    is_wanted: true,
    is_awake: true,
    state: "ready",
    has_served: true,
    restarts: 0,
    detail: "",
    since: BROUGHT_UP_AT,
    not_before: null,
    metrics: null,
    brought_up_at: BROUGHT_UP_AT,
    asked_at: null,
    asked_last_at: null,
    asked_by: null,
    turn_by: null,
    ...more,
  };
}
