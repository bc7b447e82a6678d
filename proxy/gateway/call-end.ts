/**
 * What follows an exchange, behind its answer: the settlement, what is counted and told of it, and
 * the record.
 *
 * The answer does not wait for the settlement. Its reservation is durable, so that a crash in
 * between makes no call free (it expires, posted in full), and what it cost is known; the next
 * reservation of this process is flushed behind the settlement, and sees what was given back.
 */
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { FlowDraft } from "../../orchestrator/traffic/sink.ts";
import type { FinishedCall, FinishResult } from "./calls.ts";
import { type Answered, type Asked, captured, flowOfCall } from "./flow.ts";
import type { GatewayDeps, GatewayOptions, GatewayState } from "./gateway.ts";
import type { Provider } from "./upstream.ts";

/** What passed. */
export interface Passed {
  asked: Asked;
  request: Buffer;
  provider: Provider;
  /** Null: the client went away before anything came. */
  answered: Answered | null;
}

export function endCall(
  deps: GatewayDeps,
  options: Pick<GatewayOptions, "recordBytesMax">,
  state: GatewayState,
  ended: FinishedCall,
  grant: Grant,
  passed: Passed,
): void {
  const { log } = deps;
  const settlement = state.finisher.finish(ended);
  state.metrics.countCall(ended, grant.currency);
  note();
  void settlement.then((result) => {
    // A call whose settlement was given up passed all the same.
    if (result === null) state.recorder.record(null, flow());
    else onSettled(result);
  });

  function flow(): FlowDraft | null {
    if (deps.flows === undefined) return null;
    const { asked, request, provider, answered } = passed;
    const keptMax = Math.min(options.recordBytesMax, deps.flows.bodyBytesMax);
    const body = captured(request, keptMax);
    const id = deps.ids.next("flow");
    return flowOfCall(id, ended, grant, provider, { ...asked, body }, answered);
  }

  /** A call that went as it should is in the ledger and the metrics: its line is for debug. */
  function note(): void {
    const isPlain = ended.error === null && !ended.isEstimated;
    const level = isPlain ? "debug" : "info";
    if (!log.isLevelEnabled(level)) return;
    log[level](
      {
        call_id: ended.id,
        trial_id: ended.trialId,
        model: ended.model,
        status: ended.status,
        cost_nanos: String(ended.costNanos),
        is_estimated: ended.isEstimated,
        error: ended.error ?? undefined,
      },
      "call ended",
    );
  }

  function onSettled(result: FinishResult): void {
    state.recorder.record(ended, flow());
    if (result.outcome === "already_finished") return;
    if (result.outcome === "corrected") {
      log.warn({ call_id: ended.id }, "reservation had expired, and was corrected");
    }
    const { balance } = result;
    for (const percent of state.thresholds.passed(grant.budget, balance, ended.costNanos)) {
      state.tell("onThreshold", () => deps.hooks?.onThreshold?.(grant, percent, balance));
    }
  }
}
