/**
 * The replays that run: which trial is answered from which record, and how far each is. In memory,
 * since a replay that is cut off is simply begun again; as many as there is room for, by their
 * number and by what their records take. The one that was used last always has room.
 *
 * Invariant: each key, which is each allocation of the agent, has its own run of the cassette, from
 * its beginning, of both doors together; a trial is told once where it left its record.
 */
import type { Cassette, Divergence } from "../../orchestrator/contract/cassettes.ts";
import type { Decision } from "../../orchestrator/contract/egress.ts";
import { Problem } from "../../orchestrator/problem.ts";
import type { KeyId, TrialId } from "../../orchestrator/runtime/ids.ts";
import type { RequestDecision, RequestHead } from "../egress/guard.ts";
import { denied } from "../egress/refusal.ts";
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

export interface Replays {
  /**
   * What the record answers a call.
   *
   * @throws Problem `conflict` when its record is no longer whole.
   */
  ask(trialId: TrialId, keyId: KeyId, asked: Omit<Asked, "door" | "origin">): Promise<Played>;
  /** The names of the models that the record's requests ask for. */
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
  readonly keyId: KeyId | null;
  readonly playback: Promise<Playback>;
  /** What it holds in memory, estimated; 0 until it was read. */
  readonly held: { byteCount: number };
  /** That the record's calls ask for. */
  readonly models: Promise<readonly string[]>;
}

export interface ReplayOptions {
  runsMax?: number;
  /** Of all runs together, estimated. */
  heldBytesMax?: number;
}

export function createReplays(
  deps: ReplayDeps,
  { runsMax = 64, heldBytesMax = 256 * 1024 * 1024 }: ReplayOptions = {},
): Replays {
  const runs = new Map<TrialId, Run>();
  return { ask, modelsOf, decide };

  async function ask(
    trialId: TrialId,
    keyId: KeyId,
    asked: Omit<Asked, "door" | "origin">,
  ): Promise<Played> {
    return answer(trialId, keyId, { ...asked, door: "gateway", origin: null });
  }

  async function answer(trialId: TrialId, keyId: KeyId | null, asked: Asked): Promise<Played> {
    const played = (await runOf(trialId, keyId).playback).ask(asked);
    if (played.outcome === "diverged" && played.isFirst) {
      await deps.onDiverged(trialId, played.divergence);
    }
    return played;
  }

  async function modelsOf(trialId: TrialId): Promise<readonly string[]> {
    return runOf(trialId, null).models;
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
    const known = runs.get(trialId);
    if (known !== undefined && (keyId === null || known.keyId === null || known.keyId === keyId)) {
      return use(trialId, { ...known, keyId: known.keyId ?? keyId });
    }
    const cassette = cassetteFor(trialId);
    const playback = cassette.then((read) => createPlayback(read, deps.redact));
    const models = cassette.then(modelsIn);
    // What could not be read is read again when it is asked for again.
    const forget = () => {
      if (runs.get(trialId)?.playback === playback) runs.delete(trialId);
    };
    const held = { byteCount: 0 };
    playback.then(({ byteCount }) => {
      held.byteCount = byteCount;
      makeRoom();
    }, forget);
    models.catch(forget);
    return use(trialId, { keyId, playback, held, models });
  }

  /** The one that was used last is forgotten last. */
  function use(trialId: TrialId, run: Run): Run {
    runs.delete(trialId);
    runs.set(trialId, run);
    makeRoom();
    return run;
  }

  function makeRoom(): void {
    let byteCount = runs.values().reduce((sum, { held }) => sum + held.byteCount, 0);
    for (const [trialId, { held }] of runs) {
      const hasRoom = runs.size <= runsMax && byteCount <= heldBytesMax;
      if (hasRoom || runs.size === 1) return;
      runs.delete(trialId);
      byteCount -= held.byteCount;
    }
  }

  async function cassetteFor(trialId: TrialId): Promise<Cassette> {
    const source = await deps.sourceOf(trialId);
    if (source === null) throw new Problem("conflict", `${trialId} is no replay`);
    return deps.cassetteOf(source);
  }
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
