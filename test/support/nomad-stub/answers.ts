/** What the stub's rows look like on the wire; an empty map or slice of Go's is null. */
import { askOf, type StubNode } from "./nodes.ts";
import { isOver, type StubAllocation, type StubJob } from "./state.ts";

const ZERO_TIME = "0001-01-01T00:00:00Z";

export function jobStub(
  job: StubJob,
  allocations: readonly StubAllocation[],
  meta: boolean,
): object {
  const mine = allocations.filter(({ JobID }) => JobID === job.ID);
  const count = (status: string) =>
    mine.filter(({ ClientStatus }) => ClientStatus === status).length;
  const summary = {
    Queued: job.isWaiting ? 1 : 0,
    Complete: count("complete"),
    Failed: count("failed"),
    Running: count("running"),
    Starting: count("pending"),
    Lost: count("lost"),
    Unknown: 0,
  };
  const group = job.spec["TaskGroups"][0].Name;
  const isParent = job.ParentID === "";
  return {
    ID: job.ID,
    ParentID: job.ParentID,
    Name: job.ID,
    Namespace: "default",
    Datacenters: job.spec["Datacenters"],
    NodePool: job.spec["NodePool"],
    Type: job.spec["Type"],
    Priority: job.Priority,
    Periodic: false,
    ParameterizedJob: isParent,
    Stop: job.Stop,
    Status: job.Status,
    StatusDescription: "",
    JobSummary: {
      JobID: job.ID,
      Namespace: "default",
      Summary: isParent ? {} : { [group]: summary },
      Children: isParent ? { Pending: 0, Running: 0, Dead: 0 } : null,
      CreateIndex: job.CreateIndex,
      ModifyIndex: job.ModifyIndex,
    },
    CreateIndex: job.CreateIndex,
    ModifyIndex: job.ModifyIndex,
    JobModifyIndex: job.JobModifyIndex,
    SubmitTime: 0,
    ...(meta ? { Meta: job.spec["Meta"] ?? null } : {}),
  };
}

/** `reversed`: a map's keys come in any order, never twice in the same. */
export function jobDetail(job: StubJob, isReversed: boolean): object {
  const { spec } = job;
  const detail = {
    Region: "global",
    Affinities: null,
    Constraints: null,
    Multiregion: null,
    ...structuredClone(spec),
    Namespace: "default",
    Stop: job.Stop,
    ParentID: job.ParentID,
    Dispatched: job.ParentID !== "",
    DispatchIdempotencyToken: job.DispatchIdempotencyToken,
    Payload: job.payload === "" ? null : Buffer.from(job.payload).toString("base64"),
    Status: job.Status,
    StatusDescription: "",
    Stable: false,
    Version: 0,
    SubmitTime: 0,
    CreateIndex: job.CreateIndex,
    ModifyIndex: job.ModifyIndex,
    JobModifyIndex: job.JobModifyIndex,
    Meta: spec["Meta"] ?? null,
  };
  return isReversed ? (reversed(detail) as object) : detail;
}

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value).reverse();
  return Object.fromEntries(entries.map(([key, inner]) => [key, reversed(inner)]));
}

export function allocationStub(
  allocation: StubAllocation,
  job: StubJob | undefined,
  node: StubNode | undefined,
  fields: { resources: boolean; taskStates: boolean },
): object {
  const group = job?.spec["TaskGroups"][0];
  return {
    ID: allocation.ID,
    EvalID: allocation.ID,
    Name: `${allocation.JobID}.${group?.Name ?? ""}[0]`,
    Namespace: "default",
    NodeID: allocation.NodeID,
    NodeName: node?.options.name ?? "",
    JobID: allocation.JobID,
    JobType: "batch",
    JobVersion: 0,
    TaskGroup: group?.Name ?? "",
    DesiredStatus: allocation.DesiredStatus,
    DesiredDescription: "",
    ClientStatus: allocation.ClientStatus,
    ClientDescription: "",
    DesiredTransition: { Migrate: null, Reschedule: null, ForceReschedule: null },
    TaskStates: fields.taskStates ? taskStates(allocation, group?.Tasks[0].Name ?? "") : null,
    DeploymentStatus: null,
    FollowupEvalID: "",
    NextAllocation: "",
    RescheduleTracker: null,
    PreemptedAllocations: null,
    PreemptedByAllocation: "",
    CreateIndex: allocation.CreateIndex,
    ModifyIndex: allocation.ModifyIndex,
    CreateTime: 0,
    ModifyTime: 0,
    ...(fields.resources && job !== undefined ? { AllocatedResources: allocated(job) } : {}),
  };
}

function allocated(job: StubJob): object {
  const { cpu, memory, disk, gpus } = askOf(job.spec);
  const DeviceIDs = Array.from({ length: gpus }, (_, at) => `gpu-${at}`);
  const Devices = gpus === 0 ? null : [{ Vendor: "nvidia", Type: "gpu", Name: "L4", DeviceIDs }];
  return {
    Tasks: {
      [job.spec["TaskGroups"][0].Tasks[0].Name]: {
        Cpu: { CpuShares: cpu, ReservedCores: null },
        Memory: { MemoryMB: memory, MemoryMaxMB: 0 },
        Networks: null,
        Devices,
      },
    },
    Shared: { DiskMB: disk, Networks: null, Ports: null },
  };
}

function taskStates(allocation: StubAllocation, task: string): object | null {
  const { ClientStatus, exitCode } = allocation;
  if (ClientStatus === "pending") return null;
  const isDead = isOver(allocation);
  const ended = { Type: "Terminated", Time: 0, DisplayMessage: "", Details: {}, Message: "" };
  return {
    [task]: {
      State: isDead ? "dead" : "running",
      Failed: ClientStatus === "failed",
      Restarts: 0,
      LastRestart: null,
      StartedAt: "2026-11-21T12:00:00Z",
      FinishedAt: isDead ? "2026-11-21T12:00:01Z" : ZERO_TIME,
      Events: [
        { Type: "Started", Time: 0, ExitCode: 0, Signal: 0, DisplayMessage: "", Details: {} },
        ...(exitCode === null ? [] : [{ ...ended, ExitCode: exitCode, Signal: 0 }]),
      ],
    },
  };
}

/** `GET /v1/allocation/:id` and an event's: the stub's fields and the job. */
export function allocationDetail(
  allocation: StubAllocation,
  job: StubJob | undefined,
  node: StubNode | undefined,
): object {
  const fields = { resources: true, taskStates: true };
  return {
    ...allocationStub(allocation, job, node, fields),
    Job: job === undefined ? null : jobDetail(job, false),
  };
}
