/**
 * The bodies that Nomad takes, strictly: a field that its API does not have (package `api` of
 * 2.0.5) and a value of another type are refused, where Nomad itself would ignore or trip over it.
 */
import { type TProperties, type TSchema, Type } from "typebox";
import { Compile, type Validator } from "typebox/compile";
import { Refusal } from "./refusal.ts";

const maybe = (schema: TSchema) => Type.Optional(Type.Union([schema, Type.Null()]));
const closed = (fields: TProperties) => Type.Object(fields, { additionalProperties: false });
const any = (names: string) =>
  Object.fromEntries(names.split(" ").map((name) => [name, Type.Optional(Type.Unknown())]));
const Text = Type.String();
const Whole = Type.Integer();
const Flag = Type.Boolean();
const Texts = Type.Record(Text, Text);

const Constraint = closed({ LTarget: Text, RTarget: Text, Operand: Text });
const Constraints = maybe(Type.Array(Constraint));
const Device = closed({ Name: Text, Count: maybe(Whole), Constraints, ...any("Affinities") });

const Resources = closed({
  ...any("Networks NUMA SecretsMB IOPS DiskMB"),
  CPU: maybe(Whole),
  Cores: maybe(Whole),
  MemoryMB: maybe(Whole),
  MemoryMaxMB: maybe(Whole),
  Devices: maybe(Type.Array(Device)),
});

const Restart = closed({
  ...any("RenderTemplates"),
  Interval: maybe(Whole),
  Attempts: maybe(Whole),
  Delay: maybe(Whole),
  Mode: maybe(Type.Union([Type.Literal("fail"), Type.Literal("delay")])),
});

const Task = closed({
  ...any(
    "User Affinities Services Meta Artifacts Vault Consul Templates VolumeMounts CSIPluginConfig " +
      "Leader ShutdownDelay Kind ScalingPolicies Secrets Identity " +
      "Identities Actions Schedule Lifecycle",
  ),
  Name: Text,
  Driver: Text,
  Config: maybe(Type.Record(Text, Type.Unknown())),
  Constraints,
  Env: maybe(Texts),
  Resources: maybe(Resources),
  RestartPolicy: maybe(Restart),
  KillTimeout: maybe(Whole),
  KillSignal: maybe(Text),
  LogConfig: maybe(
    closed({ ...any("Enabled Disabled"), MaxFiles: maybe(Whole), MaxFileSizeMB: maybe(Whole) }),
  ),
  DispatchPayload: maybe(closed({ File: Text })),
});

const TaskGroup = closed({
  ...any(
    "Affinities Spreads Volumes Update Migrate Networks Services ShutdownDelay MaxRunDuration " +
      "StopAfterClientDisconnect MaxClientDisconnect Scaling Consul PreventRescheduleOnLost",
  ),
  Name: Text,
  Count: maybe(Whole),
  Constraints,
  Tasks: Type.Array(Task, { minItems: 1 }),
  RestartPolicy: maybe(Restart),
  Disconnect: maybe(
    closed({ ...any("LostAfter StopOnClientAfter Reconcile"), Replace: maybe(Flag) }),
  ),
  ReschedulePolicy: maybe(
    closed({
      ...any("Interval Delay DelayFunction MaxDelay"),
      Attempts: maybe(Whole),
      Unlimited: maybe(Flag),
    }),
  ),
  EphemeralDisk: maybe(closed({ Sticky: maybe(Flag), Migrate: maybe(Flag), SizeMB: maybe(Whole) })),
  Meta: maybe(Texts),
});

const Job = closed({
  ...any(
    "AllAtOnce Affinities Update Multiregion Spreads Periodic Reschedule Migrate UI Stop " +
      "ParentID " +
      "Dispatched DispatchIdempotencyToken Payload ConsulNamespace VaultNamespace NomadTokenID " +
      "Status StatusDescription Stable Version SubmitTime CreateIndex ModifyIndex JobModifyIndex " +
      "VersionTag",
  ),
  Region: maybe(Text),
  Namespace: maybe(Text),
  ID: maybe(Text),
  Name: maybe(Text),
  Type: maybe(Text),
  Priority: maybe(Whole),
  Datacenters: maybe(Type.Array(Text)),
  NodePool: maybe(Text),
  Constraints,
  TaskGroups: maybe(Type.Array(TaskGroup)),
  ParameterizedJob: maybe(
    closed({
      Payload: maybe(Text),
      MetaRequired: maybe(Type.Array(Text)),
      MetaOptional: maybe(Type.Array(Text)),
    }),
  ),
  Meta: maybe(Texts),
});

export const BODIES = {
  register: Compile(
    closed({
      ...any("Submission PolicyOverride PreserveCounts PreserveResources EvalPriority"),
      ...any("Region Namespace SecretID AuthToken"),
      Job: maybe(Job),
      EnforceIndex: Type.Optional(Flag),
      JobModifyIndex: Type.Optional(Whole),
    }),
  ),
  dispatch: Compile(
    closed({
      JobID: Type.Optional(Text),
      Payload: maybe(Text),
      Meta: maybe(Texts),
      IdPrefixTemplate: Type.Optional(Text),
      Priority: Type.Optional(Whole),
    }),
  ),
  drain: Compile(
    closed({
      NodeID: Type.Optional(Text),
      DrainSpec: maybe(closed({ Deadline: Whole, IgnoreSystemJobs: Flag })),
      MarkEligible: Flag,
      Meta: maybe(Texts),
    }),
  ),
} as const;

/** @throws Refusal 400, as for a body that does not decode. */
export function decode<Value>(validator: Validator, text: string): Value {
  if (text === "") throw new Refusal(400, "Request body is empty");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Refusal(400, (error as Error).message);
  }
  if (validator.Check(value)) return value as Value;
  const [first] = validator.Errors(value);
  throw new Refusal(400, `json: unknown field or wrong type at ${JSON.stringify(first)}`);
}
