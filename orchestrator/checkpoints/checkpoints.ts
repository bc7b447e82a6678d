/** The checkpoints port: what workers keep of a trial, and what goes on from it. */
import type { Readable } from "node:stream";
import type { Checkpoint, CheckpointTree, NewCheckpoint } from "../contract/checkpoints.ts";
import type { TrialId } from "../runtime/ids.ts";
import type { Session } from "../trials/worker-sessions.ts";

export interface Checkpoints {
  /**
   * Of these hashes, those whose contents the project lacks. What it has is kept for an hour, for
   * the checkpoint that will name it.
   */
  missing(session: Session, sha256s: readonly string[]): Promise<string[]>;
  /**
   * Stores the contents of an archive (archive.ts), each under its hash; how many were new.
   *
   * @throws Problem `invalid_request` for one that is not what its name says, `too_large`.
   */
  store(session: Session, archive: Readable): Promise<number>;
  /**
   * Makes the checkpoint, once for its sequence number.
   *
   * @throws Problem `conflict` while contents are lacking, `too_large`, `fenced`.
   */
  commit(session: Session, wanted: NewCheckpoint): Promise<Checkpoint>;
  /**
   * The checkpoint that the session's trial goes on from, as an archive whose first entry is its
   * manifest; null when it begins anew.
   *
   * @throws Problem `conflict` when contents are gone from the disk.
   */
  restore(session: Session): Promise<Readable | null>;
  /** @throws Problem `not_found` */
  tree(trialId: TrialId): Promise<CheckpointTree>;
}
