/**
 * Ray's REST API, as its dashboard serves it (docs.ray.io, "Ray Serve REST API", version 2, and
 * "Monitoring with the CLI or SDK"; read in Ray 2.60): the parts that the launcher uses.
 *
 * Invariant: no request looks like a browser's. To one, Ray shows configurations with their
 * variables' values struck out, and what is written back from such an answer destroys them.
 */
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { request } from "undici";
import { Problem, type ProblemCode } from "../problem.ts";

export interface RayApiOptions {
  /** Of the dashboard, without a slash at its end. */
  url: string;
  /** Where RAY_AUTH_MODE is token. */
  token: string | null;
  timeoutMs: number;
}

/** An actor's log, as Ray finds it. */
export interface RayLog {
  /** A file of a node's log folder, or what an actor writes to its outputs. */
  readonly of:
    | { readonly node_id: string; readonly filename: string }
    | { readonly actor_id: string; readonly suffix: "out" | "err" };
  /** From its end; -1: all. */
  readonly lines: number;
}

export interface RayApi {
  readonly url: string;
  /** @throws Problem `unavailable`, or `conflict` where it is no Ray dashboard. */
  read(): Promise<RayServe>;
  /** All that is to run: what is not named is ended. @throws Problem with Ray's words. */
  put(wanted: Readonly<Record<string, unknown>>): Promise<void>;
  /** Null when there is none (any more); of a longer one its last lines within LOG_BYTES_MAX. */
  log(log: RayLog): Promise<Buffer | null>;
  /** Where Prometheus would scrape Ray's nodes; none when it does not say. */
  metricsAddresses(): Promise<string[]>;
  metricsText(address: string): Promise<string | null>;
  version(): Promise<string>;
}

const Text = Type.Union([Type.String(), Type.Null()]);
const Config = Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]);
const Replica = Type.Object({
  replica_id: Type.String(),
  actor_id: Type.Optional(Text),
  node_id: Type.Optional(Text),
  log_file_path: Type.Optional(Text),
  state: Type.Optional(Type.String()),
  start_time_s: Type.Optional(Type.Number()),
});
const Deployment = Type.Object({
  status: Type.String(),
  message: Type.String(),
  replicas: Type.Array(Replica),
  recent_dead_replicas: Type.Optional(Type.Array(Replica)),
});
const Application = Type.Object({
  status: Type.String(),
  message: Type.String(),
  last_deployed_time_s: Type.Number(),
  deployed_app_config: Type.Optional(Config),
  source: Type.Optional(Type.String()),
  deployments: Type.Record(Type.String(), Deployment),
  deployment_topology: Type.Optional(
    Type.Union([Type.Object({ ingress_deployment: Type.Optional(Text) }), Type.Null()]),
  ),
});
const Serve = Type.Object({
  proxy_location: Type.Optional(Text),
  http_options: Type.Optional(Config),
  grpc_options: Type.Optional(Config),
  target_capacity: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  applications: Type.Record(Type.String(), Application),
});
const Version = Type.Object({ ray_version: Type.String() });
const Targets = Type.Array(Type.Object({ targets: Type.Array(Type.String()) }));

export type RayReplica = Type.Static<typeof Replica>;
export type RayDeployment = Type.Static<typeof Deployment>;
export type RayApplication = Type.Static<typeof Application>;
export type RayServe = Type.Static<typeof Serve>;

const isServe = Compile(Serve);
const isVersion = Compile(Version);
const isTargets = Compile(Targets);

const APPLICATIONS = "/api/serve/applications/";
const WORDS_MAX = 3_000;
const LOG_BYTES_MAX = 16 * 2 ** 20;

export function createRayApi({ url, token, timeoutMs }: RayApiOptions): RayApi {
  return { url, read, put, log, metricsAddresses, metricsText, version };

  async function read(): Promise<RayServe> {
    const found = json(await ask("GET", APPLICATIONS));
    if (isServe.Check(found)) return found;
    throw notRay(`GET ${APPLICATIONS} has no applications with their status`);
  }

  async function put(wanted: Readonly<Record<string, unknown>>): Promise<void> {
    await ask("PUT", APPLICATIONS, { body: JSON.stringify(wanted) });
  }

  async function version(): Promise<string> {
    const found = json(await ask("GET", "/api/version"));
    if (isVersion.Check(found)) return found.ray_version;
    throw notRay("GET /api/version has no ray_version");
  }

  async function log({ of, lines }: RayLog): Promise<Buffer | null> {
    const query = new URLSearchParams({ ...of, lines: String(lines) });
    try {
      return await ask("GET", `/api/v0/logs/file?${query}`, { bytesMax: LOG_BYTES_MAX });
    } catch (error) {
      // A file that is not there is a failure of Ray's, told with its words and status 500.
      if (error instanceof Problem && error.code === "upstream_failed") return null;
      throw error;
    }
  }

  async function metricsAddresses(): Promise<string[]> {
    const found = json(await ask("GET", "/api/prometheus/sd"));
    return isTargets.Check(found) ? found.flatMap(({ targets }) => targets) : [];
  }

  async function metricsText(address: string): Promise<string | null> {
    try {
      const limits = { headersTimeout: timeoutMs, bodyTimeout: timeoutMs };
      const response = await request(`http://${address}/metrics`, limits);
      const text = await response.body.text();
      return response.statusCode === 200 ? text : null;
    } catch {
      // A node that went away is still listed for a while.
      return null;
    }
  }

  function json(bytes: Buffer): unknown {
    const text = bytes.toString("utf8");
    try {
      return JSON.parse(text);
    } catch {
      throw notRay(`it says ${JSON.stringify(text.slice(0, 80))}`);
    }
  }

  async function ask(
    method: "GET" | "PUT",
    path: string,
    { body, bytesMax = Infinity }: { body?: string; bytesMax?: number } = {},
  ): Promise<Buffer> {
    let status: number;
    let bytes: Buffer;
    try {
      const response = await request(`${url}${path}`, {
        method,
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body }),
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
      });
      status = response.statusCode;
      bytes = await lastLines(response.body, bytesMax);
    } catch (cause) {
      throw unreachable(cause);
    }
    if (status === 200) return bytes;
    const words = bytes.toString("utf8").trim().slice(-WORDS_MAX);
    throw refused(status, `${method} ${path.split("?")[0]}`, words);
  }

  function unreachable(cause: unknown): Problem {
    const code = cause instanceof Error && "code" in cause ? ` (${String(cause.code)})` : "";
    const detail =
      `Ray's dashboard at ${url} does not answer${code}: start Ray with its dashboard, or set ` +
      "AUTOCODE_RAY_URL to its address (port 8265 unless it was given another)";
    return new Problem("unavailable", detail, { cause });
  }

  function refused(status: number, what: string, words: string): Problem {
    const said = words === "" ? "" : `: ${words}`;
    switch (status) {
      case 400:
        return new Problem("conflict", `Ray refuses ${what} (400)${said}`);
      case 401:
      case 403:
        return new Problem(
          "unavailable",
          `Ray at ${url} wants another token (${status})${said}; set RAY_AUTH_TOKEN to its own`,
        );
      case 404:
      case 405:
        return notRay(`it answers ${status} to ${what}`);
      case 501:
        return new Problem("conflict", `Ray at ${url} has no Serve (501)${said}`);
      default: {
        const code: ProblemCode = status === 500 ? "upstream_failed" : "unavailable";
        return new Problem(code, `Ray answered ${status} to ${what}${said}`);
      }
    }
  }

  function notRay(why: string): Problem {
    const detail =
      `What answers at ${url} is no dashboard of Ray's with Serve's REST API: ${why}; ` +
      "set AUTOCODE_RAY_URL to the dashboard's address";
    return new Problem("conflict", detail);
  }
}

/** Of what is longer than `bytesMax`, the whole lines at its end; no more than that is kept. */
export async function lastLines(body: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  let isCut = false;
  for await (const chunk of body) {
    chunks.push(chunk);
    length += chunk.length;
    while (length - (chunks[0]?.length ?? 0) >= bytesMax) {
      length -= chunks.shift()?.length ?? 0;
      isCut = true;
    }
  }
  const bytes = Buffer.concat(chunks);
  if (!isCut && length <= bytesMax) return bytes;
  const end = bytes.subarray(-bytesMax);
  return end.subarray(end.indexOf("\n") + 1);
}
