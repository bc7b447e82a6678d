/**
 * Nomad's HTTP API (2.0.5) without Nomad: the endpoints that the scheduler uses and the errors in
 * Nomad's words, strictly. An unknown path, parameter or field is refused, which Nomad would not.
 * It says nothing of Nomad's scheduling; a real one is for that (AUTOCODE_TEST_NOMAD).
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { AllocationId } from "../../../orchestrator/runtime/ids.ts";
import type { Scheduler } from "../../../orchestrator/scheduler/scheduler.ts";
import { allocationDetail } from "./answers.ts";
import { createEvents } from "./events.ts";
import { type NodeOptions, openNodes } from "./nodes.ts";
import { PERMISSION_DENIED, Refusal } from "./refusal.ts";
import { type Asked, createRoutes } from "./routes.ts";
import { openState } from "./state.ts";
import { ANONYMOUS, type StubToken } from "./tokens.ts";

export interface StubOptions {
  /** Runs what is placed; its slots are at least all of the nodes'. */
  local: Scheduler;
  nodes?: readonly NodeOptions[];
  pools?: readonly string[];
  /** By their secrets; without any, access control is off. */
  tokens?: Readonly<Record<string, StubToken>>;
  version?: string;
  /** PEM texts; a client needs a certificate of `ca`. */
  tls?: { key: string; cert: string; ca: string };
  eventsKept?: number;
  heartbeatMs?: number;
  evaluationMs?: number;
}

export interface StubFault {
  /** Of its method and path. */
  match: RegExp;
  status: number;
  text: string;
  /** How often; for ever when absent. */
  times?: number;
}

export type NomadStub = Awaited<ReturnType<typeof openNomadStub>>;

const POOLS = ["default", "all"];

export async function openNomadStub(options: StubOptions) {
  const { local, nodes = [{ name: "stub-1", slots: 2 }], tokens = {} } = options;
  const sockets = new Set<Socket>();
  const asked: string[] = [];
  const faults: StubFault[] = [];
  const slow = { match: /^$/, ms: 0 };
  const dropped = { match: /^$/, times: 0 };
  const events = createEvents({
    kept: options.eventsKept ?? 100,
    heartbeatMs: options.heartbeatMs ?? 30_000,
  });
  const state = openState({
    local,
    nodes: openNodes(nodes),
    pools: [...POOLS, ...(options.pools ?? [])],
    evaluationMs: options.evaluationMs ?? 5,
    changed: (type, allocation) => {
      const node = state.nodes.find(({ ID }) => ID === allocation.NodeID);
      const row = allocationDetail(allocation, state.jobs.get(allocation.JobID), node);
      events.publish(type, allocation, row);
    },
  });
  const { tls } = options;
  const listener = (request: IncomingMessage, response: ServerResponse) =>
    void handle(request, response);
  const server =
    tls === undefined
      ? createServer(listener)
      : createTlsServer({ ...tls, requestCert: true }, listener);
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await listen(0);
  const { port } = server.address() as AddressInfo;
  const version = options.version ?? "2.0.5";
  const route = createRoutes({ state, events, version, httpAddr: `127.0.0.1:${port}` });
  return {
    address: `http${tls === undefined ? "" : "s"}://127.0.0.1:${port}`,
    state,
    /** Method and path with parameters of each request, in their order. */
    asked,
    readers: events.readers,
    cutStreams: events.cut,
    fail: (fault: StubFault) => void faults.push(fault),
    heal: () => void faults.splice(0),
    slowDown: (match: RegExp, ms: number) => void Object.assign(slow, { match, ms }),
    /** Does what is asked, and closes the connection instead of answering. */
    dropAnswers: (match: RegExp, times = 1) => void Object.assign(dropped, { match, times }),
    dispatchTwice: (times = 1) => {
      state.faults.dispatchTwice = times;
    },
    goAway,
    comeBack: () => listen(port),
    children: (id: AllocationId) =>
      [...state.jobs.values()].filter((job) => job.DispatchIdempotencyToken === id),
    [Symbol.asyncDispose]: async () => {
      state.close();
      await goAway();
    },
  };

  function listen(wanted: number): Promise<void> {
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(wanted, "127.0.0.1", resolve);
    });
  }

  /** Nothing listens any more; what runs, runs on. */
  async function goAway(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://nomad");
    const line = `${request.method} ${decodeURIComponent(url.pathname)}`;
    asked.push(`${line}${url.search}`);
    try {
      const parts: Buffer[] = [];
      for await (const part of request) parts.push(part as Buffer);
      if (slow.ms > 0 && slow.match.test(line)) {
        await new Promise((resolve) => setTimeout(resolve, slow.ms));
      }
      const fault = faults.find(({ match, times = 1 }) => match.test(line) && times > 0);
      if (fault !== undefined) {
        if (fault.times !== undefined) fault.times -= 1;
        throw new Refusal(fault.status, fault.text);
      }
      const given: Asked = {
        method: request.method ?? "",
        path: url.pathname,
        query: url.searchParams,
        body: Buffer.concat(parts).toString("utf8"),
        token: identify(request),
        response,
      };
      const answer = await route(given);
      if (dropped.times > 0 && dropped.match.test(line)) {
        dropped.times -= 1;
        request.socket.destroy();
        return;
      }
      // A stream has answered for itself.
      if (answer === undefined) return;
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(answer));
    } catch (error) {
      refuse(response, error);
    }
  }

  function refuse(response: ServerResponse, error: unknown): void {
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const { status, message } = error as Refusal;
    // A defect of the stub's own is not taken for an answer of Nomad's.
    response.writeHead(error instanceof Refusal ? status : 599, {
      "content-type": "text/plain; charset=utf-8",
    });
    response.end(message);
  }

  /** Null: access control is off. */
  function identify(request: IncomingMessage): StubToken | null {
    if (Object.keys(tokens).length === 0) return null;
    const secret = String(request.headers["x-nomad-token"] ?? "");
    if (secret === "") return ANONYMOUS;
    const token = tokens[secret];
    if (token === undefined) throw new Refusal(403, PERMISSION_DENIED);
    return token;
  }
}
