/**
 * Requests to a server of the Vault API, through node-vault, over our own transport: every request
 * ends in time, no proxy of the environment sees it, and what fails says so in the server's words.
 *
 * Invariant: a token is given with each request and kept nowhere here. node-vault's own log, which
 * prints what is written, is off; so are its fallbacks to the environment.
 */
import nodeVault from "node-vault";
import { Agent, request } from "undici";

/**
 * `sealed`: a person must open it; `forbidden`: 403; `missing`: 404; `cas`: somebody wrote first;
 * `refused`: 400, for good; `unprepared`: nothing is mounted there; `unreachable`: no answer, or
 * none that Vault would give.
 */
export type VaultFaultKind =
  | "sealed"
  | "forbidden"
  | "missing"
  | "cas"
  | "refused"
  | "unprepared"
  | "unreachable";

/** `message`: what the server or the connection said. */
export class VaultFault extends Error {
  override readonly name = "VaultFault";
  readonly kind: VaultFaultKind;

  constructor(kind: VaultFaultKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

export interface VaultRequestOptions {
  token?: string;
  /** The answer comes wrapped: for whoever unwraps it first, within this time. */
  wrapTtlMs?: number;
}

/** The parts of an answer that are used; `data`'s members are checked where they are read. */
export interface VaultAnswer {
  data?: Readonly<Record<string, unknown>> | null;
  auth?: {
    client_token: string;
    lease_duration: number;
    renewable: boolean;
  } | null;
  wrap_info?: { token: string; ttl: number } | null;
}

export interface VaultHealth {
  isInitialized: boolean;
  isSealed: boolean;
  version: string;
}

export interface VaultClient {
  readonly address: string;
  /** @throws VaultFault, as all of these. */
  read(path: string, options: VaultRequestOptions): Promise<VaultAnswer>;
  list(path: string, options: VaultRequestOptions): Promise<string[]>;
  write(path: string, body: object, options: VaultRequestOptions): Promise<VaultAnswer>;
  remove(path: string, options: VaultRequestOptions): Promise<void>;
  health(): Promise<VaultHealth>;
  close(): Promise<void>;
}

export interface VaultClientOptions {
  /** Without a slash at its end. */
  address: string;
  namespace: string | null;
  /** PEM; null: the authorities that Node knows. */
  ca: string | null;
  timeoutMs: number;
}

const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
const WORDS_MAX = 500;
/** Standbys, and a server that is itself slow to reach its storage. */
const AWAY = new Set([307, 412, 429, 472, 473, 500, 502, 503, 504]);

interface Sent {
  method: string;
  uri: string;
  headers: Record<string, string>;
  json?: object;
}

export function createVaultClient(options: VaultClientOptions): VaultClient {
  const { address, namespace, ca, timeoutMs } = options;
  const agent = new Agent({
    connect: { timeout: timeoutMs, ...(ca === null ? {} : { ca }) },
    maxResponseSize: ANSWER_BYTES_MAX,
  });
  const client = nodeVault({
    endpoint: address,
    noCustomHTTPVerbs: true,
    debug: () => {},
    "request-promise": { defaults: () => send },
  });
  Object.assign(client, { token: "", namespace: namespace ?? "", pathPrefix: "" });
  return { address, read, list, write, remove, health, close: () => agent.close() };

  async function read(path: string, given: VaultRequestOptions): Promise<VaultAnswer> {
    return (await told(() => client.read(path, { headers: headersOf(given) }))) as VaultAnswer;
  }

  async function list(path: string, given: VaultRequestOptions): Promise<string[]> {
    const answer = (await told(() =>
      client.list(path, { headers: headersOf(given) }),
    )) as VaultAnswer;
    const keys = answer.data?.["keys"];
    return Array.isArray(keys) ? keys.map(String) : [];
  }

  async function write(
    path: string,
    body: object,
    given: VaultRequestOptions,
  ): Promise<VaultAnswer> {
    const answer = await told(() => client.write(path, body, { headers: headersOf(given) }));
    // 204 has no body.
    return (answer ?? {}) as VaultAnswer;
  }

  async function remove(path: string, given: VaultRequestOptions): Promise<void> {
    await told(() => client.delete(path, { headers: headersOf(given) }));
  }

  async function health(): Promise<VaultHealth> {
    const answer = await told(() => client.health());
    const { initialized, sealed, version } = answer as Record<string, unknown>;
    if (typeof initialized !== "boolean" || typeof sealed !== "boolean") throw noVault();
    return { isInitialized: initialized, isSealed: sealed, version: String(version) };
  }

  async function send({ method, uri, headers, json }: Sent) {
    const answer = await request(uri, {
      method: method as "GET",
      dispatcher: agent,
      headers: {
        ...headers,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
      },
      body: json === undefined ? null : JSON.stringify(json),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await answer.body.text();
    const path = new URL(uri).pathname;
    return {
      statusCode: answer.statusCode,
      body: parse(text, answer.statusCode),
      request: { path },
    };
  }

  function parse(text: string, status: number): unknown {
    if (text === "") return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw noVault(status);
    }
  }

  async function told(ask: () => Promise<unknown>): Promise<unknown> {
    try {
      return await ask();
    } catch (error) {
      throw faultOf(error);
    }
  }

  function faultOf(error: unknown): VaultFault {
    if (error instanceof VaultFault) return error;
    const { response } = error as { response?: { statusCode: number; body: unknown } };
    if (response !== undefined) return answered(response.statusCode, response.body);
    const { name, message, code } = error as Error & { code?: string };
    if (name === "TimeoutError" || code?.endsWith("_TIMEOUT") === true) {
      return new VaultFault("unreachable", `no answer within ${timeoutMs} ms`);
    }
    return new VaultFault("unreachable", message === "" ? (code ?? name) : message);
  }

  function answered(status: number, body: unknown): VaultFault {
    const { errors } = (body ?? {}) as { errors?: unknown };
    // Another program at this address may well answer 404: that is not "no such secret".
    if (!Array.isArray(errors) && status !== 404) return noVault(status);
    if (!Array.isArray(errors) && (body as { data?: unknown })?.data === undefined) {
      return noVault(status);
    }
    const words =
      (errors as unknown[] | undefined)?.map(plain).join("; ").slice(0, WORDS_MAX) ?? "";
    const said = words === "" ? `status ${status}` : words;
    if (status === 503 && /sealed/i.test(said)) return new VaultFault("sealed", said);
    if (AWAY.has(status)) return new VaultFault("unreachable", said);
    if (status === 403) return new VaultFault("forbidden", said);
    if (/no handler for route/.test(said)) return new VaultFault("unprepared", said);
    if (status === 404) return new VaultFault("missing", said);
    return new VaultFault(/check-and-set/.test(said) ? "cas" : "refused", said);
  }

  function noVault(status?: number): VaultFault {
    const what = status === undefined ? "" : ` (status ${status})`;
    return new VaultFault("unreachable", `what answers there is no Vault${what}`);
  }
}

function headersOf({ token, wrapTtlMs }: VaultRequestOptions): Record<string, string> {
  return {
    // Vault asks for it where a browser could be made to send a request.
    "X-Vault-Request": "true",
    ...(token === undefined ? {} : { "X-Vault-Token": token }),
    ...(wrapTtlMs === undefined ? {} : { "X-Vault-Wrap-TTL": `${Math.ceil(wrapTtlMs / 1000)}s` }),
  };
}

/** "1 error occurred:\n\t* permission denied\n\n" in one line. */
function plain(words: unknown): string {
  return String(words)
    .replace(/^\d+ errors? occurred:\s*/, "")
    .replace(/\s*\*\s+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
}
