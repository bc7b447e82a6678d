/**
 * Following trials to their end with a live line. The first Ctrl-C asks the server to stop them,
 * the second leaves them as they are.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { TrialEvent } from "../contract/events.ts";
import type { Experiment, Trial, TrialState } from "../contract/trials.ts";
import { formatNanos } from "../money.ts";
import type { Client } from "./client.ts";
import { EXIT, type Exit, Failure } from "./failure.ts";
import type { Printer } from "./print.ts";
import { compact, duration } from "./tables.ts";

const ENDED = new Set<TrialState>(["succeeded", "failed", "errored", "cancelled"]);
const EXPERIMENT_POLL_MS = 1_000;
const LEFT = "Left: the server goes on with it. `autocode trial ls` shows how far it is";

interface Progress {
  state: string;
  step: string;
  calls: number;
  inputTokens: number;
  outputTokens: number;
  costNanos: bigint;
  startedMs: number;
}

/** Follows one trial, from after event `afterSeq`, until it has ended or is paused. */
export async function followTrial(
  client: Client,
  print: Printer,
  first: Trial,
  afterSeq = 0,
): Promise<Trial> {
  let currency = first.budget?.currency ?? null;
  const progress: Progress = {
    state: first.state,
    step: "",
    calls: 0,
    inputTokens: 0,
    outputTokens: 0,
    costNanos: 0n,
    startedMs: performance.now(),
  };
  const left = new AbortController();
  using _interrupts = onInterrupts(print, left, () => client.post(`trials/${first.id}/stop`));
  const ticker = setInterval(show, 1_000);
  try {
    const path = `trials/${first.id}/events?after_seq=${afterSeq}`;
    for await (const { data } of client.events(path, left.signal)) {
      const event = JSON.parse(data) as TrialEvent;
      advance(progress, event);
      // It has its budget only once it was admitted.
      if (currency === null && event.type === "call.settled") {
        currency = (await client.get<Trial>(`trials/${first.id}`)).budget?.currency ?? null;
      }
      if (event.type === "trial.note" && event.data["level"] === "warn") {
        print.note(String(event.data["message"]));
      }
      show();
      if (progress.state === "paused") break;
    }
  } finally {
    clearInterval(ticker);
    print.clearProgress();
  }
  if (left.signal.aborted) throw new Failure(EXIT.failed, LEFT);
  return client.get<Trial>(`trials/${first.id}`);

  function show(): void {
    print.progress(progressText(first, progress, currency), `${progress.state} ${progress.step}`);
  }
}

/**
 * Follows an experiment until each of its trials has ended or is paused. With a `signal` the
 * caller answers Ctrl-C, and following ends when it is aborted.
 */
export async function followExperiment(
  client: Client,
  print: Printer,
  first: Experiment,
  signal?: AbortSignal,
): Promise<Experiment> {
  const left = new AbortController();
  const stopAll = async () => {
    for (const { id } of first.trials) await client.post(`trials/${id}/stop`);
  };
  using _interrupts = signal === undefined ? onInterrupts(print, left, stopAll) : null;
  const ending = signal ?? left.signal;
  const startedMs = performance.now();
  for (;;) {
    const now = await client.get<Experiment>(`experiments/${first.id}`);
    const isResting = showExperiment(print, now, performance.now() - startedMs);
    if (isResting) {
      print.clearProgress();
      return now;
    }
    await pause(EXPERIMENT_POLL_MS, undefined, { signal: ending }).catch(() => {});
    if (ending.aborted) {
      print.clearProgress();
      throw new Failure(EXIT.failed, LEFT);
    }
  }
}

/** Shows how far it is; whether nothing of it will move by itself. */
function showExperiment(print: Printer, now: Experiment, elapsedMs: number): boolean {
  const resting = now.trials.filter(({ state }) => ENDED.has(state) || state === "paused");
  const running = now.trials.filter(({ state }) => state === "running" || state === "verifying");
  const step = `${resting.length}/${now.trials.length} trials ended`;
  const names = running.map(({ agent, task }) => `${agent} on ${task}`).join(", ");
  const cost = formatNanos(BigInt(now.spent_nanos), now.currency);
  const text = [step, cost, duration(elapsedMs), names].filter(Boolean).join(" · ");
  // In a log, a line when one ended and when another one began.
  print.progress(text, `${step} ${names}`);
  return resting.length === now.trials.length;
}

/** The exit status that a trial's end means. */
export function exitOfTrial({ state, verdict }: Trial): Exit {
  if (state === "succeeded" && verdict === "passed") return EXIT.done;
  return state === "paused" ? EXIT.budgetExhausted : EXIT.failed;
}

/** What to say after a trial that did not pass; null when there is nothing to add. */
export function adviceFor({ id, state, reason, resume_at: resumeAt }: Trial): string | null {
  if (state === "paused" && resumeAt !== null) {
    return `Paused: ${reason}. It goes on by itself then; earlier: autocode trial resume ${id}`;
  }
  if (state === "paused") {
    const why = reason ?? `The budget is exhausted; first: autocode budget topup ${id} <amount>`;
    return `${why}. What was done is kept; then: autocode trial resume ${id}`;
  }
  return state === "succeeded" ? null : reason;
}

function onInterrupts(
  print: Printer,
  left: AbortController,
  stop: () => Promise<unknown>,
): Disposable {
  let isAsked = false;
  process.on("SIGINT", interrupt);
  return { [Symbol.dispose]: () => void process.off("SIGINT", interrupt) };

  function interrupt(): void {
    if (isAsked) {
      left.abort();
      return;
    }
    isAsked = true;
    print.note("Stopping; Ctrl-C again leaves it to itself");
    stop().catch((error: unknown) => {
      print.note(error instanceof Error ? error.message : String(error));
      left.abort();
    });
  }
}

function advance(progress: Progress, { type, data }: TrialEvent): void {
  switch (type) {
    case "trial.state":
      progress.state = String(data["to"]);
      progress.step = "";
      break;
    case "worker.step":
      progress.step = String(data["step"]);
      break;
    case "phase.started":
      progress.step = `${String(data["phase"])} (${String(data["side"])} model)`;
      break;
    case "call.settled":
      progress.calls += 1;
      progress.inputTokens += Number(data["input_tokens"] ?? 0);
      progress.outputTokens += Number(data["output_tokens"] ?? 0);
      progress.costNanos += BigInt(String(data["cost_nanos"] ?? 0));
      break;
    default:
  }
}

function progressText({ agent }: Trial, progress: Progress, currency: string | null): string {
  const { state, step, calls, inputTokens, outputTokens, costNanos, startedMs } = progress;
  const spent = currency === null ? [] : [formatNanos(costNanos, currency)];
  const called =
    calls === 0
      ? []
      : [`${calls} calls`, `${compact(inputTokens)} in ${compact(outputTokens)} out`, ...spent];
  const where = step === "" ? state : `${state}: ${step}`;
  return [agent, where, ...called, duration(performance.now() - startedMs)].join(" · ");
}
