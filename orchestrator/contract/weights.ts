/** Model weights kept on this machine: what is asked of the store, its progress, what it holds. */
import { type Static, Type } from "typebox";

const BYTES_MAX = Number.MAX_SAFE_INTEGER;
const Bytes = Type.Integer({ minimum: 0, maximum: BYTES_MAX });
const MaybeText = Type.Union([Type.String(), Type.Null()]);
const Word = Type.String({ minLength: 1, maxLength: 200 });

/** `POST /models/pull`: a pair's models or one model; answers WeightProgress, one JSON a line. */
export type PullRequest = Static<typeof PullRequest>;
export const PullRequest = Type.Object(
  {
    /** A pair ("coder-14b", "14b") or a model's card ("qwen2.5-coder-14b-instruct"). */
    model: Word,
    /** Absent: the first of the model's card. */
    quantisation: Type.Optional(Type.String({ minLength: 1, maxLength: 32 })),
    /** Licences whose terms are accepted by this request, by their id. */
    accepted_licences: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 10 }),
    ),
    /** Who accepts them, as the store keeps it. */
    accepted_by: Type.Optional(Type.String({ minLength: 1, maxLength: 200 })),
    /** A folder of the server's machine to take the files from, in place of the hub. */
    from: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })),
    /** Reads all files of what is here again, and fetches nothing. */
    is_verify: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);

/** `failed` is the last line; `checked` and `pulled` end one model's. */
export type WeightProgress = Static<typeof WeightProgress>;
export const WeightProgress = Type.Object(
  {
    model: Type.String(),
    quantisation: Type.String(),
    step: Type.Union([
      Type.Literal("looking"),
      Type.Literal("fetching"),
      Type.Literal("copying"),
      Type.Literal("checking"),
      Type.Literal("warning"),
      Type.Literal("already_here"),
      Type.Literal("pulled"),
      Type.Literal("checked"),
      Type.Literal("failed"),
    ]),
    detail: Type.String(),
    bytes: Bytes,
    /** 0 while it is not known. */
    bytes_total: Bytes,
    /** Over the last seconds; null at the start. */
    bytes_per_second: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    eta_ms: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
  },
  { additionalProperties: false },
);

/** A model's weights in the store. `partial`: a pull that was cut; pulling again goes on. */
export type StoredWeights = Static<typeof StoredWeights>;
export const StoredWeights = Type.Object(
  {
    model: Type.String(),
    quantisation: Type.String(),
    state: Type.Union([Type.Literal("whole"), Type.Literal("partial"), Type.Literal("damaged")]),
    /** Why it is damaged, or what a person should know of it. */
    detail: Type.String(),
    dir: Type.String(),
    repository: MaybeText,
    revision: Type.String(),
    files: Type.Integer({ minimum: 0 }),
    bytes: Bytes,
    licence: MaybeText,
    accepted_by: MaybeText,
    accepted_at: MaybeText,
    pulled_at: MaybeText,
  },
  { additionalProperties: false },
);

export type WeightList = Static<typeof WeightList>;
export const WeightList = Type.Object(
  {
    dir: Type.String(),
    /** Of the disk that the store is on. */
    free_bytes: Bytes,
    weights: Type.Array(StoredWeights),
  },
  { additionalProperties: false },
);

/** `POST /models/remove`: a pair's models or one model. */
export type RemoveRequest = Static<typeof RemoveRequest>;
export const RemoveRequest = Type.Object(
  {
    model: Word,
    /** Absent: all that are here of the model. */
    quantisation: Type.Optional(Type.String({ minLength: 1, maxLength: 32 })),
  },
  { additionalProperties: false },
);

export type RemovedWeights = Static<typeof RemovedWeights>;
export const RemovedWeights = Type.Object(
  {
    freed_bytes: Bytes,
    removed: Type.Array(
      Type.Object(
        { model: Type.String(), quantisation: Type.String(), bytes: Bytes },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
