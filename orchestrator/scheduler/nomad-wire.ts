/**
 * What Nomad's HTTP API answers, as far as it is used here (read in the source of 2.0.5, package
 * `api`). Fields that are not used are not named: a newer server may have more. A Go slice, map or
 * pointer that is empty may be null.
 */
import { type Static, type TProperties, type TSchema, Type } from "typebox";

const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);
const maybe = <Schema extends TSchema>(schema: Schema) => Type.Optional(nullable(schema));
const open = <Fields extends TProperties>(fields: Fields) =>
  Type.Object(fields, { additionalProperties: true });
const Text = Type.String();
const Index = Type.Integer({ minimum: 0 });

export type AclToken = Static<typeof AclToken>;
/** `GET /v1/acl/token/self` */
export const AclToken = open({
  AccessorID: Text,
  Name: maybe(Text),
  Type: Text,
  Policies: maybe(Type.Array(Text)),
});

const TaskGroupSummary = open({
  Queued: Type.Integer(),
  Complete: Type.Integer(),
  Failed: Type.Integer(),
  Running: Type.Integer(),
  Starting: Type.Integer(),
  Lost: Type.Integer(),
  Unknown: Type.Optional(Type.Integer()),
});

export type JobStub = Static<typeof JobStub>;
/** One of `GET /v1/jobs`. */
export const JobStub = open({
  ID: Text,
  ParentID: Text,
  Status: Text,
  Stop: Type.Boolean(),
  JobSummary: maybe(open({ Summary: maybe(Type.Record(Text, TaskGroupSummary)) })),
  CreateIndex: Index,
});
export const JobStubs = Type.Array(JobStub);

const Resources = open({
  CPU: maybe(Type.Integer()),
  MemoryMB: maybe(Type.Integer()),
  Devices: maybe(Type.Array(open({ Name: Text, Count: maybe(Type.Integer()) }))),
});

export type Job = Static<typeof Job>;
/** `GET /v1/job/:id`: what a variant is made from keeps every field, named here or not. */
export const Job = open({
  ID: Text,
  Stop: maybe(Type.Boolean()),
  JobModifyIndex: Index,
  NodePool: maybe(Text),
  Datacenters: maybe(Type.Array(Text)),
  Constraints: maybe(Type.Array(Type.Unknown())),
  Meta: maybe(Type.Record(Text, Text)),
  ParameterizedJob: maybe(
    open({ MetaRequired: maybe(Type.Array(Text)), MetaOptional: maybe(Type.Array(Text)) }),
  ),
  TaskGroups: Type.Array(
    open({
      Name: Text,
      EphemeralDisk: maybe(open({ SizeMB: maybe(Type.Integer()) })),
      Tasks: Type.Array(open({ Name: Text, Driver: Text, Resources: maybe(Resources) }), {
        minItems: 1,
      }),
    }),
    { minItems: 1 },
  ),
});

export const Registered = open({ JobModifyIndex: Index });
export const Dispatched = open({ DispatchedJobID: Text });
/** A job that is not there is deregistered with indexes of 0. */
export const Deregistered = open({});
export const Drained = open({ NodeModifyIndex: Index });

const TaskState = open({
  State: Text,
  Failed: Type.Boolean(),
  Events: maybe(
    Type.Array(
      open({
        Type: Text,
        ExitCode: Type.Optional(Type.Integer()),
        Signal: Type.Optional(Type.Integer()),
        DisplayMessage: Type.Optional(Text),
      }),
    ),
  ),
});

const AllocatedResources = open({
  Tasks: maybe(
    Type.Record(
      Text,
      open({
        Cpu: open({ CpuShares: Type.Integer() }),
        Memory: open({ MemoryMB: Type.Integer() }),
        Devices: maybe(Type.Array(open({ Type: Text, DeviceIDs: maybe(Type.Array(Text)) }))),
      }),
    ),
  ),
  Shared: maybe(open({ DiskMB: Type.Integer() })),
});

export type Allocation = Static<typeof Allocation>;
/** One of `GET /v1/allocations` or of `GET /v1/job/:id/allocations`, and of an event's payload. */
export const Allocation = open({
  ID: Text,
  JobID: Text,
  NodeID: Text,
  TaskGroup: Text,
  DesiredStatus: Text,
  ClientStatus: Text,
  ClientDescription: Text,
  TaskStates: maybe(Type.Record(Text, TaskState)),
  AllocatedResources: maybe(AllocatedResources),
  CreateIndex: Index,
});
export const Allocations = Type.Array(Allocation);

const Amounts = {
  Cpu: open({ CpuShares: Type.Integer(), TotalCpuCores: Type.Optional(Type.Integer()) }),
  Memory: open({ MemoryMB: Type.Integer() }),
  Disk: open({ DiskMB: Type.Integer() }),
};
const DeviceGroup = open({
  Vendor: Text,
  Type: Text,
  Name: Text,
  Instances: maybe(Type.Array(open({ ID: Text, Healthy: Type.Boolean() }))),
  Attributes: maybe(Type.Record(Text, open({ Int: maybe(Type.Integer()), Unit: maybe(Text) }))),
});

export type NodeStub = Static<typeof NodeStub>;
/** One of `GET /v1/nodes?resources=true`. */
export const NodeStub = open({
  ID: Text,
  Name: Text,
  Datacenter: Text,
  NodePool: Text,
  Version: Text,
  Drain: Type.Boolean(),
  SchedulingEligibility: Text,
  Status: Text,
  Drivers: maybe(Type.Record(Text, open({ Detected: Type.Boolean(), Healthy: Type.Boolean() }))),
  NodeResources: maybe(open({ ...Amounts, Devices: maybe(Type.Array(DeviceGroup)) })),
  ReservedResources: maybe(open(Amounts)),
  ModifyIndex: Index,
});
export const NodeStubs = Type.Array(NodeStub);

export type Node = Static<typeof Node>;
/** `GET /v1/node/:id`, for what its stub leaves out. */
export const Node = open({
  Attributes: maybe(Type.Record(Text, Text)),
  Meta: maybe(Type.Record(Text, Text)),
});

/** `GET /v1/agent/self`, for its version. */
export const AgentSelf = open({ member: open({ Tags: maybe(Type.Record(Text, Text)) }) });

/** One line of `GET /v1/event/stream`; a heartbeat is `{}`. */
export const EventFrame = open({
  Index: Type.Optional(Index),
  Events: maybe(
    Type.Array(
      open({
        Topic: Text,
        Type: Text,
        Payload: maybe(open({ Allocation: maybe(Allocation) })),
      }),
    ),
  ),
});

/** One of the objects that `GET /v1/client/fs/logs/:id` is a row of; a heartbeat is `{}`. */
export const LogFrame = open({ Data: maybe(Text) });
