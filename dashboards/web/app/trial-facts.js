/** What a trial's states mean to the UI. Pure. */
import { inputTokens } from "./format.js";
import { sumNanos } from "./money.js";

/** @typedef {import("../../../orchestrator/contract/trials.ts").Trial} Trial */
/** @typedef {import("../../../orchestrator/contract/trials.ts").Experiment} Experiment */

export const STATES = [
  "queued",
  "admitted",
  "placed",
  "running",
  "verifying",
  "succeeded",
  "failed",
  "errored",
  "paused",
  "cancelled",
];

const ACTIVE = new Set(["queued", "admitted", "placed", "running", "verifying"]);
const ENDED = new Set(["succeeded", "failed", "errored", "cancelled"]);

/** Whether it moves on by itself. @param {Pick<Trial, "state">} trial */
export function isActive(trial) {
  return ACTIVE.has(trial.state);
}

/** Whether it will never change again. @param {Pick<Trial, "state">} trial */
export function isEnded(trial) {
  return ENDED.has(trial.state);
}

/**
 * The tone of a trial: its verdict where it has one, else its state.
 *
 * @param {Pick<Trial, "state" | "verdict">} trial
 * @returns {"good" | "bad" | "warn" | "busy" | "idle"}
 */
export function toneOf({ state, verdict }) {
  if (verdict === "passed") return "good";
  if (verdict === "failed") return "bad";
  if (verdict === "error" || state === "errored" || state === "paused") return "warn";
  if (state === "succeeded") return "good";
  if (state === "failed") return "bad";
  if (state === "queued" || state === "cancelled") return "idle";
  return "busy";
}

/** @param {Trial} trial */
export function spentOf(trial) {
  return BigInt(trial.budget?.spent_nanos ?? "0");
}

/** Its wall-clock so far; null before it started. @param {Trial} trial @param {number} nowMs */
export function durationOf(trial, nowMs) {
  if (trial.duration_ms !== null) return trial.duration_ms;
  if (trial.started_at === null) return null;
  const endMs = trial.ended_at === null ? nowMs : Date.parse(trial.ended_at);
  return Math.max(0, endMs - Date.parse(trial.started_at));
}

/** @param {readonly Trial[]} trials */
export function totalsOf(trials) {
  return {
    spentNanos: sumNanos(trials.map(spentOf)),
    inputTokens: trials.reduce((sum, { usage }) => sum + inputTokens(usage), 0),
    outputTokens: trials.reduce((sum, { usage }) => sum + usage.output_tokens, 0),
    passed: trials.filter(({ verdict }) => verdict === "passed").length,
    ended: trials.filter(isEnded).length,
    active: trials.filter(isActive).length,
  };
}

/**
 * Agents × pairs of an experiment by name, each cell with its trials from the first.
 *
 * @param {readonly Trial[]} trials
 */
export function matrixOf(trials) {
  const oldestFirst = trials.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const agents = [...new Set(oldestFirst.map(({ agent }) => agent))].sort();
  const pairs = [...new Set(oldestFirst.map(({ pair }) => pair))].sort();
  return {
    agents,
    pairs,
    cells: agents.map((agent) =>
      pairs.map((pair) =>
        oldestFirst.filter((trial) => trial.agent === agent && trial.pair === pair),
      ),
    ),
  };
}

/**
 * The list as it is shown: experiments with their trials that fit the filter, and single trials,
 * newest first.
 *
 * @param {readonly Trial[]} trials the pages read so far
 * @param {readonly Experiment[]} experiments
 * @param {string} state "" for all
 */
export function groupsOf(trials, experiments, state) {
  const known = new Set(experiments.map(({ id }) => id));
  const groups = experiments
    .map((experiment) => ({
      id: experiment.id,
      at: experiment.created_at,
      experiment,
      trials: experiment.trials.filter((trial) => state === "" || trial.state === state),
    }))
    .filter((group) => group.trials.length > 0 || state === "");
  const singles = trials
    .filter(({ experiment_id }) => experiment_id === null || !known.has(experiment_id))
    .map((trial) => ({ id: trial.id, at: trial.created_at, experiment: null, trials: [trial] }));
  const newestFirst = [...groups, ...singles].sort((a, b) => (a.at < b.at ? 1 : -1));
  return joinSingles(newestFirst);
}

/**
 * Neighbouring single trials share one group.
 *
 * @param {{ id: string, at: string, experiment: Experiment | null, trials: Trial[] }[]} groups
 */
function joinSingles(groups) {
  /** @type {typeof groups} */
  const joined = [];
  for (const group of groups) {
    const last = joined.at(-1);
    if (last !== undefined && last.experiment === null && group.experiment === null) {
      last.trials.push(...group.trials);
    } else joined.push({ ...group, trials: [...group.trials] });
  }
  return joined;
}

/**
 * `changed` in place of what has its id, wherever it stands; a new one that fits comes first.
 *
 * @param {{ trials: Trial[], experiments: Experiment[] }} list
 * @param {Trial} changed
 * @param {{ project: string, state: string }} filter
 */
export function withTrial(list, changed, filter) {
  const fits =
    (filter.project === "" || changed.project === filter.project) &&
    (filter.state === "" || changed.state === filter.state);
  const others = list.trials.filter(({ id }) => id !== changed.id);
  const at = list.trials.findIndex(({ id }) => id === changed.id);
  if (fits) others.splice(Math.max(at, 0), 0, changed);
  return {
    ...list,
    trials: others,
    experiments: list.experiments.map((experiment) =>
      experiment.id === changed.experiment_id
        ? { ...experiment, trials: putTrial(experiment.trials, changed) }
        : experiment,
    ),
  };
}

/** @param {Trial[]} trials @param {Trial} changed */
function putTrial(trials, changed) {
  const isKnown = trials.some(({ id }) => id === changed.id);
  return isKnown
    ? trials.map((trial) => (trial.id === changed.id ? changed : trial))
    : [changed, ...trials];
}
