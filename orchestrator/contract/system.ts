/** What the installation says of itself. */
import { type Static, Type } from "typebox";

/** One line of `autocode doctor`: which adapter of a port is in force, and why. */
export type Finding = Static<typeof Finding>;
export const Finding = Type.Object(
  {
    part: Type.String({ examples: ["database", "scheduler", "agent qwen-code"] }),
    status: Type.Union([Type.Literal("ok"), Type.Literal("warn"), Type.Literal("missing")]),
    detail: Type.String(),
    next_step: Type.Union([Type.String(), Type.Null()]),
  },
  { additionalProperties: false },
);

/** Why an agent does worse with a pair, or does not work with it at all. */
export type SoundnessReason = Static<typeof SoundnessReason>;
export const SoundnessReason = Type.Object(
  {
    kind: Type.Union([
      Type.Literal("plans_blind"),
      Type.Literal("little_room"),
      Type.Literal("no_room"),
      Type.Literal("no_tools"),
      Type.Literal("no_parser"),
      Type.Literal("other_protocol"),
    ]),
    detail: Type.String(),
  },
  { additionalProperties: false },
);

/** `sound`: every phase of the agent works with the pair; `limited`: worse than it could. */
export type Soundness = Static<typeof Soundness>;
export const Soundness = Type.Object(
  {
    agent: Type.String(),
    verdict: Type.Union([Type.Literal("sound"), Type.Literal("limited"), Type.Literal("unsound")]),
    reasons: Type.Array(SoundnessReason),
  },
  { additionalProperties: false },
);

export type PairStatus = Static<typeof PairStatus>;
export const PairStatus = Type.Object(
  {
    name: Type.String(),
    normal: Type.String(),
    thinking: Type.String(),
    provider: Type.String(),
    is_scripted: Type.Boolean(),
    is_available: Type.Boolean(),
    detail: Type.String(),
    agents: Type.Array(Soundness),
  },
  { additionalProperties: false },
);

export type PairList = Static<typeof PairList>;
export const PairList = Type.Object(
  { pairs: Type.Array(PairStatus) },
  { additionalProperties: false },
);

export type DoctorReport = Static<typeof DoctorReport>;
export const DoctorReport = Type.Object(
  { findings: Type.Array(Finding) },
  { additionalProperties: false },
);

/** `/readyz`: each dependency by name, null when it is ready, else why not. */
export type Readiness = Static<typeof Readiness>;
export const Readiness = Type.Object(
  {
    is_ready: Type.Boolean(),
    dependencies: Type.Record(Type.String(), Type.Union([Type.String(), Type.Null()])),
  },
  { additionalProperties: false },
);

/** `POST /api/v1/login-links`: an address that logs one browser in, once. */
export type LoginLink = Static<typeof LoginLink>;
export const LoginLink = Type.Object(
  { url: Type.String(), expires_at: Type.String({ format: "date-time" }) },
  { additionalProperties: false },
);

/** `$AUTOCODE_HOME/shared/configs/endpoint.json`: where this machine's command line finds us. */
export type Endpoint = Static<typeof Endpoint>;
export const Endpoint = Type.Object(
  {
    url: Type.String({ pattern: "^https?://" }),
    token: Type.String({ minLength: 1 }),
    gateway_url: Type.Optional(Type.String()),
    egress_url: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
);

/** RFC 9457; `type` is `/problems/<code>`. Facts of the case are members beside these. */
export type ProblemBody = Static<typeof ProblemBody>;
export const ProblemBody = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
});
