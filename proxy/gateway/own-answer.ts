/** The record of what a good key asked and the gateway answered itself: refusals, lists, counts. */
import type { IncomingMessage } from "node:http";
import type { Grant } from "../../orchestrator/keys/keys.ts";
import type { EpochMs } from "../../orchestrator/runtime/clock.ts";
import { captured, flowOfOwnAnswer, readAsked } from "./flow.ts";
import type { GatewayDeps, GatewayOptions } from "./gateway.ts";
import type { Recorder } from "./recorder.ts";

export interface OwnAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Why it was refused; null when it was not. */
  readonly refusal: string | null;
}

export function recordOwnAnswer(
  { flows, ids, clock }: Pick<GatewayDeps, "flows" | "ids" | "clock">,
  { recordBytesMax }: Pick<GatewayOptions, "recordBytesMax">,
  recorder: Pick<Recorder, "record">,
  exchange: { incoming: IncomingMessage; startedAtMs: EpochMs; body: Buffer | null },
  grant: Grant,
  { status, headers, body: text, refusal }: OwnAnswer,
): void {
  if (flows === undefined) return;
  const { incoming, startedAtMs, body: read } = exchange;
  const keptMax = Math.min(recordBytesMax, flows.bodyBytesMax);
  const body = read === null ? null : captured(read, keptMax);
  const answered = { status, headers, body: captured(Buffer.from(text), keptMax) };
  const times = { startedAtMs, endedAtMs: clock.now() };
  const asked = { ...readAsked(incoming), body };
  const flow = flowOfOwnAnswer(ids.next("flow"), times, grant, asked, answered, refusal);
  recorder.record(null, flow);
}
