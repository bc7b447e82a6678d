/**
 * The host's side of `orchestrator/contract/hosts.ts`, over HTTP. Each request is tried once; an
 * orchestrator that does not answer is left for the next in turn, and the host asks again.
 */
import type { Static, TSchema } from "typebox";
import { Value } from "typebox/value";
import {
  HostOrders,
  HostPlan,
  type HostSync,
  Joined,
  type JoinRequest,
} from "../../orchestrator/contract/hosts.ts";
import { ORCHESTRATORS_HEADER } from "../../orchestrator/contract/orchestrators.ts";
import { createAddresses } from "../addresses.ts";
import { messageOf, OrchestratorAway, RequestRefused } from "../faults.ts";

const ANSWER_TIMEOUT_MS = 30_000;

export interface HostClient {
  /** The address that answered last. */
  url(): string;
  plan(token: string): Promise<HostPlan>;
  join(request: JoinRequest): Promise<Joined>;
  sync(workerToken: string, said: HostSync, signal: AbortSignal): Promise<HostOrders>;
  putLog(workerToken: string, requestId: string, bytes: Uint8Array, isLast: boolean): Promise<void>;
}

interface Request {
  path: string;
  token?: string;
  body: string | Uint8Array;
  timeoutMs?: number;
  signal?: AbortSignal;
}

/**
 * Every function may throw `OrchestratorAway` (it may answer later) or `RequestRefused`.
 *
 * @param apiUrl one address, or several with commas.
 */
export function createHostClient(apiUrl: string): HostClient {
  const addresses = createAddresses(apiUrl);
  return { url: addresses.current, plan, join, sync, putLog };

  function plan(token: string): Promise<HostPlan> {
    return json(HostPlan, { path: "plan", body: JSON.stringify({ token }) });
  }

  function join(request: JoinRequest): Promise<Joined> {
    return json(Joined, { path: "join", body: JSON.stringify(request) });
  }

  function sync(token: string, said: HostSync, signal: AbortSignal): Promise<HostOrders> {
    const timeoutMs = said.wait_ms + ANSWER_TIMEOUT_MS;
    const body = JSON.stringify(said);
    return json(HostOrders, { path: "sync", token, body, timeoutMs, signal });
  }

  async function putLog(
    token: string,
    requestId: string,
    bytes: Uint8Array,
    isLast: boolean,
  ): Promise<void> {
    const path = `logs/${encodeURIComponent(requestId)}?is_last=${isLast}`;
    await send({ path, token, body: bytes });
  }

  async function json<Schema extends TSchema>(
    schema: Schema,
    request: Request,
  ): Promise<Static<Schema>> {
    const answer: unknown = JSON.parse(await send(request));
    if (Value.Check(schema, answer)) return answer;
    const [first] = Value.Errors(schema, answer);
    throw new RequestRefused(502, `${request.path}: no answer of this version: ${first?.message}`);
  }

  async function send({ path, token, body, timeoutMs, signal }: Request): Promise<string> {
    const timeout = AbortSignal.timeout(timeoutMs ?? ANSWER_TIMEOUT_MS);
    const type = typeof body === "string" ? "application/json" : "application/octet-stream";
    try {
      const response = await fetch(`${addresses.current()}/api/v1/host/${path}`, {
        method: "POST",
        signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]),
        redirect: "error",
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          "content-type": type,
        },
        body: body as BodyInit,
      });
      const text = await response.text();
      if (response.ok) {
        addresses.learn(response.headers.get(ORCHESTRATORS_HEADER));
        return text;
      }
      throw new RequestRefused(response.status, `${path}: ${detailOf(text)}`);
    } catch (error) {
      signal?.throwIfAborted();
      // A refusal is an answer; a server that fails is as good as away.
      if (error instanceof RequestRefused && error.status < 500) throw error;
      const away = new OrchestratorAway(`${addresses.current()}: ${reasonOf(error)}`, {
        cause: error,
      });
      addresses.turn();
      throw away;
    }
  }
}

function detailOf(text: string): string {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    if (typeof detail === "string") return detail;
  } catch {
    // Not a problem document: a proxy's page, or nothing.
  }
  return text.slice(0, 200);
}

/** fetch says "fetch failed"; its cause says why. */
function reasonOf(error: unknown): string {
  const { cause } = error as { cause?: unknown };
  return cause === undefined ? messageOf(error) : messageOf(cause);
}
