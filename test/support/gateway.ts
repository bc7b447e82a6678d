/**
 * A gateway to test with: the real ledger, keys and records over a database of its own, and a
 * model server that is a real HTTP server and does whatever the test says.
 */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { rows } from "../../orchestrator/db/rows.ts";
import type { Grant, GrantedModel, PriceSnapshot } from "../../orchestrator/keys/keys.ts";
import { createKeys } from "../../orchestrator/keys/postgres.ts";
import type { Ledger } from "../../orchestrator/ledger/ledger.ts";
import { createLedger } from "../../orchestrator/ledger/postgres.ts";
import { rfc3339, systemClock } from "../../orchestrator/runtime/clock.ts";
import type { AccountId } from "../../orchestrator/runtime/ids.ts";
import { createLog } from "../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import type { FlowDraft } from "../../orchestrator/traffic/sink.ts";
import type { Calls } from "../../proxy/gateway/calls.ts";
import { createPostgresCalls } from "../../proxy/gateway/calls-postgres.ts";
import type { GatewayDeps, GatewayHooks, GatewayOptions } from "../../proxy/gateway/gateway.ts";
import { createGateway } from "../../proxy/gateway/server.ts";
import { createUndiciUpstream } from "../../proxy/gateway/undici.ts";
import type { Provider } from "../../proxy/gateway/upstream.ts";
import { openTestLedger } from "./ledger.ts";

/** 1 nano for a token of input, 2 for one of output: sums can be seen at a glance. */
export const PRICE: PriceSnapshot = {
  version: "test@2026-01-01",
  currency: "CAD",
  inputNanosPerMillion: "1000000",
  cacheReadNanosPerMillion: "500000",
  cacheWriteNanosPerMillion: "1000000",
  outputNanosPerMillion: "2000000",
};
/** What a gateway of another process reads of a project. */
const PROJECT_FILE = JSON.stringify({ budget: { total: "1000", per_trial: "1" } });
const WIRES = [
  ...(["openai.chat", "openai.completions", "openai.embeddings"] as const),
  ...(["openai.responses", "anthropic.messages"] as const),
];

export interface Received {
  method: string;
  url: string;
  headers: IncomingMessage["headers"];
  text: string;
  /** Whether the gateway cut the exchange before the answer was whole. */
  isAborted: boolean;
}

export type Behaviour = (
  received: Received,
  response: ServerResponse,
) => void | Promise<void> | undefined;

/** A model server on loopback. */
export async function openModelServer(initial: Behaviour) {
  const requests: Received[] = [];
  const state = { behave: initial, sockets: 0 };
  const server = createServer(async (incoming, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const received: Received = {
      method: incoming.method ?? "",
      url: incoming.url ?? "",
      headers: incoming.headers,
      text: Buffer.concat(chunks).toString("utf8"),
      isAborted: false,
    };
    requests.push(received);
    response.on("close", () => {
      received.isAborted = !response.writableFinished;
    });
    response.on("error", () => undefined);
    await state.behave(received, response);
  });
  server.on("connection", (socket) => {
    state.sockets++;
    socket.on("close", () => state.sockets--);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    state,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface TestGatewayOptions {
  fundedNanos?: bigint;
  options?: Partial<GatewayOptions>;
  hooks?: GatewayHooks;
  provider?: Partial<Provider>;
  /** What both of a grant's models are, where it is not the fixture's. */
  model?: Partial<GrantedModel>;
  behave?: Behaviour;
  /** Puts something between the gateway and the ledger. */
  over?: (ledger: Ledger) => Ledger;
  overCalls?: (calls: Calls) => Calls;
  deps?: Partial<GatewayDeps>;
}

export type TestGateway = Awaited<ReturnType<typeof openTestGateway>>;

export async function openTestGateway(given: TestGatewayOptions = {}) {
  const fixture = await openTestLedger();
  const { database } = fixture;
  const ids = fixture.ids;
  // The keys' and the calls' times are real: the gateway measures real exchanges.
  const clock = systemClock;
  const ledger = createLedger(database, clock);
  const keys = createKeys(database, clock, ids, systemRandom);
  const models = await openModelServer(given.behave ?? answerChat);
  const provider: Provider = {
    name: "test",
    baseUrl: models.url,
    apiKey: "provider-secret",
    authStyle: "bearer",
    isHosted: false,
    hasContinuousUsage: false,
    hasTokenCount: false,
    ...given.provider,
  };
  const log = createLog("silent");
  const calls = createPostgresCalls(database, ledger);
  const flows: FlowDraft[] = [];
  const gateway = createGateway(
    {
      keys,
      ledger: given.over?.(ledger) ?? ledger,
      calls: given.overCalls?.(calls) ?? calls,
      upstream: createUndiciUpstream({
        connectTimeoutMs: 2_000,
        headTimeoutMs: 5_000,
        chunkTimeoutMs: 5_000,
      }),
      providers: (name) => (name === provider.name ? provider : null),
      dayAccount: async () => null,
      ids,
      clock,
      random: systemRandom,
      log,
      flows: {
        bodyBytesMax: 2 ** 20,
        isBehind: () => false,
        fault: () => null,
        append: async (draft) => void flows.push(draft),
      },
      ...(given.hooks === undefined ? {} : { hooks: given.hooks }),
      ...given.deps,
    },
    given.options,
  );
  const { url } = await gateway.listen();
  const first = await openTrial(given.fundedNanos ?? 1_000_000n);
  return {
    ...fixture,
    ledger,
    keys,
    gateway,
    models,
    /** What was given to the record of traffic. */
    flows,
    url,
    ...first,
    openTrial,
    calls: readCalls,
    expire,
    quiet,
    post,
    chat,
    [Symbol.asyncDispose]: async () => {
      await gateway.close(2_000);
      await models[Symbol.asyncDispose]();
      await fixture[Symbol.asyncDispose]();
    },
  };

  /** A trial with a budget and a key of its own. */
  async function openTrial(fundedNanos: bigint, within: readonly AccountId[] = []) {
    const { budget, spend } = await fixture.openBudget(fundedNanos, within);
    const [project, task, trial] = [ids.next("project"), ids.next("task"), ids.next("trial")];
    const at = rfc3339(clock.now());
    await rows(
      database.sql,
      sql`insert into project (id, name, currency, time_zone, config, created_at, updated_at)
      values (${project}, ${project.replace("_", "-")}, 'CAD', 'UTC',
        ${PROJECT_FILE}::jsonb, ${at}, ${at})`,
    );
    await rows(
      database.sql,
      sql`insert into task (id, project_id, name, content_sha256, instruction, base_commit, test,
        has_hidden_tests, agent_wall_ms, verify_wall_ms, source, created_at)
      values (${task}, ${project}, 'task', ${"0".repeat(64)}, 'do it', ${"0".repeat(40)}, '{}',
        false, 1, 1, 'test', ${at})`,
    );
    await rows(
      database.sql,
      sql`insert into trial (id, project_id, task_id, agent, pair, is_scripted, attempt, seed,
        limit_nanos, wall_ms, state, created_at, updated_at)
      values (${trial}, ${project}, ${task}, 'test', 'test', true, 1, 1,
        ${fundedNanos}, 1000, 'running', ${at}, ${at})`,
    );
    const grant: Grant = {
      trialId: trial,
      projectId: project,
      currency: "CAD",
      enclosing: within,
      budget,
      spend,
      models: [model("normal"), model("thinking")],
      budgetStopStatus: 403,
    };
    const issued = await keys.issue(grant, clock.now() + 3_600_000);
    return { grant, budget, spend, ...issued };
  }

  function model(side: "normal" | "thinking"): GrantedModel {
    return {
      side,
      name: `test-${side}`,
      upstreamName: `vendor/${side}`,
      provider: "test",
      wires: WIRES,
      contextTokens: 100_000,
      maxOutputTokens: 4_096,
      price: PRICE,
      ...given.model,
    };
  }

  interface CallRecord extends Record<string, unknown> {
    id: string;
    cost_nanos: string;
    reserved_nanos: string;
    input_tokens: string;
    cache_read_tokens: string;
    output_tokens: string;
    is_estimated: boolean;
    status: number;
    error: string | null;
  }

  /** Lets every reservation expire, as if its time were over. */
  async function expire(): Promise<void> {
    const later = { now: () => clock.now() + 86_400_000 };
    while ((await createLedger(database, later).expire(100)) > 0);
  }

  /** The records of the calls that have been answered: they are written behind the answers. */
  async function readCalls(): Promise<CallRecord[]> {
    for (const started = Date.now(); ; await sleep(5)) {
      if (/settlements_pending 0/.test(await gateway.metrics())) break;
      assert.ok(Date.now() - started < 30_000, "calls that are not settled");
    }
    return rows<CallRecord>(database.sql, sql`select * from call order by started_at, id`);
  }

  /** Waits until nothing is held on the budget any more, and checks what was spent. */
  async function quiet(account: AccountId, isLater = (_: bigint) => true) {
    for (const started = Date.now(); ; await sleep(10)) {
      const balance = await ledger.balance(account);
      assert.ok(balance !== null);
      if (balance.reservedNanos === 0n && isLater(balance.spentNanos)) return balance;
      assert.ok(Date.now() - started < 30_000, `${balance.reservedNanos} nanos are still held`);
    }
  }

  function post(path: string, body: unknown, headers: Record<string, string> = {}) {
    return fetch(url + path, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${first.secret}`,
        ...headers,
      },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  }

  function chat(more: Record<string, unknown> = {}, secret = first.secret) {
    const body = { model: "normal", messages: [{ role: "user", content: "hi" }], ...more };
    return post("/v1/chat/completions", body, { authorization: `Bearer ${secret}` });
  }
}

/** A chat answer in one piece, or streamed when asked for, that used 100 and 10 tokens. */
export function answerChat(received: Received, response: ServerResponse): void {
  const request = JSON.parse(received.text);
  const usage = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
  if (request.stream !== true) {
    sendJson(response, { id: "c", choices: [{ message: { content: "hello" } }], usage });
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const part of chatEvents("hello there", usage)) response.write(part);
  response.end();
}

/** The events of a chat stream: three of text, its end, and its usage when there is one. */
export function chatEvents(text: string, usage: unknown = null): string[] {
  const third = Math.ceil(text.length / 3);
  const pieces = [text.slice(0, third), text.slice(third, 2 * third), text.slice(2 * third)];
  const events: unknown[] = pieces.map((content) => ({
    id: "c",
    choices: [{ index: 0, delta: { content } }],
  }));
  events.push({ id: "c", choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
  if (usage !== null) events.push({ id: "c", choices: [], usage });
  return [...events.map((event) => `data: ${JSON.stringify(event)}\n\n`), "data: [DONE]\n\n"];
}

export function sendJson(response: ServerResponse, value: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}
