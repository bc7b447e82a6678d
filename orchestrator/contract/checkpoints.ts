/**
 * Checkpoints: what a trial had done at a moment. A manifest names the files that differ from the
 * base commit and those of the CLI's session, their contents by hash; it is itself kept by the
 * hash of its canonical JSON (keys and paths in order, no white space).
 */
import { type Static, Type } from "typebox";
import { TrialState, Verdict } from "./trials.ts";

export const Sha256 = Type.String({ pattern: "^[0-9a-f]{64}$" });

/** Relative; no part of it is empty, `.`, `..` or git's own folder. */
const RelativePath = Type.String({
  minLength: 1,
  maxLength: 4096,
  pattern: "^(?:(?!\\.{1,2}(?:/|$)|\\.[gG][iI][tT](?:/|$))[^/\\u0000]+(?:/(?!$)|$))+$",
});

const content = {
  sha256: Sha256,
  byte_count: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
};

/** One path of the work tree that differs from the base commit. */
export type WorkEntry = Static<typeof WorkEntry>;
export const WorkEntry = Type.Union([
  Type.Object(
    { path: RelativePath, type: Type.Literal("file"), is_executable: Type.Boolean(), ...content },
    { additionalProperties: false },
  ),
  /** A symbolic link; its content is where it points to. */
  Type.Object(
    { path: RelativePath, type: Type.Literal("link"), ...content },
    { additionalProperties: false },
  ),
  Type.Object(
    { path: RelativePath, type: Type.Literal("deleted") },
    { additionalProperties: false },
  ),
]);

export const MANIFEST_FILES_MAX = 20_000;

export type Manifest = Static<typeof Manifest>;
export const Manifest = Type.Object(
  {
    version: Type.Literal(1),
    base_commit: Type.String({ pattern: "^[0-9a-f]{40,64}$" }),
    work: Type.Array(WorkEntry, { maxItems: MANIFEST_FILES_MAX }),
    /** Below the agent's HOME; null where there is no session to go on with. */
    session: Type.Union([
      Type.Object(
        {
          /** The allocation's folder, as it is and as it is known: paths in texts begin so. */
          folders: Type.Tuple([Type.String({ maxLength: 4096 }), Type.String({ maxLength: 4096 })]),
          files: Type.Array(
            Type.Object({ path: RelativePath, ...content }, { additionalProperties: false }),
            { maxItems: 1_000 },
          ),
        },
        { additionalProperties: false },
      ),
      Type.Null(),
    ]),
  },
  { additionalProperties: false },
);

export const CHECKPOINT_CAUSES = ["periodic", "phase", "pause", "end"] as const;
export type CheckpointCause = (typeof CHECKPOINT_CAUSES)[number];
export const CheckpointCause = Type.Enum(CHECKPOINT_CAUSES);

export const PhaseName = Type.Union([Type.Literal("plan"), Type.Literal("execute")]);

/** The conversation of a CLI that was stopped; `id` is null where the CLI has but one. */
export type SessionPoint = Static<typeof SessionPoint>;
export const SessionPoint = Type.Object(
  {
    id: Type.Union([Type.String({ maxLength: 200 }), Type.Null()]),
    /** The phase that was stopped. */
    phase: PhaseName,
  },
  { additionalProperties: false },
);

/** What an agent needs to go on, beside the files. */
export type ResumePoint = Static<typeof ResumePoint>;
export const ResumePoint = Type.Object(
  {
    completed_phases: Type.Array(PhaseName, { maxItems: 2, uniqueItems: true }),
    plan_text: Type.Union([Type.String({ maxLength: 100_000 }), Type.Null()]),
    /** Present when the manifest has a session. */
    session: Type.Optional(SessionPoint),
  },
  { additionalProperties: false },
);

/** `POST worker/checkpoints`: made once all its contents are stored. */
export type NewCheckpoint = Static<typeof NewCheckpoint>;
export const NewCheckpoint = Type.Object(
  {
    sequence: Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      description: "Counts the allocation's checkpoints: the same one is made once",
    }),
    cause: CheckpointCause,
    phase: Type.Union([PhaseName, Type.Null()]),
    resume: ResumePoint,
    manifest: Manifest,
  },
  { additionalProperties: false },
);

/** How many contents one request may ask after, or bring. */
export const BLOBS_PER_REQUEST = 5_000;
/** What the contents that one request brings may have together. */
export const BLOB_BYTES_PER_REQUEST = 67_108_864;

export const BlobList = Type.Object(
  { sha256s: Type.Array(Sha256, { maxItems: BLOBS_PER_REQUEST }) },
  { additionalProperties: false },
);

export type Checkpoint = Static<typeof Checkpoint>;
export const Checkpoint = Type.Object(
  {
    id: Type.String(),
    trial_id: Type.String(),
    allocation_id: Type.String(),
    parent_id: Type.Union([Type.String(), Type.Null()], {
      description: "The one it grew from, be it another trial's",
    }),
    cause: CheckpointCause,
    phase: Type.Union([PhaseName, Type.Null()]),
    completed_phases: Type.Array(PhaseName),
    has_session: Type.Boolean({ description: "The CLI's conversation is in it" }),
    file_count: Type.Integer({
      minimum: 0,
      description: "Files that differ from the base commit",
    }),
    byte_count: Type.Integer({ minimum: 0 }),
    new_byte_count: Type.Integer({
      minimum: 0,
      description: "What no earlier checkpoint of the project had",
    }),
    manifest_sha256: Sha256,
    created_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

/** The tree that a trial's checkpoints stand in: the trials that grew from one another. */
export type CheckpointTree = Static<typeof CheckpointTree>;
export const CheckpointTree = Type.Object(
  {
    /** Oldest first; the first is the one that was not forked. */
    trials: Type.Array(
      Type.Object(
        {
          id: Type.String(),
          agent: Type.String(),
          pair: Type.String(),
          state: TrialState,
          verdict: Type.Union([Verdict, Type.Null()]),
          forked_from: Type.Union([Type.String(), Type.Null()], {
            description: "The checkpoint that it began with",
          }),
        },
        { additionalProperties: false },
      ),
    ),
    /** Oldest first. */
    checkpoints: Type.Array(Checkpoint),
  },
  { additionalProperties: false },
);
