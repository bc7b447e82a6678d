/** Named API tokens: what a program of an admin's asks with. */
import { type Static, Type } from "typebox";

const YEAR_MS = 365 * 86_400_000;

const Time = Type.String({ format: "date-time" });
const MaybeTime = Type.Union([Time, Type.Null()]);

const TokenName = Type.String({
  pattern: "^[a-z0-9][a-z0-9._-]{0,62}$",
  description: "a token's name: up to 63 of a-z, 0-9, dot, _ and -",
});

/** Each may do what those before it may. */
export type ApiRole = Static<typeof ApiRole>;
export const ApiRole = Type.Union([
  Type.Literal("viewer"),
  Type.Literal("operator"),
  Type.Literal("admin"),
]);

/** `POST /api/v1/tokens`. */
export type NewApiToken = Static<typeof NewApiToken>;
export const NewApiToken = Type.Object(
  {
    name: TokenName,
    role: ApiRole,
    ttl_ms: Type.Union([Type.Integer({ minimum: 1_000, maximum: 10 * YEAR_MS }), Type.Null()], {
      description: "null: good until it is revoked",
    }),
  },
  { additionalProperties: false },
);

const FACTS = {
  id: Type.String(),
  name: TokenName,
  role: ApiRole,
  created_at: Time,
  expires_at: MaybeTime,
};

export type ApiToken = Static<typeof ApiToken>;
export const ApiToken = Type.Object(
  {
    ...FACTS,
    /** Told this once; its hash alone is kept. */
    token: Type.String(),
  },
  { additionalProperties: false },
);

/** A token as it can be told again: without its secret. */
export type ApiTokenFacts = Static<typeof ApiTokenFacts>;
export const ApiTokenFacts = Type.Object(
  {
    ...FACTS,
    last_used_at: Type.Union([Time, Type.Null()], { description: "To the minute" }),
    is_expired: Type.Boolean(),
  },
  { additionalProperties: false },
);

export type ApiTokenList = Static<typeof ApiTokenList>;
export const ApiTokenList = Type.Object(
  { tokens: Type.Array(ApiTokenFacts) },
  { additionalProperties: false },
);
