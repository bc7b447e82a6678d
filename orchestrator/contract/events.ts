/**
 * The events of a trial: append-only, ordered by `seq`, the source of its timeline and of every
 * live view. Worker events carry their allocation's own `cursor`, which makes them idempotent.
 */
import { type Static, Type } from "typebox";

/**
 * `trial.*` and `model.*` come from the engine, `call.*`, `budget.*` and `quota.*` from the
 * gateway, the rest from the worker-agent. Each type's `data` is stated beside it.
 */
export const EVENT_TYPES = [
  "trial.state", // { from, to, reason? }
  "trial.retry", // { failure_class, tries, checkpoint_id? }
  "trial.note", // { level: "info" | "warn", message }
  "budget.threshold", // { percent, spent_nanos, limit_nanos }
  "budget.exhausted", // { account_id, required_nanos, available_nanos, unit?: "TOK" }
  "quota.exhausted", // { provider, until }
  "call.settled", // { call_id, side, model, input_tokens, output_tokens, cost_nanos }
  "call.refused", // { code, message }
  "worker.step", // { step, detail? }: enrolled, workspace_ready, installing, collected …
  "phase.started", // { phase, side, agent, argv }
  "phase.ended", // { phase, exit_code, signal, duration_ms, outcome }
  "agent.message", // { text }
  "agent.reasoning", // { text }
  "agent.tool_call", // { call_id, name, arguments }
  "agent.tool_result", // { call_id, is_error, text }
  "agent.usage", // { input_tokens, output_tokens }: as the CLI reports it, a hint only
  "agent.error", // { message, status? }
  "egress.refused", // { flow_id, host, method, reason, rule, detail }: by the proxy
  "egress.dropped", // { destination, protocol, packets }: by the worker's network
  "egress.isolation", // { kind: "namespace" | "sandbox" | "none", detail }: by the worker
  "egress.credential", // { flow_id, secret, host }: the proxy put it in
  "egress.canary", // { flow_id, host }: the trial's canary was about to leave
  "traffic.unmatched", // { flow_id, host, detail }: a paid call without an entry in the ledger
  "replay.diverged", // { position, expected, asked }: the first request that the record has not
  // { pair, side, transfer_id, duration_ms, gpu_ms, charged_nanos, currency, uncharged_nanos?,
  //   uncharged_reason? }: own GPUs were given to another model because this trial waited for it
  "model.swapped",
  "verify.started", // {}
  "verify.ended", // { verdict, tests_passed, tests_failed, duration_ms }
] as const;

export type EventType = (typeof EVENT_TYPES)[number];

/** What a worker sends; `at` is the worker's clock, kept as its word. */
export type WorkerEvent = Static<typeof WorkerEvent>;
export const WorkerEvent = Type.Object(
  {
    cursor: Type.Integer({ minimum: 1 }),
    type: Type.Enum(EVENT_TYPES),
    at: Type.String({ format: "date-time" }),
    data: Type.Record(Type.String(), Type.Unknown()),
  },
  { additionalProperties: false },
);

export type TrialEvent = Static<typeof TrialEvent>;
export const TrialEvent = Type.Object(
  {
    seq: Type.Integer({ minimum: 1 }),
    trial_id: Type.String(),
    type: Type.Enum(EVENT_TYPES),
    at: Type.String({ format: "date-time" }),
    data: Type.Record(Type.String(), Type.Unknown()),
  },
  { additionalProperties: false },
);

/**
 * `GET …/trials/:id/events?after_seq=`, as JSON. Asked for as `text/event-stream` the same events
 * stream as they happen: `id` is the event's `seq` (send it back as Last-Event-ID to resume),
 * `data` a TrialEvent, the event name is the default one. After the last event of a trial that
 * has ended comes one event named `end`; then the stream closes.
 */
export type EventPage = Static<typeof EventPage>;
export const EventPage = Type.Object(
  {
    events: Type.Array(TrialEvent),
    next_after_seq: Type.Integer({
      minimum: 0,
      description: "Ask with this as after_seq for what comes later",
    }),
  },
  { additionalProperties: false },
);
