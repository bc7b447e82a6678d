/**
 * The egress policy: what a trial's worker may reach. It is the `egress` of a project's file, of a
 * file of its own (`trial run --egress`), and what the proxies decide by.
 *
 * Rules are read from the first to the last; the first that matches decides; what none matches is
 * refused. A trial's own rules come before its agent's, those before the project's, and the presets
 * come last.
 */
import { type Static, Type } from "typebox";

export const EGRESS_PRESETS = ["npm", "pypi", "debian", "github-read"] as const;

const Pattern = (pattern: string, description: string) =>
  Type.String({ minLength: 1, maxLength: 253, pattern, description });

const HostPattern = Pattern(
  "^(\\*|(\\*\\.)?[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?|\\[[0-9A-Fa-f:.]+\\])$",
  'a host such as "api.example.org", "*.example.org" for all below it, an address, or "*"',
);
const PathPattern = Type.String({
  minLength: 1,
  maxLength: 1000,
  pattern: "^/",
  description: 'a path such as "/v1/*" (one part) or "/api/**" (all below)',
});
const ByteCount = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const SecretPath = Type.String({
  pattern: "^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$",
  maxLength: 200,
  description: 'the path of a secret, such as "forge/github/token"',
});

export type EgressAction = Static<typeof EgressAction>;
export const EgressAction = Type.Union(
  [
    Type.Literal("allow"),
    Type.Literal("deny"),
    Type.Literal("passthrough"),
    Type.Literal("inject"),
  ],
  {
    description:
      "allow, deny, inject (allow, and put a credential in), or passthrough (TLS is not opened: " +
      "only its host, bytes and times are known)",
  },
);

export type EgressRule = Static<typeof EgressRule>;
export const EgressRule = Type.Object(
  {
    action: EgressAction,
    hosts: Type.Array(HostPattern, { minItems: 1, maxItems: 100 }),
    methods: Type.Optional(
      Type.Array(Pattern("^[A-Z]{1,20}$", "a method such as GET"), { minItems: 1, maxItems: 20 }),
    ),
    paths: Type.Optional(Type.Array(PathPattern, { minItems: 1, maxItems: 100 })),
    ports: Type.Optional(
      Type.Array(Type.Integer({ minimum: 1, maximum: 65_535 }), {
        minItems: 1,
        maxItems: 20,
        description: "80 and 443 unless said",
      }),
    ),
    /** What `inject` puts in, for these hosts alone. */
    credential: Type.Optional(
      Type.Object(
        {
          secret: SecretPath,
          /** Absent: where the worker wrote the placeholder `{{secret:…}}`. */
          header: Type.Optional(Pattern("^[A-Za-z][A-Za-z0-9-]*$", "a header's name")),
          /** The header's value, with the secret in place of `{}`. */
          format: Type.Optional(
            Type.String({ maxLength: 200, pattern: "\\{\\}", description: 'such as "Bearer {}"' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    /** The host may have loopback, private or link-local addresses: never without being named. */
    is_private: Type.Optional(Type.Boolean()),
    /** The worker may send credentials that we did not give it. */
    allows_credentials: Type.Optional(Type.Boolean()),
    /** Of `passthrough`: its TLS may hide its server's name, as browsers' always may. */
    allows_encrypted_hello: Type.Optional(
      Type.Boolean({
        description:
          "of passthrough: TLS may carry an Encrypted Client Hello, as browsers send; it may then " +
          "be for any other site that the host's addresses serve",
      }),
    ),
    request_bytes_max: Type.Optional(ByteCount),
    response_bytes_max: Type.Optional(ByteCount),
    requests_per_minute: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
    reason: Type.Optional(Type.String({ minLength: 1, maxLength: 500 })),
  },
  { additionalProperties: false },
);

const LAYER = {
  presets: Type.Optional(
    Type.Array(Type.Enum(EGRESS_PRESETS), {
      uniqueItems: true,
      description: `of ${EGRESS_PRESETS.join(", ")}`,
    }),
  ),
  rules: Type.Optional(Type.Array(EgressRule, { maxItems: 500 })),
};

/** What one agent, or one trial, may reach beyond the project's own. */
export type EgressLayer = Static<typeof EgressLayer>;
export const EgressLayer = Type.Object(LAYER, {
  additionalProperties: false,
  $id: "https://autocode.invalid/schemas/egress.yaml/v1",
});

export type EgressPolicy = Static<typeof EgressPolicy>;
export const EgressPolicy = Type.Object(
  {
    ...LAYER,
    /** `warn`: what would be refused is let through, recorded and told; for finding the rules. */
    mode: Type.Optional(Type.Union([Type.Literal("enforce"), Type.Literal("warn")])),
    /** By an agent's name: rules of its own. */
    agents: Type.Optional(
      Type.Record(
        Type.String({ pattern: "^[a-z0-9][a-z0-9-]{0,62}$" }),
        Type.Object(LAYER, { additionalProperties: false }),
      ),
    ),
    /** Variables of the worker's environment; `{{secret:…}}` is all that it sees of a secret. */
    environment: Type.Optional(
      Type.Record(
        Type.String({ pattern: "^[A-Z][A-Z0-9_]{0,99}$" }),
        Type.String({ maxLength: 1000 }),
      ),
    ),
    /** A worker that cannot close its trial's network does not run it. */
    require_isolation: Type.Optional(Type.Boolean()),
    /** What cannot be recorded is refused. */
    require_record: Type.Optional(Type.Boolean()),
    /** LLM calls pass through the proxy on their way to the gateway as well. */
    llm_through_proxy: Type.Optional(Type.Boolean()),
    /** Bytes that a trial may send, all requests together. */
    request_bytes_per_trial_max: Type.Optional(ByteCount),
  },
  { additionalProperties: false },
);

/** Why it was decided so. A reason is never renamed: records keep it. */
export const DECISION_REASONS = [
  "rule", // a rule says so
  "no_rule", // default deny
  "warned", // would be refused, but for `mode: warn`
  "private_address", // it resolves to one that must be named
  "unresolved", // it has no address
  "bad_target", // no host and port that can be read in one way only
  "name_mismatch", // CONNECT, SNI, Host or :authority disagree
  "no_server_name", // TLS without SNI, or with an encrypted one
  "not_http", // bytes that are neither TLS nor HTTP
  "bad_request", // HTTP that can be read in two ways
  "too_large",
  "too_fast",
  "too_many", // more connections or requests at a time than one worker may have
  "foreign_credential", // a credential that we did not give it
  "canary", // the trial's canary was in it: the trial is stopped
  "credential_failed", // the secret is not there, or the secrets are sealed
  "unrecorded", // the spool is full, and the policy requires a record
  "session_ended",
  "no_session", // no proxy credentials, or unknown ones
  "dropped", // no HTTP: the worker's network let no packet through
  "replayed", // answered from the record
  "diverged", // a replay that asks what the record has not
  "gateway", // a call to the metering gateway
] as const;
export type DecisionReason = (typeof DECISION_REASONS)[number];

/** What was decided of a flow, and by which line. */
export type Decision = Static<typeof Decision>;
export const Decision = Type.Object(
  {
    action: Type.Union([
      Type.Literal("allow"),
      Type.Literal("deny"),
      Type.Literal("passthrough"),
      Type.Literal("inject"),
    ]),
    reason: Type.Enum(DECISION_REASONS),
    /** Its place: "rules[3]", "agents.aider.rules[0]", "preset npm[1]", "trial rules[0]". */
    rule: Type.Union([Type.String({ maxLength: 200 }), Type.Null()]),
    /** For a person: one sentence, with what to do about it. */
    detail: Type.String({ maxLength: 1000 }),
  },
  { additionalProperties: false },
);

/** `POST …/projects/:name/egress/decide`: what the policy says of a request; nothing is sent. */
export type EgressQuestion = Static<typeof EgressQuestion>;
export const EgressQuestion = Type.Object(
  {
    method: Type.Optional(Pattern("^[A-Z]{1,20}$", "a method such as GET")),
    url: Type.String({ minLength: 1, maxLength: 8000 }),
    agent: Type.Optional(Type.String({ maxLength: 63 })),
  },
  { additionalProperties: false },
);

/** `GET …/projects/:name/egress`: the rules in force, in the order in which they are read. */
export type EffectivePolicy = Static<typeof EffectivePolicy>;
export const EffectivePolicy = Type.Object(
  {
    /** `open`: the worker's own network, which nobody decides of. */
    kind: Type.Union([Type.Literal("open"), Type.Literal("proxied")]),
    mode: Type.Union([Type.Literal("enforce"), Type.Literal("warn")]),
    require_isolation: Type.Boolean(),
    require_record: Type.Boolean(),
    llm_through_proxy: Type.Boolean(),
    request_bytes_per_trial_max: Type.Union([ByteCount, Type.Null()]),
    rules: Type.Array(
      Type.Object(
        { place: Type.String({ maxLength: 200 }), rule: EgressRule },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
