/**
 * What a Nomad server knows and does, as far as the scheduler can see it: jobs, their dispatched
 * children, the allocations of these, and where they go. What runs, runs in the local scheduler, as
 * real processes: it is the state machine here.
 */
import { Buffer } from "node:buffer";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import {
  type AllocationId,
  createIds,
  isId,
  type TrialId,
} from "../../../orchestrator/runtime/ids.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import type { Scheduler } from "../../../orchestrator/scheduler/scheduler.ts";
import { amountsOf, askOf, isFeasible, type Spec, type StubNode, uuidOf } from "./nodes.ts";
import { Refusal } from "./refusal.ts";

export interface StubJob {
  spec: Spec;
  ID: string;
  ParentID: string;
  DispatchIdempotencyToken: string;
  Priority: number;
  Stop: boolean;
  Status: "pending" | "running" | "dead";
  /** Its evaluation has not placed it yet: it waits for room. */
  isWaiting: boolean;
  payload: string;
  CreateIndex: number;
  ModifyIndex: number;
  JobModifyIndex: number;
}

export interface StubAllocation {
  ID: string;
  JobID: string;
  NodeID: string;
  localId: AllocationId;
  DesiredStatus: "run" | "stop";
  ClientStatus: "pending" | "running" | "complete" | "failed" | "lost";
  /** Of its task, once it ended. */
  exitCode: number | null;
  log: { stdout: string; stderr: string };
  CreateIndex: number;
  ModifyIndex: number;
}

export interface DispatchBody {
  Payload?: string | null;
  Meta?: Record<string, string> | null;
  IdPrefixTemplate?: string;
  Priority?: number;
}

export interface StateOptions {
  local: Scheduler;
  nodes: StubNode[];
  pools: readonly string[];
  /** Between a dispatch and its placement. */
  evaluationMs: number;
  changed(type: string, allocation: StubAllocation): void;
}

export type StubState = ReturnType<typeof openState>;

const PAYLOAD_BYTES_MAX = 16_384;
const POLL_MS = 5;
const ids = createIds(systemClock, systemRandom);

export function openState({ local, nodes, pools, evaluationMs, changed }: StateOptions) {
  const jobs = new Map<string, StubJob>();
  const allocations = new Map<string, StubAllocation>();
  const timers = new Set<NodeJS.Timeout>();
  const faults = { dispatchTwice: 0 };
  let index = 10;
  let isClosed = false;
  const ends = local.onEnd((id) => void onEnd(id));
  return {
    jobs,
    allocations,
    nodes,
    faults,
    register,
    dispatch,
    deregister,
    drain,
    gc,
    vanish,
    lose,
    close,
  };

  function register(spec: Spec, enforce: number | null): StubJob {
    const id = String(spec["ID"]);
    const there = jobs.get(id);
    if (enforce !== null) enforceIndex(there, enforce);
    const pool = spec["NodePool"] || "default";
    if (!pools.includes(pool)) {
      throw new Refusal(500, `job "${id}" is in nonexistent node pool "${pool}"`);
    }
    const faultsFound = faultsOf(spec);
    if (faultsFound.length > 0) {
      const list = faultsFound.map((fault) => `\t* ${fault}`).join("\n");
      const errors = faultsFound.length === 1 ? "error" : "errors";
      throw new Refusal(500, `${faultsFound.length} ${errors} occurred:\n${list}\n\n`);
    }
    index += 1;
    const job: StubJob = {
      spec: { ...structuredClone(spec), NodePool: pool },
      ID: id,
      ParentID: "",
      DispatchIdempotencyToken: "",
      Priority: spec["Priority"] ?? 50,
      Stop: false,
      Status: "running",
      isWaiting: false,
      payload: "",
      CreateIndex: there?.CreateIndex ?? index,
      ModifyIndex: index,
      JobModifyIndex: index,
    };
    jobs.set(id, job);
    return job;
  }

  function dispatch(parentId: string, body: DispatchBody, token: string) {
    const parent = jobs.get(parentId);
    if (parent === undefined) throw new Refusal(500, "parameterized job not found");
    checkDispatch(parent, body);
    const known = [...jobs.values()].find(
      ({ ParentID, DispatchIdempotencyToken: made }) =>
        ParentID === parentId && token !== "" && made === token,
    );
    if (known !== undefined) return { child: known, isNew: false };
    const child = dispatchOne(parent, body, token);
    // Two requests at a time, each of which has found no child of the other.
    if (faults.dispatchTwice > 0) {
      faults.dispatchTwice -= 1;
      dispatchOne(parent, body, token);
    }
    return { child, isNew: true };
  }

  function dispatchOne(parent: StubJob, body: DispatchBody, token: string): StubJob {
    index += 1;
    const prefix = body.IdPrefixTemplate ? `${body.IdPrefixTemplate}-` : "";
    const unix = Math.floor(systemClock.now() / 1000);
    const unique = uuidOf(`${index} ${systemRandom.bytes(8).join()}`).slice(0, 8);
    const ID = `${parent.ID}/dispatch-${prefix}${unix}-${unique}`;
    const child: StubJob = {
      ...parent,
      spec: {
        ...structuredClone(parent.spec),
        ID,
        Name: ID,
        ParameterizedJob: parent.spec["ParameterizedJob"],
        Meta: { ...parent.spec["Meta"], ...body.Meta },
      },
      ID,
      ParentID: parent.ID,
      DispatchIdempotencyToken: token,
      Priority: body.Priority || parent.Priority,
      Status: "pending",
      isWaiting: true,
      payload: Buffer.from(body.Payload ?? "", "base64").toString("utf8"),
      CreateIndex: index,
      ModifyIndex: index,
      JobModifyIndex: index,
    };
    jobs.set(ID, child);
    later(evaluationMs, place);
    return child;
  }

  /** What waits, the most urgent first, onto nodes that have room for it. */
  function place(): void {
    const waiting = [...jobs.values()]
      .filter(({ isWaiting }) => isWaiting)
      .sort((one, other) => other.Priority - one.Priority || one.CreateIndex - other.CreateIndex);
    for (const child of waiting) {
      const node = nodes.find((each) => hasRoom(each, child.spec));
      if (node !== undefined) void run(child, node);
    }
  }

  function hasRoom(node: StubNode, spec: Spec): boolean {
    if (node.Status !== "ready" || node.SchedulingEligibility !== "eligible") return false;
    if (!isFeasible(node, spec)) return false;
    const left = amountsOf(node);
    const wanted = [askOf(spec)];
    for (const { NodeID, JobID, ClientStatus } of allocations.values()) {
      const job = jobs.get(JobID);
      const isLive = ClientStatus === "pending" || ClientStatus === "running";
      if (NodeID === node.ID && isLive && job !== undefined) wanted.push(askOf(job.spec));
    }
    return (["cpu", "memory", "disk", "gpus"] as const).every(
      (what) => wanted.reduce((sum, ask) => sum + ask[what], 0) <= left[what],
    );
  }

  async function run(child: StubJob, node: StubNode): Promise<void> {
    const meta = child.spec["Meta"] as Record<string, string>;
    const wanted = meta["allocation_id"] ?? "";
    const isTaken = [...allocations.values()].some(({ localId }) => localId === wanted);
    const localId = isId("allocation", wanted) && !isTaken ? wanted : ids.next("allocation");
    child.isWaiting = false;
    index += 1;
    const allocation: StubAllocation = {
      ID: uuidOf(`${child.ID} ${index}`),
      JobID: child.ID,
      NodeID: node.ID,
      localId,
      DesiredStatus: "run",
      ClientStatus: "pending",
      exitCode: null,
      log: { stdout: "", stderr: "" },
      CreateIndex: index,
      ModifyIndex: index,
    };
    allocations.set(allocation.ID, allocation);
    touch(child);
    changed("PlanResult", allocation);
    await local.place({
      allocationId: localId,
      trialId: (meta["trial_id"] ?? ids.next("trial")) as TrialId,
      enrolmentToken: child.payload,
      requirements: {},
      priority: 0,
    });
    while ((await local.status(localId)) === "pending") await pause();
    if (allocation.ClientStatus !== "pending") return;
    void keepLog(allocation);
    update(allocation, { ClientStatus: "running" });
  }

  /** A node keeps what a task printed, for hours; the local scheduler does not. */
  async function keepLog({ localId, log }: StubAllocation): Promise<void> {
    const printed = await local.logs(localId, {
      isFollowed: true,
      signal: new AbortController().signal,
    });
    let rest = "";
    for await (const bytes of printed ?? []) {
      const lines = (rest + Buffer.from(bytes).toString("utf8")).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines)
        log[/^(err:|\{"at":)/.test(line) ? "stderr" : "stdout"] += `${line}\n`;
    }
    log.stdout += rest;
  }

  async function onEnd(localId: AllocationId): Promise<void> {
    const allocation = [...allocations.values()].find((each) => each.localId === localId);
    if (allocation === undefined || isOver(allocation)) return;
    const status = await local.status(localId);
    const isStopped = allocation.DesiredStatus === "stop";
    // Killed on request is no failure to Nomad; the exit code tells.
    const exitCode = status === "complete" ? 0 : isStopped ? 143 : 1;
    const end = status === "complete" || isStopped ? "complete" : "failed";
    update(allocation, { exitCode, ClientStatus: end });
    place();
  }

  function deregister(id: string, isPurged: boolean): StubJob | null {
    const job = jobs.get(id);
    if (job === undefined) return null;
    index += 1;
    job.Stop = true;
    job.isWaiting = false;
    for (const allocation of allocations.values()) {
      if (allocation.JobID !== id || isOver(allocation)) continue;
      update(allocation, { DesiredStatus: "stop" }, "AllocationUpdateDesiredStatus");
      void local.stop(allocation.localId);
    }
    touch(job);
    if (isPurged) jobs.delete(id);
    return job;
  }

  function drain(id: string, isDraining: boolean, isEligible: boolean): number {
    const node = nodes.find(({ ID }) => ID === id);
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) {
      throw new Refusal(500, "node lookup failed: index error: UUID must be 36 characters");
    }
    if (node === undefined) throw new Refusal(500, "node not found");
    index += 1;
    node.Drain = isDraining;
    if (isDraining) node.SchedulingEligibility = "ineligible";
    else if (isEligible) node.SchedulingEligibility = "eligible";
    node.ModifyIndex = index;
    later(0, place);
    return index;
  }

  /** What is dead is forgotten, as it is after hours. */
  function gc(): void {
    for (const [id, { ParentID, Status }] of jobs) {
      if (ParentID !== "" && Status === "dead") forget(id);
    }
  }

  /** The job and its allocation are gone, without an event; what ran is ended. */
  async function vanish(allocationId: AllocationId): Promise<void> {
    for (const [id, { DispatchIdempotencyToken }] of jobs) {
      if (DispatchIdempotencyToken === allocationId) forget(id);
    }
    await local.stop(allocationId);
  }

  /** Its node is gone, as far as the server can tell: the worker may well run on. */
  function lose(allocationId: AllocationId): void {
    for (const allocation of allocations.values()) {
      if (allocation.localId === allocationId) update(allocation, { ClientStatus: "lost" });
    }
  }

  function forget(jobId: string): void {
    jobs.delete(jobId);
    for (const [id, { JobID }] of allocations) if (JobID === jobId) allocations.delete(id);
  }

  function update(
    allocation: StubAllocation,
    fields: Partial<StubAllocation>,
    type = "AllocationUpdated",
  ): void {
    index += 1;
    Object.assign(allocation, fields, { ModifyIndex: index });
    const job = jobs.get(allocation.JobID);
    if (job !== undefined) touch(job);
    changed(type, allocation);
  }

  /** nomad/state/state_store.go, getJobStatus */
  function touch(job: StubJob): void {
    job.ModifyIndex = index;
    if (job.ParentID === "") {
      job.Status = job.Stop ? "dead" : "running";
      return;
    }
    const mine = [...allocations.values()].filter(({ JobID }) => JobID === job.ID);
    if (mine.some((each) => !isOver(each) && each.DesiredStatus === "run")) job.Status = "running";
    else job.Status = job.isWaiting ? "pending" : "dead";
  }

  function later(ms: number, run_: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      if (!isClosed) run_();
    }, ms);
    timers.add(timer);
  }

  function close(): void {
    isClosed = true;
    ends[Symbol.dispose]();
    for (const timer of timers) clearTimeout(timer);
  }
}

export function isOver({ ClientStatus }: StubAllocation): boolean {
  return ClientStatus !== "pending" && ClientStatus !== "running";
}

function enforceIndex(there: StubJob | undefined, wanted: number): void {
  const says = (what: string) => new Refusal(500, `Enforcing job modify index ${what}`);
  if (there === undefined) {
    if (wanted !== 0) throw says(`${wanted}: job does not exist`);
  } else if (wanted === 0) {
    throw says("0: job already exists");
  } else if (wanted !== there.JobModifyIndex) {
    const has = `conflicting job modify index: ${there.JobModifyIndex}`;
    throw says(`${wanted}: job exists with ${has}`);
  }
}

function faultsOf(spec: Spec): string[] {
  const faults: string[] = [];
  if (String(spec["ID"]).includes(" ")) faults.push("Job ID contains a space");
  if (!spec["Type"]) faults.push("Missing job type");
  if (!spec["Datacenters"]?.length) faults.push("Missing job datacenters");
  if (!spec["TaskGroups"]?.length) faults.push("Missing job task groups");
  const priority = spec["Priority"] ?? 50;
  if (priority < 1 || priority > 100) faults.push("job priority must be between [1, 100]");
  for (const group of spec["TaskGroups"] ?? []) {
    const memory = group.Tasks[0].Resources?.MemoryMB ?? 300;
    if (memory < 10) faults.push(`Task group ${group.Name} validation failed: minimum MemoryMB`);
  }
  return faults;
}

/** nomad/job_endpoint.go, Dispatch and validateDispatchRequest */
function checkDispatch(parent: StubJob, { Payload, Meta, Priority }: DispatchBody): void {
  const parameters = parent.spec["ParameterizedJob"];
  const say = (text: string) => new Refusal(500, text);
  if (!parameters) throw say(`Specified job "${parent.ID}" is not a parameterized job`);
  if (parent.Stop) throw say(`Specified job "${parent.ID}" is stopped`);
  const bytes = Buffer.from(Payload ?? "", "base64").length;
  if (parameters.Payload === "required" && bytes === 0) {
    throw say("Payload is not provided but required by parameterized job");
  }
  if (bytes > PAYLOAD_BYTES_MAX) {
    throw say(`Payload exceeds maximum size; ${bytes} > ${PAYLOAD_BYTES_MAX}`);
  }
  const required: string[] = parameters.MetaRequired ?? [];
  const permitted = [...required, ...(parameters.MetaOptional ?? [])];
  const keys = Object.keys(Meta ?? {});
  const extra = keys.filter((key) => !permitted.includes(key));
  if (extra.length > 0) {
    throw say(`Dispatch request included unpermitted metadata keys: [${extra.join(" ")}]`);
  }
  const missing = required.filter((key) => !keys.includes(key));
  if (missing.length > 0) {
    throw say(`Dispatch did not provide required meta keys: [${missing.join(" ")}]`);
  }
  if (Priority !== undefined && Priority !== 0 && (Priority < 1 || Priority > 100)) {
    throw say("dispatch job priority must be between [1, 100]");
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, POLL_MS));
}
