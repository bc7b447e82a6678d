/** The secrets as the API has them: for admins; a value is in one answer alone. */
import { type Static, Type } from "typebox";

const CLOSED = { additionalProperties: false };
const Path = Type.String({
  minLength: 1,
  maxLength: 200,
  description: 'Lower-case words with slashes between them: "provider/openai"',
});
const Value = Type.String({ minLength: 1, maxLength: 65_536 });

export type SecretsReport = Static<typeof SecretsReport>;
export const SecretsReport = Type.Object(
  {
    engine: Type.Union([Type.Literal("file"), Type.Literal("vault"), Type.Literal("env")]),
    state: Type.Union([
      Type.Literal("ready"),
      Type.Literal("sealed"),
      Type.Literal("denied"),
      Type.Literal("expired"),
      Type.Literal("unreachable"),
    ]),
    detail: Type.String(),
    /** The key that signs; null while it cannot be asked for. */
    key_id: Type.Union([Type.String(), Type.Null()]),
    can_write: Type.Boolean(),
    can_rotate_key: Type.Boolean(),
    can_issue_scoped: Type.Boolean(),
    can_reseal: Type.Boolean(),
  },
  CLOSED,
);

export type SecretList = Static<typeof SecretList>;
export const SecretList = Type.Object({ paths: Type.Array(Type.String()) }, CLOSED);

export const RevealSecret = Type.Object(
  { path: Path, version: Type.Optional(Type.Integer({ minimum: 1 })) },
  CLOSED,
);

export type RevealedSecret = Static<typeof RevealedSecret>;
export const RevealedSecret = Type.Object(
  { value: Type.String(), version: Type.Integer() },
  CLOSED,
);

export const PutSecret = Type.Object(
  {
    path: Path,
    value: Value,
    /** Only over this version; 0: only where there is none. */
    expected_version: Type.Optional(Type.Integer({ minimum: 0 })),
  },
  CLOSED,
);

export type StoredSecret = Static<typeof StoredSecret>;
export const StoredSecret = Type.Object({ version: Type.Integer() }, CLOSED);

export const RemoveSecret = Type.Object({ path: Path }, CLOSED);

export type RotatedKey = Static<typeof RotatedKey>;
export const RotatedKey = Type.Object({ key_id: Type.String() }, CLOSED);

export const Reseal = Type.Object(
  {
    /** Null: with a new key file. */
    passphrase: Type.Union([Type.String({ minLength: 12, maxLength: 1_000 }), Type.Null()]),
  },
  CLOSED,
);

export type Resealed = Static<typeof Resealed>;
export const Resealed = Type.Object({ is_resealed: Type.Literal(true) }, CLOSED);

export const IssueScoped = Type.Object(
  {
    paths: Type.Array(Path, { minItems: 1, maxItems: 20, uniqueItems: true }),
    ttl_ms: Type.Integer({ minimum: 1_000, maximum: 86_400_000 }),
    uses: Type.Integer({ minimum: 1, maximum: 1_000 }),
    is_wrapped: Type.Boolean(),
    /** Written beside the token in the engine: a trial's id, a host's name. */
    purpose: Type.String({ minLength: 1, maxLength: 100 }),
  },
  CLOSED,
);

export type IssuedToken = Static<typeof IssuedToken>;
export const IssuedToken = Type.Object(
  {
    token: Type.String(),
    is_wrapped: Type.Boolean(),
    places: Type.Array(Type.Object({ path: Type.String(), place: Type.String() }, CLOSED)),
  },
  CLOSED,
);
