/**
 * The life of an engine, a step at a time: what is wanted and what is seen make the next state and
 * at most one thing to do. Pure.
 *
 * - `starting`: it loads, or waits for its turn on the GPUs, or for a restart after a crash.
 * - `ready`: it answers, and calls go to it.
 * - `draining`: no call goes to it any more, and it ends those that it has.
 * - `sleeping`: its weights are outside the GPUs, or it has ended to free them.
 * - `failed`: it was given up; its detail has its own last words. Brought up anew, it starts.
 *
 * Invariant: calls go to an engine in `ready` alone, and it leaves `ready` before it is put to
 * sleep or ended on our account.
 */
import type { EngineState } from "../contract/models.ts";
import type { EpochMs } from "../runtime/clock.ts";
import type { EngineCondition } from "./serving.ts";

export interface EngineView {
  readonly state: EngineState;
  readonly detail: string;
  readonly isWanted: boolean;
  /** Whether it is its turn on the GPUs. */
  readonly isAwake: boolean;
  readonly hasServed: boolean;
  readonly restarts: number;
  readonly sinceMs: EpochMs;
  readonly notBeforeMs: EpochMs | null;
}

export interface Seen {
  readonly nowMs: EpochMs;
  readonly condition: EngineCondition;
  /** Whether it is healthy and lists its model. */
  readonly answers: boolean;
  /** How often in a row it did not, since it last did. */
  readonly misses: number;
  /** Calls that it works on or has in line; null: it does not say. */
  readonly inFlight: number | null;
  readonly isSleepable: boolean;
  /** Who holds the GPUs that it needs; null: nobody. */
  readonly gpusHeldBy: string | null;
}

export interface EngineOptions {
  /** From its start to its first answer. */
  startMaxMs: number;
  /** What calls may take to their end before it ends or sleeps all the same. */
  drainMaxMs: number;
  /** The same when the machine's last orchestrator ends: its own end waits for it. */
  endMaxMs: number;
  /** What gateways need to hear that it drains: longer than they go without looking. */
  settleMs: number;
  missesMax: number;
  restartsMax: number;
  /** The wait before the first restart; each further one waits twice as long. */
  backoffMs: number;
  backoffMaxMs: number;
  /** After so long without a crash, earlier ones count no more. */
  steadyMs: number;
}

export const ENGINE_DEFAULTS: EngineOptions = {
  startMaxMs: 45 * 60_000,
  drainMaxMs: 10 * 60_000,
  // Workers before it have 10 s and our gateway 2 s; its last look may take 10 s longer, an
  // engine's own end 30 s and, killed, 30 s more: 102 s of the 150 s in deploy/systemd.
  endMaxMs: 20_000,
  settleMs: 5_500,
  missesMax: 5,
  restartsMax: 5,
  backoffMs: 2_000,
  backoffMaxMs: 60_000,
  steadyMs: 10 * 60_000,
};

/** `stop` also clears what an ended engine left; `remove`: its row may go. */
export type EngineAction = "start" | "stop" | "sleep" | "wake" | "remove";

export type EngineStep = Pick<
  EngineView,
  "state" | "detail" | "hasServed" | "restarts" | "notBeforeMs"
> & { readonly action: EngineAction | null };

export function nextStep(view: EngineView, seen: Seen, options: EngineOptions): EngineStep {
  const step = (
    state: EngineState,
    detail: string,
    action: EngineAction | null = null,
    more: Partial<EngineStep> = {},
  ): EngineStep => {
    const { hasServed, restarts, notBeforeMs } = view;
    return { hasServed, restarts, notBeforeMs, state, detail, action, ...more };
  };
  const { condition, nowMs, answers } = seen;
  if (!view.isWanted) return leave();
  if (view.state === "failed") {
    return step("failed", view.detail, condition.state === "absent" ? null : "stop");
  }
  switch (condition.state) {
    case "ended":
      return ended(`ended (${condition.exit})`, condition.lastLines);
    case "absent":
      return view.isAwake ? begin() : rest();
    case "running":
      return view.isAwake ? work(condition.startedAtMs) : giveWay();
  }

  function leave(): EngineStep {
    if (condition.state !== "running") {
      return step("draining", "ended", condition.state === "ended" ? "stop" : "remove");
    }
    const isDrained = view.state === "draining" && drained();
    if (isDrained || (view.state !== "ready" && view.state !== "draining")) {
      return step("draining", "is ended", "stop");
    }
    return step("draining", "is brought down: it ends what it is answering");
  }

  function begin(): EngineStep {
    if (seen.gpusHeldBy !== null) {
      return step("starting", `waits until ${seen.gpusHeldBy} has left the GPUs`);
    }
    if (view.notBeforeMs !== null && nowMs < view.notBeforeMs) {
      return step("starting", view.detail);
    }
    return step("starting", "loads", "start", { notBeforeMs: null });
  }

  /** It is not there, and not its turn. */
  function rest(): EngineStep {
    return view.hasServed
      ? step("sleeping", "ended to free its GPUs; it starts when it is called for")
      : step("starting", "waits for its turn on the GPUs");
  }

  function work(startedAtMs: EpochMs): EngineStep {
    if (view.state === "sleeping") {
      if (seen.gpusHeldBy === null) return step("starting", "wakes", "wake");
      return step("sleeping", `waits until ${seen.gpusHeldBy} has left the GPUs`);
    }
    if (answers) {
      // One that alternates is never ready for long, but runs on between its turns.
      const forMs = Math.max(nowMs - view.sinceMs, nowMs - startedAtMs - options.startMaxMs);
      const isSteady = view.state === "ready" && forMs >= options.steadyMs;
      const restarts = isSteady ? 0 : view.restarts;
      return step("ready", "answers", null, { hasServed: true, restarts });
    }
    if (view.state === "ready" || view.state === "draining") {
      if (seen.misses < options.missesMax) return step(view.state, "did not answer just now");
      return ended("does not answer any more", []);
    }
    if (nowMs - startedAtMs <= options.startMaxMs) return step("starting", view.detail);
    const minutes = Math.round(options.startMaxMs / 60_000);
    return step("failed", `did not answer within ${minutes} minutes of its start`, "stop");
  }

  /** It runs, and it is another's turn. */
  function giveWay(): EngineStep {
    switch (view.state) {
      case "sleeping":
        return step("sleeping", view.detail);
      case "draining": {
        if (!drained()) return step("draining", view.detail);
        return seen.isSleepable
          ? step("sleeping", "sleeps, until it is called for", "sleep")
          : step("sleeping", "ended to free its GPUs; it starts when it is called for", "stop");
      }
      case "ready":
        return step("draining", "ends what it is answering: another's turn on the GPUs");
      default:
        // It still loads: what it has begun it ends, and then gives way.
        return answers
          ? step("draining", "answers, and gives way", null, { hasServed: true })
          : work(condition.state === "running" ? condition.startedAtMs : nowMs);
    }
  }

  function drained(): boolean {
    const forMs = nowMs - view.sinceMs;
    if (forMs >= options.drainMaxMs) return true;
    return forMs >= options.settleMs && (seen.inFlight === 0 || seen.misses >= options.missesMax);
  }

  function ended(what: string, lastLines: readonly string[]): EngineStep {
    const words = lastLines.length === 0 ? "" : `; its last lines:\n${lastLines.join("\n")}`;
    if (!view.hasServed) return step("failed", `it ${what} before it answered${words}`, "stop");
    const restarts = view.restarts + 1;
    if (restarts > options.restartsMax) {
      const times = `after ${options.restartsMax} restarts`;
      return step("failed", `it ${what} again, ${times}${words}`, "stop");
    }
    const delayMs = Math.min(options.backoffMs * 2 ** (restarts - 1), options.backoffMaxMs);
    const again = `it ${what}; it is started again in ${delayMs} ms${words}`;
    return step("starting", again, "stop", { restarts, notBeforeMs: nowMs + delayMs });
  }
}
