/**
 * The replays that run: which trial is answered from which record, and how far each is. In memory,
 * since a replay that is cut off is simply begun again.
 *
 * Invariant: each allocation has its own run of the cassette, from its beginning; a trial is told
 * once where it left its record.
 */
import type { Cassette, Divergence } from "../../orchestrator/contract/cassettes.ts";
import type { TrialId } from "../../orchestrator/runtime/ids.ts";
import type { ReplaySource } from "../egress/replay-source.ts";
import { type Asked, createPlayback, type Playback, type Played } from "./playback.ts";

export interface ReplayDeps {
  /** Of a replay the trial that was recorded; null: it is none. */
  sourceOf(trialId: TrialId): Promise<TrialId | null>;
  /** @throws Problem `conflict` when something of the record is gone. */
  cassetteOf(trialId: TrialId): Promise<Cassette>;
  /** Where a replay left its record, at most once for each of its runs. */
  onDiverged(trialId: TrialId, divergence: Divergence): Promise<void>;
  /** What records were redacted by; requests are compared after it. */
  redact?: (text: string) => string;
}

export interface Replays extends ReplaySource {
  /**
   * What the record answers in a run: one key, or one allocation at the egress proxy.
   *
   * @throws Problem `conflict` when its record is no longer whole.
   */
  ask(trialId: TrialId, run: string, asked: Asked): Promise<Played>;
  /** The names of the models that the record's requests ask for. */
  modelsOf(trialId: TrialId): Promise<readonly string[]>;
}

const RUNS_MAX = 64;

export function createReplays(deps: ReplayDeps): Replays {
  const runs = new Map<string, Promise<Playback>>();
  return { ask, modelsOf, isReplay, answerFor };

  async function ask(trialId: TrialId, run: string, asked: Asked): Promise<Played> {
    const played = (await playback(trialId, run)).ask(asked);
    if (played.outcome === "diverged" && played.isFirst) {
      await deps.onDiverged(trialId, played.divergence);
    }
    return played;
  }

  async function modelsOf(trialId: TrialId): Promise<readonly string[]> {
    const { exchanges } = await cassetteFor(trialId);
    const named = exchanges.flatMap(({ door, request }) =>
      door === "gateway" ? (modelIn(request.body?.content ?? "") ?? []) : [],
    );
    return [...new Set(named)];
  }

  async function isReplay(trialId: string): Promise<boolean> {
    return (await deps.sourceOf(trialId as TrialId)) !== null;
  }

  async function answerFor(
    { trialId, allocationId }: Parameters<ReplaySource["answerFor"]>[0],
    { method, scheme, target, path }: Parameters<ReplaySource["answerFor"]>[1],
  ): ReturnType<ReplaySource["answerFor"]> {
    const origin = `${scheme}://${target.host.toLowerCase()}:${target.port}`;
    const asked: Asked = { door: "egress", method, origin, path, body: null };
    const played = await ask(trialId as TrialId, allocationId, asked);
    if (played.outcome === "diverged") {
      const { position, expected } = played.divergence;
      const detail = `The record of this replay has no such request; next was ${position}, ${expected}`;
      return { outcome: "diverged", detail: detail.slice(0, 1_000) };
    }
    // A connection that broke when it was recorded: what a proxy says of one.
    if (played.response === null) return { outcome: "answer", ...BROKEN };
    return { outcome: "answer", ...played.response };
  }

  function playback(trialId: TrialId, run: string): Promise<Playback> {
    const key = `${trialId} ${run}`;
    const known = runs.get(key);
    if (known !== undefined) return known;
    const opened = cassetteFor(trialId).then((cassette) => createPlayback(cassette, deps.redact));
    runs.set(key, opened);
    // What could not be read is read again when it is asked for again.
    opened.catch(() => runs.delete(key));
    const [oldest] = runs.keys();
    if (runs.size > RUNS_MAX && oldest !== undefined) runs.delete(oldest);
    return opened;
  }

  async function cassetteFor(trialId: TrialId): Promise<Cassette> {
    const source = await deps.sourceOf(trialId);
    if (source === null) throw new Error(`${trialId} is no replay`);
    return deps.cassetteOf(source);
  }
}

const BROKEN = { status: 502, headers: [], body: Buffer.alloc(0) } as const;

function modelIn(body: string): string | null {
  try {
    const { model } = JSON.parse(body) as { model?: unknown };
    return typeof model === "string" ? model : null;
  } catch {
    return null;
  }
}
