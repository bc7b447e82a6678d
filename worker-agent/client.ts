/**
 * The worker's side of `orchestrator/contract/worker.ts`, over HTTP.
 *
 * A request that met a transient fault is repeated with growing pauses until `orphanMs` have
 * passed since its first failure, each time to the next of the orchestrators that it knows: this
 * one may be restarting, or gone. Every request is safe to
 * repeat; an enrolment whose answer was lost is refused then, and the trial is placed anew.
 */
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import type { Static, TSchema } from "typebox";
import { Value } from "typebox/value";
import { BlobList, Checkpoint, type NewCheckpoint } from "../orchestrator/contract/checkpoints.ts";
import type { WorkerEvent } from "../orchestrator/contract/events.ts";
import { ORCHESTRATORS_HEADER } from "../orchestrator/contract/orchestrators.ts";
import {
  Directive,
  Enrolment,
  EventBatchAck,
  type Report,
} from "../orchestrator/contract/worker.ts";
import { createAddresses } from "./addresses.ts";
import { type Clock, pause } from "./clock.ts";
import { Fenced, messageOf, OrchestratorAway, RequestRefused } from "./faults.ts";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 3_000;
const ANSWER_TIMEOUT_MS = 30_000;
const DOWNLOAD_TIMEOUT_MS = 600_000;
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface ClientOptions {
  /** One address, or several with commas: of orchestrators on one database. */
  readonly apiUrl: string;
  readonly orphanMs: number;
}

export interface Client {
  /** Exchanges the token for the specification; later requests carry the allocation's token. */
  enrol(enrolmentToken: string, signal: AbortSignal): Promise<Enrolment>;
  /** Each writes the body to `file`; false when the orchestrator has none. */
  source(file: string): Promise<boolean>;
  tests(file: string): Promise<boolean>;
  patch(file: string): Promise<boolean>;
  checkpoint(file: string): Promise<boolean>;
  /** Of these hashes, those whose contents the orchestrator lacks. */
  missingBlobs(sha256s: readonly string[]): Promise<string[]>;
  /** A gzipped tar of contents, each called by its hash. */
  putBlobs(archive: Uint8Array): Promise<void>;
  commitCheckpoint(checkpoint: NewCheckpoint): Promise<Checkpoint>;
  /** The highest cursor that is durable. */
  events(events: readonly WorkerEvent[]): Promise<number>;
  heartbeat(waitMs: number, signal: AbortSignal): Promise<Directive>;
  putArtefact(name: string, offset: number, bytes: Uint8Array): Promise<void>;
  report(report: Report): Promise<void>;
}

interface Request {
  readonly method: "GET" | "POST" | "PUT";
  readonly path: string;
  readonly body?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * A client that is not enrolled yet. Every function may throw `Fenced`, `OrchestratorAway` or
 * `RequestRefused`.
 */
export function createClient(clock: Clock, { apiUrl, orphanMs }: ClientOptions): Client {
  let allocationToken: string | null = null;
  const addresses = createAddresses(apiUrl);
  const persistently = createSender(clock, orphanMs, send, addresses.turn);
  return {
    enrol,
    source: (file) => download("source", file),
    tests: (file) => download("tests", file),
    patch: (file) => download("patch", file),
    checkpoint: (file) => download("checkpoint", file),
    missingBlobs,
    putBlobs,
    commitCheckpoint,
    events,
    heartbeat,
    putArtefact,
    report,
  };

  async function enrol(enrolmentToken: string, signal: AbortSignal): Promise<Enrolment> {
    const body = JSON.stringify({ enrolment_token: enrolmentToken });
    const enrolment = await json(Enrolment, { method: "POST", path: "enrol", body, signal });
    allocationToken = enrolment.allocation_token;
    return enrolment;
  }

  async function events(batch: readonly WorkerEvent[]): Promise<number> {
    const body = JSON.stringify({ events: batch });
    return (await json(EventBatchAck, { method: "POST", path: "events", body })).acked;
  }

  async function heartbeat(waitMs: number, signal: AbortSignal): Promise<Directive> {
    const body = JSON.stringify({ wait_ms: waitMs });
    const timeoutMs = waitMs + ANSWER_TIMEOUT_MS;
    return json(Directive, { method: "POST", path: "heartbeat", body, timeoutMs, signal });
  }

  async function putArtefact(name: string, offset: number, bytes: Uint8Array): Promise<void> {
    const path = `artefacts/${encodeURIComponent(name)}?offset=${offset}`;
    await persistently({ method: "PUT", path, body: bytes }, discard);
  }

  async function missingBlobs(sha256s: readonly string[]): Promise<string[]> {
    const body = JSON.stringify({ sha256s });
    return (await json(BlobList, { method: "POST", path: "checkpoints/missing", body })).sha256s;
  }

  async function putBlobs(body: Uint8Array): Promise<void> {
    const timeoutMs = DOWNLOAD_TIMEOUT_MS;
    await persistently({ method: "PUT", path: "checkpoints/blobs", body, timeoutMs }, discard);
  }

  async function commitCheckpoint(checkpoint: NewCheckpoint): Promise<Checkpoint> {
    const body = JSON.stringify(checkpoint);
    return json(Checkpoint, { method: "POST", path: "checkpoints", body });
  }

  async function report(said: Report): Promise<void> {
    await persistently({ method: "POST", path: "report", body: JSON.stringify(said) }, discard);
  }

  async function download(path: string, file: string): Promise<boolean> {
    const request: Request = { method: "GET", path, timeoutMs: DOWNLOAD_TIMEOUT_MS };
    try {
      await persistently(request, async (response) => {
        await pipeline(bodyOf(response), createWriteStream(file, { mode: 0o600 }));
      });
      return true;
    } catch (error) {
      if (error instanceof RequestRefused && error.status === 404) return false;
      throw error;
    }
  }

  async function json<Schema extends TSchema>(
    schema: Schema,
    request: Request,
  ): Promise<Static<Schema>> {
    const answer: unknown = await persistently(request, (response) => response.json());
    if (Value.Check(schema, answer)) return answer;
    const [first] = Value.Errors(schema, answer);
    throw new Error(`${request.path}: not the answer that the contract states: ${first?.message}`);
  }

  async function send({ method, path, body, timeoutMs = ANSWER_TIMEOUT_MS, signal }: Request) {
    const timeout = AbortSignal.timeout(timeoutMs);
    const type = typeof body === "string" ? "application/json" : "application/octet-stream";
    const response = await fetch(`${addresses.current()}/api/v1/worker/${path}`, {
      method,
      signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
      redirect: "error",
      headers: {
        ...(allocationToken === null ? {} : { authorization: `Bearer ${allocationToken}` }),
        ...(body === undefined ? {} : { "content-type": type }),
      },
      ...(body === undefined ? {} : { body: body as BodyInit }),
    });
    if (response.ok) addresses.learn(response.headers.get(ORCHESTRATORS_HEADER));
    return response;
  }
}

/**
 * Sends a request until it is answered, and reads the answer in the same try: bodies break too.
 *
 * @param turn to another orchestrator, when this one failed.
 */
function createSender(
  clock: Clock,
  orphanMs: number,
  send: (request: Request) => Promise<Response>,
  turn: () => void,
) {
  return persistently;

  async function persistently<Answer>(
    request: Request,
    read: (response: Response) => Promise<Answer>,
  ): Promise<Answer> {
    let firstFailureMs: number | null = null;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      let cause: unknown;
      try {
        const response = await send(request);
        if (response.ok) return await read(response);
        cause = await refusal(request, response);
      } catch (error) {
        request.signal?.throwIfAborted();
        cause = error;
      }
      if (cause instanceof Fenced || (cause instanceof RequestRefused && !isTransient(cause))) {
        throw cause;
      }
      turn();
      firstFailureMs ??= clock.now();
      if (clock.now() - firstFailureMs >= orphanMs) {
        throw new OrchestratorAway(`${request.path}: ${messageOf(cause)}`, { cause });
      }
      await pause(pauseMs, request.signal);
      request.signal?.throwIfAborted();
    }
  }
}

/** What a status other than 2xx means: fenced, or refused for another reason. */
async function refusal({ path }: Request, response: Response): Promise<Fenced | RequestRefused> {
  const text = (await response.text()).slice(0, 2_000);
  let problem: { type?: unknown; detail?: unknown } = {};
  try {
    problem = JSON.parse(text) ?? {};
  } catch {
    // Not a problem document: a proxy's page, or nothing.
  }
  if (response.status === 409 && problem.type === "/problems/fenced") {
    return new Fenced(String(problem.detail ?? "Another allocation has taken this trial over"));
  }
  const detail = typeof problem.detail === "string" ? problem.detail : text.slice(0, 200);
  return new RequestRefused(response.status, `${path} was answered ${response.status}: ${detail}`);
}

function isTransient({ status }: RequestRefused): boolean {
  return TRANSIENT.has(status);
}

async function discard(response: Response): Promise<void> {
  await response.arrayBuffer();
}

/** The body as Node's streams take it: the DOM's type of it is another one. */
function bodyOf(response: Response): AsyncIterable<Uint8Array> {
  return (response.body ?? new Blob([]).stream()) as AsyncIterable<Uint8Array>;
}
