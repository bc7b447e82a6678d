/**
 * A cassette: what a trial was answered, whole and in order, so that it can be run again without
 * anybody who answers. `autocode trial replay --export-cassette` writes one; version 1.
 */
import { type Static, Type } from "typebox";
import { Headers } from "./flows.ts";
import { Verdict } from "./trials.ts";

export const CASSETTE_SCHEMA_VERSION = 1;

export type CassetteBody = Static<typeof CassetteBody>;
export const CassetteBody = Type.Object(
  {
    media_type: Type.Union([Type.String({ maxLength: 200 }), Type.Null()]),
    encoding: Type.Union([Type.Literal("utf8"), Type.Literal("base64")]),
    /** Decompressed, and redacted: what was a secret is not played. */
    content: Type.String(),
  },
  { additionalProperties: false },
);

export type Exchange = Static<typeof Exchange>;
export const Exchange = Type.Object(
  {
    /** From 1, in the order the requests were made, of both doors together. */
    position: Type.Integer({ minimum: 1 }),
    flow_id: Type.String(),
    door: Type.Union([Type.Literal("egress"), Type.Literal("gateway")]),
    request: Type.Object(
      {
        method: Type.String({ maxLength: 100 }),
        scheme: Type.Union([Type.Literal("http"), Type.Literal("https")]),
        host: Type.String({ maxLength: 500 }),
        port: Type.Integer({ minimum: 0, maximum: 65_535 }),
        path: Type.String({ maxLength: 8_000 }),
        query: Type.Union([Type.String({ maxLength: 16_000 }), Type.Null()]),
        body: Type.Union([CassetteBody, Type.Null()]),
      },
      { additionalProperties: false },
    ),
    /** Null: the connection broke before an answer. */
    response: Type.Union([
      Type.Object(
        {
          status: Type.Integer({ minimum: 100, maximum: 999 }),
          headers: Headers,
          body: Type.Union([CassetteBody, Type.Null()]),
        },
        { additionalProperties: false },
      ),
      Type.Null(),
    ]),
  },
  { additionalProperties: false },
);

export type Cassette = Static<typeof Cassette>;
export const Cassette = Type.Object(
  {
    schema_version: Type.Literal(CASSETTE_SCHEMA_VERSION),
    /** The recorded trial: a cassette answers its like. */
    trial: Type.Object(
      {
        id: Type.String(),
        agent: Type.String(),
        task: Type.String(),
        pair: Type.String(),
        seed: Type.Integer({ minimum: 0 }),
        /** Of a fork the checkpoint that it began with: its like begins there, too. */
        forked_from: Type.Optional(Type.String({ maxLength: 100 })),
        verdict: Type.Union([Verdict, Type.Null()]),
      },
      { additionalProperties: false },
    ),
    exchanges: Type.Array(Exchange),
  },
  { additionalProperties: false, $id: "https://autocode.invalid/schemas/cassette/v1" },
);

/** `POST cassettes/replay`: a cassette that was written here or elsewhere, as a trial. */
export type NewCassetteReplay = Static<typeof NewCassetteReplay>;
export const NewCassetteReplay = Type.Object(
  { project: Type.String({ minLength: 1, maxLength: 63 }), cassette: Cassette },
  { additionalProperties: false },
);

/** Where a replay left its record: data of the event `replay.diverged`. */
export type Divergence = Static<typeof Divergence>;
export const Divergence = Type.Object(
  {
    /** The recorded exchange that was next; one past the last when there is none left. */
    position: Type.Integer({ minimum: 1 }),
    expected: Type.String({ maxLength: 2_000 }),
    asked: Type.String({ maxLength: 2_000 }),
  },
  { additionalProperties: false },
);
