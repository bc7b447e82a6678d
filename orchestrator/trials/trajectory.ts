/**
 * A trial's trajectory in ATIF v1.7 (Harbor's agent trajectory format), from the gateway's records
 * alone, so that every agent has one. Pure.
 *
 * Each request repeats the history, so a step is made of what no request before it held. What a
 * client wrote into the past (a compaction, example turns) is marked as copied context: it was
 * not done in this trial.
 */
import type { Trial } from "../contract/trials.ts";
import type { RecordedCall } from "./calls.ts";
import { type Item, readHistory, readTools, readTurn, type Turn } from "./history.ts";

interface Step {
  step_id: number;
  timestamp: string;
  source: "system" | "user" | "agent";
  message: string;
  model_name?: string;
  reasoning_content?: string;
  tool_calls?: { tool_call_id: string; function_name: string; arguments: object }[];
  observation?: { results: { source_call_id: string | null; content: string }[] };
  metrics?: Metrics;
  is_copied_context?: true;
  llm_call_count?: number;
  extra?: Record<string, unknown>;
}

interface Metrics {
  prompt_tokens: number;
  completion_tokens: number;
  cached_tokens: number;
  cost_usd?: number;
  extra: Record<string, unknown>;
}

/** The trajectory as a JSON value. `calls` are the trial's, oldest first. */
export function buildTrajectory(trial: Trial, calls: readonly RecordedCall[]): unknown {
  const currency = trial.budget?.currency ?? null;
  const steps: Step[] = [];
  const seen = new Set<string>();
  const stepOfCall = new Map<string, Step>();
  const unanswered: { call_id: string; status: number; error: string | null }[] = [];

  for (const call of calls) {
    if (call.request !== null) addHistory(call, readHistory(call.wire, call.request));
    const turn = call.response === null ? null : readTurn(call.wire, call.response);
    if (turn !== null) addTurn(call, turn);
    else if (call.response === null && call.status === 200) addTurn(call, NOT_KEPT);
    else unanswered.push({ call_id: call.id, status: call.status, error: call.error });
  }

  const tools = calls.flatMap(({ request }) => (request === null ? [] : [readTools(request)]));
  const models = [...new Set(calls.map((call) => call.model))];
  return {
    schema_version: "ATIF-v1.7",
    session_id: trial.id,
    trajectory_id: trial.id,
    agent: {
      name: trial.agent,
      version: trial.agent_version ?? "unknown",
      ...(models[0] === undefined ? {} : { model_name: models[0] }),
      tool_definitions: tools.find((offered) => offered.length > 0) ?? [],
      extra: { pair: trial.pair, models, is_scripted: trial.is_scripted },
    },
    steps,
    final_metrics: finalMetrics(calls, steps.length, currency),
    extra: {
      trial_id: trial.id,
      task: trial.task,
      attempt: trial.attempt,
      state: trial.state,
      verdict: trial.verdict,
      ...(unanswered.length > 0 ? { calls_without_answer: unanswered } : {}),
    },
  };

  function addHistory(call: RecordedCall, items: readonly Item[]): void {
    const keys = keysOf(items);
    const lastKnown = keys.findLastIndex(
      (key, at) => items[at]?.kind !== "system" && seen.has(key),
    );
    for (const [at, item] of items.entries()) {
      const key = keys[at];
      if (key === undefined || seen.has(key)) continue;
      seen.add(key);
      const isCopied = at < lastKnown || item.kind === "agent";
      addItem(call, item, isCopied);
    }
  }

  function addItem(call: RecordedCall, item: Item, isCopied: boolean): void {
    const copied = isCopied ? { is_copied_context: true as const } : {};
    switch (item.kind) {
      case "system":
      case "user":
        push({ timestamp: call.started_at, source: item.kind, message: item.text, ...copied });
        return;
      case "agent":
        push({ timestamp: call.started_at, ...agentStep(item), ...copied });
        return;
      case "result": {
        const { callId, text: content } = item;
        const step = stepOfCall.get(callId);
        if (step === undefined) {
          const results = [{ source_call_id: null, content }];
          const extra = { tool_call_id: callId };
          const rest = { message: "", observation: { results }, extra, ...copied };
          push({ timestamp: call.started_at, source: "system", ...rest });
          return;
        }
        step.observation ??= { results: [] };
        step.observation.results.push({ source_call_id: callId, content });
      }
    }
  }

  function addTurn(call: RecordedCall, turn: Turn): void {
    // It comes back in the requests that follow; a repeated turn is a turn of its own.
    const [key] = keysOf([turn]);
    for (let copy = 1; key !== undefined; copy++) {
      const numbered = key.replace(/#1$/, `#${copy}`);
      if (seen.has(numbered)) continue;
      seen.add(numbered);
      break;
    }
    const endedAt = new Date(Date.parse(call.started_at) + call.duration_ms).toISOString();
    const step = push({
      timestamp: endedAt,
      ...agentStep(turn),
      model_name: call.model,
      metrics: metricsOf(call, currency),
      llm_call_count: 1,
      ...(turn === NOT_KEPT ? { extra: { is_kept: false } } : {}),
    });
    for (const { id } of turn.toolCalls) stepOfCall.set(id, step);
  }

  function push(step: Omit<Step, "step_id">): Step {
    const numbered: Step = { step_id: steps.length + 1, ...step };
    steps.push(numbered);
    return numbered;
  }
}

const NOT_KEPT: Turn = { kind: "agent", text: "", reasoning: "", toolCalls: [] };

function agentStep({ text, reasoning, toolCalls }: Turn) {
  const called = toolCalls.map((call) => ({
    tool_call_id: call.id,
    function_name: call.name,
    arguments: call.arguments,
  }));
  return {
    source: "agent" as const,
    message: text,
    ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
    ...(called.length === 0 ? {} : { tool_calls: called }),
  };
}

/**
 * By what an item is known again. Clients drop reasoning and change white space when they send a
 * turn back; a tool call's id is what stays. The count tells equal items of one history apart.
 */
function keysOf(items: readonly Item[]): string[] {
  const counts = new Map<string, number>();
  return items.map((item) => {
    const text = item.text.replace(/\s+/g, " ").trim();
    const ids = item.kind === "agent" ? item.toolCalls.map((call) => call.id).join() : "";
    const callId = item.kind === "result" ? item.callId : "";
    const key = ids !== "" ? `agent ${ids}` : `${item.kind} ${callId} ${text}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    return `${key}#${count}`;
  });
}

function metricsOf(call: RecordedCall, currency: string | null): Metrics {
  const { usage } = call;
  return {
    prompt_tokens: usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
    completion_tokens: usage.output_tokens,
    cached_tokens: usage.cache_read_tokens,
    ...inDollars(BigInt(call.cost_nanos), currency, "cost_usd"),
    extra: {
      call_id: call.id,
      side: call.side,
      cost_nanos: call.cost_nanos,
      currency,
      price_version: call.price_version,
      reasoning_tokens: usage.reasoning_tokens,
      cache_write_tokens: usage.cache_write_tokens,
      is_estimated: call.is_estimated,
    },
  };
}

function finalMetrics(calls: readonly RecordedCall[], stepCount: number, currency: string | null) {
  const all = calls.map((call) => metricsOf(call, currency));
  const total = (key: "prompt_tokens" | "completion_tokens" | "cached_tokens") =>
    all.reduce((sum, metrics) => sum + metrics[key], 0);
  const costNanos = calls.reduce((sum, call) => sum + BigInt(call.cost_nanos), 0n);
  return {
    total_prompt_tokens: total("prompt_tokens"),
    total_completion_tokens: total("completion_tokens"),
    total_cached_tokens: total("cached_tokens"),
    ...inDollars(costNanos, currency, "total_cost_usd"),
    total_steps: stepCount,
    extra: { cost_nanos: String(costNanos), currency, call_count: calls.length },
  };
}

/** ATIF knows dollars alone, as a number; in another currency its field stays out. */
function inDollars<Key extends string>(
  nanos: bigint,
  currency: string | null,
  key: Key,
): { [K in Key]?: number } {
  return (currency === "USD" ? { [key]: Number(nanos) / 1e9 } : {}) as { [K in Key]?: number };
}
