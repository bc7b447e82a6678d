/**
 * Nomad's HTTP API (developer.hashicorp.com/nomad/api-docs), the endpoints that the scheduler uses
 * and no more. A request is asked once: whoever calls decides whether to ask again.
 *
 * Invariant: an answer that is not what `nomad-wire.ts` says is never passed on.
 */
import type { Readable } from "node:stream";
import type { Static, TSchema } from "typebox";
import { Compile, type Validator } from "typebox/compile";
import { Agent, request } from "undici";
import { Problem } from "../problem.ts";
import { refusalOf, unreachable } from "./nomad-errors.ts";
import * as wire from "./nomad-wire.ts";

export interface NomadClientOptions {
  /** Without a slash at its end. */
  address: string;
  token: string | null;
  namespace: string;
  /** Null: the region of the agent that is asked. */
  region: string | null;
  /** PEM texts; null where there are none. */
  tls: { ca: string | null; cert: string | null; key: string | null; serverName: string | null };
  timeoutMs: number;
  /** A stream that says nothing for this long is dead: Nomad beats every 30 s. */
  silenceMs: number;
}

export interface Dispatch {
  payload: string;
  meta: Readonly<Record<string, string>>;
  idPrefix: string;
  priority: number;
  /** A dispatch that was made with it before is not made again. */
  idempotencyToken: string;
}

export type NomadClient = ReturnType<typeof createNomadClient>;

type Query = Readonly<Record<string, string>>;
interface Asked {
  method?: "GET" | "POST" | "DELETE";
  path: string;
  query?: Query;
  body?: unknown;
  /** For messages: an infinitive. */
  what: string;
}

const BODY_BYTES_MAX = 64 * 1024 * 1024;

export function createNomadClient(options: NomadClientOptions) {
  const { address, token, namespace, region, tls, timeoutMs, silenceMs } = options;
  const agent = new Agent({
    connect: {
      timeout: timeoutMs,
      ...(tls.ca === null ? {} : { ca: tls.ca }),
      ...(tls.cert === null ? {} : { cert: tls.cert }),
      ...(tls.key === null ? {} : { key: tls.key }),
      ...(tls.serverName === null ? {} : { servername: tls.serverName }),
    },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });
  const validators = new Map<TSchema, Validator>();
  return {
    /** Null where access control is off. @throws Problem `forbidden` for an unknown token. */
    tokenSelf,
    /** Null when the token may not ask (`agent:read`) or the agent is no server. */
    version,
    /** Null when there is none. */
    job: (id: string) =>
      askOrNull(wire.Job, { path: `/v1/job/${encode(id)}`, what: `read the job ${id}` }),
    registerJob,
    dispatch,
    /** Asks for its end; one that is not there is none to end. */
    deregister: (id: string) =>
      ask(wire.Deregistered, {
        method: "DELETE",
        path: `/v1/job/${encode(id)}`,
        query: { purge: "false" },
        what: `stop the job ${id}`,
      }),
    jobs: (query: { prefix: string; filter?: string }) =>
      ask(wire.JobStubs, { path: "/v1/jobs", query, what: "list jobs" }),
    jobAllocations: (id: string) =>
      ask(wire.Allocations, {
        path: `/v1/job/${encode(id)}/allocations`,
        what: `list the allocations of ${id}`,
      }),
    /** Of every namespace that the token may read: what takes a node's room. */
    liveAllocations: () => allocations(LIVE_ALLOCATIONS, { namespace: "*", resources: "true" }),
    allocations,
    nodes: () =>
      ask(wire.NodeStubs, { path: "/v1/nodes", query: { resources: "true" }, what: "list nodes" }),
    node: (id: string) =>
      askOrNull(wire.Node, { path: `/v1/node/${encode(id)}`, what: `read the node ${id}` }),
    drainNode,
    eventStream,
    logStream,
    close: () => agent.destroy(),
  };

  async function tokenSelf(): Promise<wire.AclToken | null> {
    try {
      const path = "/v1/acl/token/self";
      const token = await askOrNull(wire.AclToken, { path, what: "tell whose NOMAD_TOKEN is" });
      // A workload's identity is no ACL token, but as good as one: what it may is seen in use.
      if (token === null) return { AccessorID: "(no ACL token)", Type: "workload identity" };
      // nomad/structs/acl.go: since 1.9 there is a token for that.
      return token.AccessorID === "acls-disabled" ? null : token;
    } catch (error) {
      if (error instanceof Problem && /ACL support disabled/.test(error.message)) return null;
      throw error;
    }
  }

  async function version(): Promise<string | null> {
    try {
      const path = "/v1/agent/self";
      const { member } = await ask(wire.AgentSelf, { path, what: "tell its version" });
      return member.Tags?.["build"] ?? null;
    } catch (error) {
      if (error instanceof Problem && error.code === "forbidden") return null;
      throw error;
    }
  }

  /**
   * @param modifyIndex of the job that is replaced; 0 when there must be none. @throws Problem
   * `invalid_request`: also when another has replaced it ("Enforcing job modify index").
   */
  function registerJob(job: Readonly<Record<string, unknown>>, modifyIndex: number) {
    return ask(wire.Registered, {
      method: "POST",
      path: "/v1/jobs",
      body: { Job: job, EnforceIndex: true, JobModifyIndex: modifyIndex },
      what: `register the job ${String(job["ID"])}`,
    });
  }

  function dispatch(parent: string, given: Dispatch) {
    return ask(wire.Dispatched, {
      method: "POST",
      path: `/v1/job/${encode(parent)}/dispatch`,
      query: { idempotency_token: given.idempotencyToken },
      body: {
        Payload: Buffer.from(given.payload).toString("base64"),
        Meta: given.meta,
        IdPrefixTemplate: given.idPrefix,
        Priority: given.priority,
      },
      what: `dispatch the job ${parent}`,
    });
  }

  function allocations(filter: string, query: Query = {}): Promise<wire.Allocation[]> {
    const asked = { filter, task_states: "false", ...query };
    return ask(wire.Allocations, {
      path: "/v1/allocations",
      query: asked,
      what: "list allocations",
    });
  }

  function drainNode(id: string, isDraining: boolean) {
    // No deadline: what a batch job has running there ends by itself.
    const spec = isDraining ? { Deadline: 0, IgnoreSystemJobs: true } : null;
    return ask(wire.Drained, {
      method: "POST",
      path: `/v1/node/${encode(id)}/drain`,
      body: { NodeID: id, DrainSpec: spec, MarkEligible: !isDraining },
      what: `drain the node ${id}`,
    });
  }

  function eventStream(index: number, signal: AbortSignal): Promise<Readable> {
    return open({
      path: "/v1/event/stream",
      query: { topic: "Allocation:*", ...(index > 0 ? { index: String(index) } : {}) },
      what: "open the event stream",
      signal,
    });
  }

  /** The row of frames, from byte `offset` on. @throws Problem `not_found`: not started yet. */
  function logStream(
    allocation: string,
    asked: { task: string; type: "stdout" | "stderr"; offset: number; isFollowed: boolean },
    signal: AbortSignal,
  ): Promise<Readable> {
    const { task, type, offset, isFollowed } = asked;
    return open({
      path: `/v1/client/fs/logs/${encode(allocation)}`,
      query: { task, type, origin: "start", offset: `${offset}`, follow: `${isFollowed}` },
      what: "read a log",
      signal,
    });
  }

  async function askOrNull<Schema extends TSchema>(
    schema: Schema,
    asked: Asked,
  ): Promise<Static<Schema> | null> {
    try {
      return await ask(schema, asked);
    } catch (error) {
      if (error instanceof Problem && error.code === "not_found") return null;
      throw error;
    }
  }

  async function ask<Schema extends TSchema>(
    schema: Schema,
    asked: Asked,
  ): Promise<Static<Schema>> {
    const { status, text, contentType } = await exchange(asked);
    if (status !== 200) throw refusalOf({ status, text, contentType }, { address, ...asked });
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw unreachable(address, asked.what, error);
    }
    const validator = validatorOf(schema);
    if (validator.Check(value)) return value as Static<Schema>;
    const [first] = validator.Errors(value);
    const where = `${first?.instancePath ?? ""} ${first?.message ?? ""}`.trim();
    throw new Problem(
      "unavailable",
      `Nomad at ${address} answered what is not its API (${asked.what}): ${where}`,
    );
  }

  async function exchange(asked: Asked) {
    try {
      const { statusCode: status, headers, body } = await send(asked, { timeoutMs });
      const parts: Buffer[] = [];
      let bytes = 0;
      for await (const part of body as AsyncIterable<Buffer>) {
        bytes += part.length;
        if (bytes > BODY_BYTES_MAX) throw new Error(`more than ${BODY_BYTES_MAX} bytes`);
        parts.push(part);
      }
      const text = Buffer.concat(parts).toString("utf8");
      return { status, text, contentType: String(headers["content-type"] ?? "") };
    } catch (error) {
      throw unreachable(address, asked.what, error);
    }
  }

  /** An answer that goes on for as long as it likes, but is not silent for long. */
  async function open(asked: Asked & { signal: AbortSignal }): Promise<Readable> {
    const answer = await send(asked, { timeoutMs: silenceMs, signal: asked.signal }).catch(
      (error) => {
        throw unreachable(address, asked.what, error);
      },
    );
    const { statusCode: status, headers, body } = answer;
    if (status === 200) return body;
    const text = await body.text();
    const contentType = String(headers["content-type"] ?? "");
    throw refusalOf({ status, text, contentType }, { address, ...asked });
  }

  function send(
    { method = "GET", path, query = {}, body }: Asked,
    { timeoutMs: bodyTimeout, signal }: { timeoutMs: number; signal?: AbortSignal },
  ) {
    const asked = { namespace, ...(region === null ? {} : { region }), ...query };
    return request(`${address}${path}?${new URLSearchParams(asked)}`, {
      dispatcher: agent,
      method,
      bodyTimeout,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        ...(token === null ? {} : { "x-nomad-token": token }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  function validatorOf(schema: TSchema): Validator {
    const made = validators.get(schema) ?? Compile(schema);
    validators.set(schema, made);
    return made;
  }
}

/** A filter expression (go-bexpr): what has not ended holds its node's room. */
const LIVE_ALLOCATIONS =
  'ClientStatus != "complete" and ClientStatus != "failed" and ClientStatus != "lost"';

/** A child job's id has a slash in it. */
function encode(segment: string): string {
  return encodeURIComponent(segment);
}
