/**
 * What passes between the orchestrator and a worker-agent, under `/api/v1/worker/`.
 *
 * The scheduler starts a worker-agent with an enrolment token, good for one use. `POST enrol`
 * exchanges it for an allocation token (Bearer from then on) and the specification. Every later
 * request is refused with `fenced` (409) once another allocation has taken the trial over.
 *
 * - `POST enrol`                      EnrolRequest → Enrolment
 * - `GET  source`                     the base commit as a git bundle, ref `refs/heads/base`
 * - `GET  tests`                      (verify) the hidden tests as a tar, 404 when there are none
 * - `GET  patch`                      (verify) the diff to apply, 404 when there is none
 * - `GET  checkpoint`                 (agent) what it goes on from, a gzipped tar: `manifest.json`,
 *                                     then each content under its hash; 404: it begins anew
 * - `POST checkpoints/missing`        BlobList → BlobList: those that the project lacks
 * - `PUT  checkpoints/blobs`          a gzipped tar of contents, each under its hash
 * - `POST checkpoints`                NewCheckpoint → Checkpoint; `conflict`: contents are lacking
 * - `POST events`                     EventBatch → { acked }, at least once, idempotent by cursor
 * - `POST heartbeat`                  Heartbeat → Directive; open until a directive or `wait_ms`
 * - `PUT  artefacts/<name>?offset=n`  bytes appended at `n` (a repeat of the same ones is no error)
 * - `POST report`                     Report → {}; the last thing a worker says
 */
import { type Static, Type } from "typebox";
import { PhaseName, ResumePoint, Sha256 } from "./checkpoints.ts";
import { WorkerEvent } from "./events.ts";
import { CurrencyCode, NanosText } from "./money.ts";
import { Verdict } from "./trials.ts";

export const EnrolRequest = Type.Object(
  { enrolment_token: Type.String({ minLength: 20, maxLength: 200 }) },
  { additionalProperties: false },
);

const Limits = Type.Object(
  {
    wall_ms: Type.Integer({ minimum: 1 }),
    idle_ms: Type.Integer({ minimum: 1, description: "No output and no call for this long" }),
    artefact_bytes: Type.Integer({ minimum: 1 }),
  },
  { additionalProperties: false },
);

/** Money and time left, as the agent is told them. */
export type Allowance = Static<typeof Allowance>;
export const Allowance = Type.Object(
  {
    currency: CurrencyCode,
    /** The trial's budget, top-ups included. */
    limit_nanos: NanosText,
    /** What the trial's budget and every budget around it still cover. */
    available_nanos: NanosText,
    /** Of the trial's budget, spent and reserved. */
    percent_used: Type.Integer({ minimum: 0, maximum: 100 }),
    /** Where the trial has a budget of tokens too. */
    tokens_left: Type.Optional(NanosText),
    deadline_at: Type.String({ format: "date-time" }),
  },
  { additionalProperties: false },
);

/**
 * How the allocation's processes reach anything but the gateway. `proxied`: through the egress
 * proxy alone, which decides; `closed`: not at all; `open`: the worker's own network.
 */
export type EgressSpec = Static<typeof EgressSpec>;
export const EgressSpec = Type.Union([
  Type.Object({ kind: Type.Literal("closed") }, { additionalProperties: false }),
  Type.Object({ kind: Type.Literal("open") }, { additionalProperties: false }),
  Type.Object(
    {
      kind: Type.Literal("proxied"),
      /** `http://host:port`; the credentials are beside it, not in it. */
      proxy_url: Type.String(),
      username: Type.String(),
      password: Type.String(),
      /** Of the authority that the proxy's certificates are of: PEM. */
      authority_pem: Type.String(),
      /** A worker that cannot close the network refuses the allocation. */
      is_isolation_required: Type.Boolean(),
      is_llm_proxied: Type.Boolean(),
      /** Placeholders, never secrets. */
      environment: Type.Record(Type.String(), Type.String()),
    },
    { additionalProperties: false },
  ),
]);

export type AgentSpec = Static<typeof AgentSpec>;
export const AgentSpec = Type.Object(
  {
    purpose: Type.Literal("agent"),
    trial_id: Type.String(),
    allocation_id: Type.String(),
    agent: Type.String(),
    /** The names under which the gateway serves the pair to this key. */
    models: Type.Object({ normal: Type.String(), thinking: Type.String() }),
    context_tokens: Type.Integer({ minimum: 1 }),
    max_output_tokens: Type.Integer({ minimum: 1 }),
    gateway_url: Type.String(),
    virtual_key: Type.String(),
    instruction: Type.String(),
    base_commit: Type.String(),
    /** For CLIs that can run visible tests by themselves (Aider); absent when tests are hidden. */
    test_command: Type.Optional(Type.String()),
    allowance: Allowance,
    limits: Limits,
    egress: EgressSpec,
    /** How often the work is kept while it runs, and how large that may be. */
    checkpoints: Type.Object(
      {
        every_ms: Type.Integer({ minimum: 1 }),
        bytes_max: Type.Integer({ minimum: 0 }),
      },
      { additionalProperties: false },
    ),
    /** Present when it goes on from what another allocation, or another trial, had done. */
    resume: Type.Optional(
      Type.Object(
        {
          ...ResumePoint.properties,
          /** Its files are at `GET checkpoint`; absent when none were kept. */
          checkpoint: Type.Optional(Type.Object({ id: Type.String(), manifest_sha256: Sha256 })),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);

export type VerifySpec = Static<typeof VerifySpec>;
export const VerifySpec = Type.Object(
  {
    purpose: Type.Literal("verify"),
    trial_id: Type.String(),
    allocation_id: Type.String(),
    base_commit: Type.String(),
    /**
     * `command`: run in the checkout. `script`: Harbor's tests/test.sh, which writes
     * reward.txt or reward.json to its logs folder.
     */
    test: Type.Union([
      Type.Object({ kind: Type.Literal("command"), command: Type.String() }),
      Type.Object({ kind: Type.Literal("script"), path: Type.String() }),
    ]),
    has_hidden_tests: Type.Boolean(),
    limits: Limits,
    egress: EgressSpec,
  },
  { additionalProperties: false },
);

export type Enrolment = Static<typeof Enrolment>;
export const Enrolment = Type.Object(
  {
    allocation_token: Type.String(),
    spec: Type.Union([AgentSpec, VerifySpec]),
  },
  { additionalProperties: false },
);

export type EventBatch = Static<typeof EventBatch>;
export const EventBatch = Type.Object(
  { events: Type.Array(WorkerEvent, { minItems: 1, maxItems: 500 }) },
  { additionalProperties: false },
);

export const EventBatchAck = Type.Object(
  { acked: Type.Integer({ minimum: 0, description: "The highest cursor that is durable" }) },
  { additionalProperties: false },
);

export type Heartbeat = Static<typeof Heartbeat>;
export const Heartbeat = Type.Object(
  { wait_ms: Type.Integer({ minimum: 0, maximum: 30_000 }) },
  { additionalProperties: false },
);

/** What the worker must do now. */
export type Directive = Static<typeof Directive>;
export const Directive = Type.Union([
  Type.Object(
    { action: Type.Literal("continue"), allowance: Type.Optional(Allowance) },
    { additionalProperties: false },
  ),
  Type.Object(
    {
      action: Type.Literal("stop"),
      reason: Type.Union([
        Type.Literal("budget"),
        Type.Literal("quota"),
        Type.Literal("cancelled"),
        Type.Literal("fenced"),
        Type.Literal("shutdown"),
      ]),
    },
    { additionalProperties: false },
  ),
]);

/** How the agent's part ended; the verdict is the verifier's, never this. */
export type AgentOutcome = Static<typeof AgentOutcome>;
export const AgentOutcome = Type.Union([
  Type.Literal("finished"),
  Type.Literal("limit"), // its own turn or tool limit
  Type.Literal("wall_clock"),
  Type.Literal("idle"),
  Type.Literal("budget"),
  Type.Literal("quota"),
  Type.Literal("model_error"),
  Type.Literal("auth"),
  Type.Literal("install_failed"),
  Type.Literal("workspace_failed"),
  Type.Literal("crash"),
  Type.Literal("killed"),
]);

export type AgentReport = Static<typeof AgentReport>;
export const AgentReport = Type.Object(
  {
    purpose: Type.Literal("agent"),
    outcome: AgentOutcome,
    detail: Type.String({ maxLength: 2000 }),
    agent_version: Type.Union([Type.String(), Type.Null()]),
    completed_phases: Type.Array(PhaseName),
    plan_text: Type.Union([Type.String({ maxLength: 100_000 }), Type.Null()]),
    /** The artefact `changes.patch` holds the diff; these describe it. */
    diff: Type.Object({
      files_changed: Type.Integer({ minimum: 0 }),
      lines_added: Type.Integer({ minimum: 0 }),
      lines_removed: Type.Integer({ minimum: 0 }),
      touched_test_files: Type.Array(Type.String()),
    }),
    survivors_killed: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
);

export type VerifyReport = Static<typeof VerifyReport>;
export const VerifyReport = Type.Object(
  {
    purpose: Type.Literal("verify"),
    verdict: Verdict,
    detail: Type.String({ maxLength: 2000 }),
    /** From a reward file when there is one, else 1 or 0. */
    reward: Type.Union([Type.Number(), Type.Null()]),
    tests_passed: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    tests_failed: Type.Union([Type.Integer({ minimum: 0 }), Type.Null()]),
    flags: Type.Array(Type.String()),
    duration_ms: Type.Integer({ minimum: 0 }),
  },
  { additionalProperties: false },
);

export type Report = Static<typeof Report>;
export const Report = Type.Union([AgentReport, VerifyReport]);
