/**
 * The replays that run: which trial is answered from which record, and how far each is. In memory,
 * since a replay that is cut off is simply begun again. Records make room for others once nobody
 * has asked them for a minute, and are read again when somebody does; how far a run is, is kept.
 *
 * Invariant: each key, which is each allocation of the agent, has its own run of the cassette, from
 * its beginning, of both doors together; a trial is told once where it left its record. Records
 * take no more than `heldBytesMax` together, or are one alone; beside them one is being read.
 */
import type { Cassette, Divergence } from "../../orchestrator/contract/cassettes.ts";
import type { Decision } from "../../orchestrator/contract/egress.ts";
import { Problem } from "../../orchestrator/problem.ts";
import type { Clock, EpochMs } from "../../orchestrator/runtime/clock.ts";
import type { KeyId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type { RequestDecision, RequestHead } from "../egress/guard.ts";
import { denied } from "../egress/refusal.ts";
import {
  type Asked,
  createPlayback,
  createProgress,
  type Playback,
  type Played,
  type Progress,
} from "./playback.ts";

export interface ReplayDeps {
  clock: Clock;
  /** Of a replay the trial that was recorded; null: it is none. */
  sourceOf(trialId: TrialId): Promise<TrialId | null>;
  /** @throws Problem `conflict` when something of the record is gone. */
  cassetteOf(trialId: TrialId): Promise<Cassette>;
  /** Where a replay left its record, at most once for each of its runs. */
  onDiverged(trialId: TrialId, divergence: Divergence): Promise<void>;
  /** What records were redacted by; requests are compared after it. */
  redact?: (text: string) => string;
}

export interface Replays {
  /**
   * What the record answers a call.
   *
   * @throws Problem `conflict` when its record is no longer whole, `unavailable` while replays that
   * run leave no room for it.
   */
  ask(trialId: TrialId, keyId: KeyId, asked: Omit<Asked, "door" | "origin">): Promise<Played>;
  /**
   * The names of the models that the record's requests ask for.
   *
   * @throws as `ask`
   */
  modelsOf(trialId: TrialId): Promise<readonly string[]>;
  /**
   * What the egress guard answers a request that its policy allows: the option `replay` of
   * `createEgressGuard`. The body of the request is not looked at.
   *
   * @throws as `ask`
   */
  decide(of: TrialId, trialId: TrialId, head: RequestHead): Promise<RequestDecision>;
}

interface Run {
  keyId: KeyId | null;
  readonly progress: Progress;
  askedAtMs: EpochMs;
  /** Null: its record is not in memory, nor being read. */
  playback: Promise<Playback> | null;
  /** What its record takes in memory, estimated; 0 while it is not there. */
  heldBytes: number;
  /** What its record was found to take, and the models its calls ask for; null: never read. */
  known: { readonly byteCount: number; readonly models: readonly string[] } | null;
}

export interface ReplayOptions {
  /** How many are remembered, with or without their records in memory. */
  runsMax?: number;
  /** Of all records in memory together, estimated. */
  heldBytesMax?: number;
}

/** Whoever asked within this is at work, and is not put away for another. */
const AT_WORK_MS = 60_000;

export function createReplays(
  deps: ReplayDeps,
  { runsMax = 1_000, heldBytesMax = 256 * 1024 * 1024 }: ReplayOptions = {},
): Replays {
  /** The one that was asked last stands last. */
  const runs = new Map<TrialId, Run>();
  /** Ends when the last record that was to be read is; they are read one after another. */
  let reading: Promise<unknown> = Promise.resolve();
  return { ask, modelsOf, decide };

  async function ask(
    trialId: TrialId,
    keyId: KeyId,
    asked: Omit<Asked, "door" | "origin">,
  ): Promise<Played> {
    return answer(trialId, keyId, { ...asked, door: "gateway", origin: null });
  }

  async function answer(trialId: TrialId, keyId: KeyId | null, asked: Asked): Promise<Played> {
    const played = (await playbackOf(trialId, runOf(trialId, keyId))).ask(asked);
    if (played.outcome === "diverged" && played.isFirst) {
      await deps.onDiverged(trialId, played.divergence);
    }
    return played;
  }

  async function modelsOf(trialId: TrialId): Promise<readonly string[]> {
    const run = runOf(trialId, null);
    if (run.known === null) await playbackOf(trialId, run);
    return run.known?.models ?? [];
  }

  async function decide(
    of: TrialId,
    trialId: TrialId,
    { method, scheme, target, path }: RequestHead,
  ): Promise<RequestDecision> {
    const origin = `${scheme}://${target.host.toLowerCase()}:${target.port}`;
    const asked: Asked = { door: "egress", method, origin, path, body: null };
    const played = await answer(trialId, null, asked);
    if (played.outcome === "diverged") {
      const { position, expected } = played.divergence;
      const detail = `The record of ${of} has no such request; next was ${position}, ${expected}`;
      return { outcome: "refuse", ...denied("diverged", detail.slice(0, 1_000)) };
    }
    const decision: Decision = {
      action: "allow",
      reason: "replayed",
      rule: null,
      detail: `As ${of} was answered, exchange ${played.position}`,
    };
    // A connection that broke when it was recorded: what a proxy says of one.
    const broken = { status: 502, headers: [], body: Buffer.alloc(0) };
    return { outcome: "answer", decision, ...(played.response ?? broken) };
  }

  /** A new key begins the record anew; requests without one belong to the run that is. */
  function runOf(trialId: TrialId, keyId: KeyId | null): Run {
    const found = runs.get(trialId);
    const isSame = keyId === null || found?.keyId === null || found?.keyId === keyId;
    const askedAtMs = deps.clock.now();
    if (found === undefined) makePlace();
    const fresh = { keyId, playback: null, heldBytes: 0, known: null };
    const run =
      found !== undefined && isSame ? found : { ...fresh, askedAtMs, progress: createProgress() };
    run.keyId ??= keyId;
    run.askedAtMs = askedAtMs;
    runs.delete(trialId);
    runs.set(trialId, run);
    return run;
  }

  function makePlace(): void {
    const [oldest] = runs;
    if (oldest === undefined || runs.size < runsMax) return;
    if (isAtWork(oldest[1])) throw noRoom(`${runs.size} replays run`);
    runs.delete(oldest[0]);
  }

  function playbackOf(trialId: TrialId, run: Run): Promise<Playback> {
    if (run.playback !== null) return run.playback;
    // What is known to find no room is not read in vain.
    if (run.known !== null) makeRoom(run, run.known.byteCount);
    const playback = reading.then(() => read(trialId, run));
    run.playback = playback;
    const failed = () => {
      run.playback = null;
      // What could not be read has not begun: it is read again when it is asked for again.
      if (run.known === null && runs.get(trialId) === run) runs.delete(trialId);
    };
    reading = playback.then(() => undefined, failed);
    return playback;
  }

  async function read(trialId: TrialId, run: Run): Promise<Playback> {
    const cassette = await cassetteFor(trialId);
    const playback = createPlayback(cassette, deps.redact, run.progress);
    const { byteCount } = playback;
    if (run.known !== null && run.known.byteCount !== byteCount) {
      const detail = `The record of ${trialId} has changed while it was replayed: replay it again`;
      throw new Problem("conflict", detail);
    }
    run.known ??= { byteCount, models: modelsIn(cassette) };
    makeRoom(run, byteCount);
    run.heldBytes = byteCount;
    return playback;
  }

  /** Puts away the records that were asked longest ago, until one of `byteCount` more has room. */
  function makeRoom(run: Run, byteCount: number): void {
    const held = [...runs.values()].filter((each) => each !== run && each.heldBytes > 0);
    const bytesOf = (some: readonly Run[]) => some.reduce((sum, each) => sum + each.heldBytes, 0);
    const atWork = held.filter(isAtWork);
    if (atWork.length > 0 && bytesOf(atWork) + byteCount > heldBytesMax) {
      throw noRoom(`Replays that run hold ${bytesOf(atWork)} of ${heldBytesMax} bytes`);
    }
    let heldBytes = bytesOf(held);
    for (const each of held.filter((idle) => !isAtWork(idle))) {
      if (heldBytes + byteCount <= heldBytesMax) return;
      heldBytes -= each.heldBytes;
      each.playback = null;
      each.heldBytes = 0;
    }
  }

  function isAtWork({ askedAtMs }: Run): boolean {
    return deps.clock.now() - askedAtMs < AT_WORK_MS;
  }

  async function cassetteFor(trialId: TrialId): Promise<Cassette> {
    const source = await deps.sourceOf(trialId);
    if (source === null) throw new Problem("conflict", `${trialId} is no replay`);
    return deps.cassetteOf(source);
  }
}

function noRoom(why: string): Problem {
  const detail = `${why}: there is no room for another record. Try again when one of them has ended`;
  return new Problem("unavailable", detail);
}

function modelsIn({ exchanges }: Cassette): readonly string[] {
  const named = exchanges.flatMap(({ door, request }) =>
    door === "gateway" ? (modelIn(request.body?.content ?? "") ?? []) : [],
  );
  return [...new Set(named)];
}

function modelIn(body: string): string | null {
  try {
    const { model } = JSON.parse(body) as { model?: unknown };
    return typeof model === "string" ? model : null;
  } catch {
    return null;
  }
}
