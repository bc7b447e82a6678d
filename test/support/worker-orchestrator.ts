/**
 * The orchestrator's side of `contract/worker.ts` for one allocation, over real HTTP: every
 * request is checked against the contract's schemas, and a breach of the protocol fails the test
 * that disposes of it.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { TSchema } from "typebox";
import { Value } from "typebox/value";
import { BlobList, NewCheckpoint } from "../../orchestrator/contract/checkpoints.ts";
import type { WorkerEvent } from "../../orchestrator/contract/events.ts";
import {
  type AgentSpec,
  type Directive,
  EnrolRequest,
  EventBatch,
  Heartbeat,
  Report,
  type VerifySpec,
} from "../../orchestrator/contract/worker.ts";
import { type CheckpointStore, createCheckpointStore } from "./worker-checkpoints.ts";

export const ENROLMENT_TOKEN = "enrolment-token-of-one-allocation";
const ALLOCATION_TOKEN = "allocation-token-of-one-allocation";
const UNTIL_MS = 30_000;

export interface OrchestratorOptions {
  readonly spec: AgentSpec | VerifySpec;
  readonly bundle: string;
  readonly tests?: string;
  readonly patch?: Buffer;
  /** What `goOnFrom` made of an earlier allocation's checkpoint. */
  readonly checkpoint?: Buffer;
  /** Event batches that are stored, but whose answer is lost on its way. */
  readonly lostAcks?: number;
}

export interface WorkerOrchestrator extends AsyncDisposable {
  readonly checkpoints: CheckpointStore;
  readonly url: string;
  readonly events: readonly WorkerEvent[];
  readonly reports: readonly Report[];
  /** Batches that brought nothing new. */
  readonly repeatedBatches: () => number;
  readonly artefact: (name: string) => string;
  readonly artefactBytes: (name: string) => Buffer;
  readonly artefactNames: () => string[];
  readonly eventsOf: (type: WorkerEvent["type"]) => WorkerEvent["data"][];
  /** Answers the held heartbeat, and every later one. */
  readonly direct: (directive: Directive) => void;
  /** Every request from now on is refused as fenced. */
  readonly fence: () => void;
  /** Away: connections are cut. */
  readonly setAway: (isAway: boolean) => void;
  readonly until: (what: string, isSo: () => boolean) => Promise<void>;
}

export async function openWorkerOrchestrator(
  options: OrchestratorOptions,
): Promise<WorkerOrchestrator> {
  const { spec, bundle, tests, patch, checkpoint } = options;
  const checkpoints = createCheckpointStore();
  const events: WorkerEvent[] = [];
  const reports: Report[] = [];
  const artefacts = new Map<string, Buffer>();
  const breaches: string[] = [];
  const waiting = new Set<() => void>();
  const held = new Set<() => void>();
  const sockets = new Set<Socket>();
  let directive: Directive = { action: "continue" };
  let isFenced = false;
  let isAway = false;
  let isEnrolled = false;
  let lostAcks = options.lostAcks ?? 0;
  let repeated = 0;

  const server = createServer((request, response) => {
    if (isAway) {
      request.socket.destroy();
      return;
    }
    answer(request, response)
      .catch((error: unknown) => {
        breaches.push(`${request.method} ${request.url}: ${error}`);
        response.writeHead(400).end(JSON.stringify({ detail: String(error) }));
      })
      .finally(wake);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  return {
    url: `http://127.0.0.1:${port}`,
    checkpoints,
    events,
    reports,
    repeatedBatches: () => repeated,
    artefact: (name) => artefacts.get(name)?.toString("utf8") ?? "",
    artefactBytes: (name) => artefacts.get(name) ?? Buffer.alloc(0),
    artefactNames: () => [...artefacts.keys()].toSorted(),
    eventsOf: (type) => events.filter((event) => event.type === type).map(({ data }) => data),
    direct: (next) => {
      directive = next;
      for (const release of held) release();
    },
    fence: () => {
      isFenced = true;
      for (const release of held) release();
    },
    setAway: (away) => {
      isAway = away;
      if (away) for (const socket of sockets) socket.destroy();
    },
    until,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
      assert.deepEqual(breaches, []);
    },
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://orchestrator");
    const name = url.pathname.replace(/^\/api\/v1\/worker\//, "");
    const body = await bodyOf(request);
    if (name === "enrol") {
      const { enrolment_token } = checked(EnrolRequest, body);
      assert.equal(enrolment_token, ENROLMENT_TOKEN);
      assert.equal(isEnrolled, false, "an enrolment token is good for one use");
      isEnrolled = true;
      return json(response, { allocation_token: ALLOCATION_TOKEN, spec });
    }
    assert.equal(request.headers.authorization, `Bearer ${ALLOCATION_TOKEN}`);
    assert.equal(reports.length, 0, "a worker says nothing after its report");
    if (name === "heartbeat") return heartbeat(checked(Heartbeat, body).wait_ms, response);
    if (isFenced) return refuse(response);
    if (name === "source") return file(response, bundle);
    if (name === "tests") return file(response, tests);
    if (name === "patch") return bytes(response, patch);
    if (name === "checkpoint") return bytes(response, checkpoint);
    if (name === "checkpoints/missing") {
      return json(response, { sha256s: checkpoints.missing(checked(BlobList, body).sha256s) });
    }
    if (name === "checkpoints/blobs") {
      await checkpoints.put(body);
      return json(response, {});
    }
    if (name === "checkpoints") {
      const made = checkpoints.commit(checked(NewCheckpoint, body));
      return made === null ? refuse(response, "conflict") : json(response, made);
    }
    if (name === "events") return takeEvents(checked(EventBatch, body).events, response);
    if (name === "report") {
      reports.push(checked(Report, body));
      return json(response, {});
    }
    if (name.startsWith("artefacts/") && request.method === "PUT") {
      putArtefact(name.slice("artefacts/".length), Number(url.searchParams.get("offset")), body);
      return json(response, {});
    }
    throw new Error("no such route");
  }

  function takeEvents(batch: readonly WorkerEvent[], response: ServerResponse): void {
    let isNew = false;
    for (const event of batch) {
      const known = events[event.cursor - 1];
      if (known !== undefined) {
        assert.deepEqual(event, known, "a repeated event is the same event");
        continue;
      }
      assert.equal(event.cursor, events.length + 1, "cursors have no gap");
      events.push(event);
      isNew = true;
    }
    if (!isNew) repeated += 1;
    if (lostAcks > 0) {
      lostAcks -= 1;
      response.destroy();
      return;
    }
    json(response, { acked: events.length });
  }

  function putArtefact(name: string, offset: number, body: Buffer): void {
    const known = artefacts.get(name) ?? Buffer.alloc(0);
    assert.ok(offset <= known.byteLength, `${name}: a gap at ${offset}`);
    const overlap = known.subarray(offset, offset + body.byteLength);
    assert.ok(overlap.equals(body.subarray(0, overlap.byteLength)), `${name}: rewritten`);
    artefacts.set(name, Buffer.concat([known, body.subarray(overlap.byteLength)]));
  }

  async function heartbeat(waitMs: number, response: ServerResponse): Promise<void> {
    if (directive.action === "continue" && !isFenced) {
      const { promise, resolve } = Promise.withResolvers<void>();
      held.add(resolve);
      response.on("close", resolve);
      const timer = setTimeout(resolve, waitMs);
      await promise;
      clearTimeout(timer);
      held.delete(resolve);
    }
    if (isFenced) refuse(response);
    else json(response, directive);
  }

  async function until(what: string, isSo: () => boolean): Promise<void> {
    const timeout = AbortSignal.timeout(UNTIL_MS);
    while (!isSo()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.add(resolve);
      timeout.addEventListener("abort", () => resolve());
      await promise;
      waiting.delete(resolve);
      if (timeout.aborted) assert.fail(`waited too long until ${what}`);
    }
  }

  function wake(): void {
    for (const resolve of waiting) resolve();
  }
}

function checked<Schema extends TSchema>(schema: Schema, body: Buffer) {
  const value: unknown = JSON.parse(body.toString("utf8"));
  if (Value.Check(schema, value)) return value;
  throw new Error(JSON.stringify([...Value.Errors(schema, value)].slice(0, 3)));
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, code = "fenced"): void {
  const problem = { type: `/problems/${code}`, title: code, status: 409, detail: code };
  response.writeHead(409, { "content-type": "application/problem+json" });
  response.end(JSON.stringify(problem));
}

async function file(response: ServerResponse, path: string | undefined): Promise<void> {
  bytes(response, path === undefined ? undefined : await readFile(path));
}

function bytes(response: ServerResponse, content: Buffer | undefined): void {
  if (content === undefined) response.writeHead(404).end("{}");
  else response.writeHead(200, { "content-type": "application/octet-stream" }).end(content);
}
