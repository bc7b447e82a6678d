/**
 * Ray's dashboard as its REST API is documented, and Serve's ingress, in one server: it takes what
 * Ray 2.60's schemas take, ends what a configuration leaves out, and is to a browser what Ray is.
 * Its engines are loaded, or dead, a moment after they were deployed (`args.dies`).
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

interface Deployed {
  config: Record<string, unknown>;
  source: "declarative" | "imperative";
  status: "DEPLOYING" | "RUNNING" | "DEPLOY_FAILED" | "UNHEALTHY" | "DELETING";
  message: string;
  /** How often it was looked at in this status: it goes on after the second time. */
  looks: number;
  log: string;
  /** As Ray has them: with fractions, and `deployedAtS` that of the last PUT that named it. */
  deployedAtS: number;
  replica: { id: string; startedAtS: number };
  /** What its engine counted since it started. */
  promptTokens: number;
}

export interface RayStub extends AsyncDisposable {
  url: string;
  applications: Map<string, Deployed>;
  /** How many lines of logs were asked for, each time. */
  logLines: number[];
  /** What was put, whole. */
  puts: Record<string, unknown>[];
  /** As `serve.run` deploys: no configuration ends it. */
  run(name: string): void;
  fail(name: string, words: string): void;
  count(name: string, promptTokens: number): void;
  /** Another replica has its place, with counters of its own. */
  replace(name: string): void;
  /** Serve's controller ended, and found its replicas again. */
  recover(): void;
  /** The port stays, and refuses nobody again. */
  hangUp(): Promise<void>;
}

const TOP = [
  ...["proxy_location", "http_options", "grpc_options", "controller_options", "logging_config"],
  ...["tracing_config", "applications", "target_capacity"],
];
const OF_APPLICATION = [
  ...["name", "route_prefix", "import_path", "runtime_env", "host", "port", "deployments", "args"],
  ...["autoscaling_policy", "logging_config", "external_scaler_enabled"],
];
const LOOKS = 2;
const OTHER_METRICS = [
  'ray_vllm_num_requests_running{ReplicaId="gone",engine="0",model_name="m"} 7.0',
  'ray_vllm_num_requests_running{ReplicaId="gone",engine="0",model_name="another"} 4.0',
  'ray_serve_num_http_requests_total{route="/"} 5.0',
];
const OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried 2.00 GiB";

export async function openRayStub(options: { token?: string } = {}): Promise<RayStub> {
  const applications = new Map<string, Deployed>();
  const puts: Record<string, unknown>[] = [];
  const logLines: number[] = [];
  let httpOptions: unknown = null;
  let replicas = 0;
  let nowS = 1_790_000_000.123_456;
  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("the stub has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    ...{ applications, logLines, puts, run, fail, count, replace, recover, hangUp },
    [Symbol.asyncDispose]: hangUp,
  };

  function run(name: string): void {
    const config = { name, import_path: "other:app", route_prefix: `/${name}` };
    applications.set(name, { ...fresh(config), source: "imperative", status: "RUNNING" });
  }

  function fail(name: string, words: string): void {
    const found = applications.get(name);
    if (found === undefined) throw new Error(`${name} is not deployed`);
    applications.set(name, { ...found, status: "UNHEALTHY", message: words, looks: 0 });
  }

  function count(name: string, promptTokens: number): void {
    const found = applications.get(name);
    if (found === undefined) throw new Error(`${name} is not deployed`);
    found.promptTokens = promptTokens;
  }

  function replace(name: string): void {
    count(name, 0);
    const found = applications.get(name);
    if (found !== undefined) found.replica = nextReplica();
  }

  function recover(): void {
    nowS += 10.2;
    for (const { replica } of applications.values()) replica.startedAtS = nowS;
  }

  function nextReplica(): Deployed["replica"] {
    replicas += 1;
    nowS += 1.1;
    return { id: `r${replicas}`, startedAtS: nowS };
  }

  function metrics(): string {
    const own = [...applications.values()].flatMap(({ replica: { id }, promptTokens }) => {
      const labels = `{ReplicaId="${id}",WorkerId="w",engine="0",model_name="m"}`;
      return [
        `ray_vllm_num_requests_running${labels} 3.0`,
        `ray_vllm_prompt_tokens_total${labels} ${promptTokens}.0`,
      ];
    });
    return [...own, ...OTHER_METRICS].join("\n");
  }

  function fresh(config: Record<string, unknown>): Deployed {
    const log = "loading the weights of m\n";
    return {
      ...{ config, source: "declarative", status: "DEPLOYING", message: "", looks: 0, log },
      ...{ deployedAtS: nowS, replica: nextReplica(), promptTokens: 0 },
    };
  }

  async function hangUp(): Promise<void> {
    server.closeAllConnections();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://stub");
    const isBrowser =
      /^Mozilla/.test(request.headers["user-agent"] ?? "") ||
      ["sec-fetch-mode", "origin", "referer"].some((name) => name in request.headers);
    const say = (status: number, body: unknown) =>
      response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
    if (url.pathname.startsWith("/autocode/")) return void ingress(url.pathname, say);
    const { token } = options;
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      return void say(401, "Unauthorized: Missing authentication token");
    }
    const route = `${request.method} ${url.pathname}`;
    switch (route) {
      case "GET /api/version":
        return void say(200, { version: "4", ray_version: "2.60.0", session_name: "s" });
      case "GET /api/prometheus/sd":
        return void say(200, [{ labels: {}, targets: [request.headers.host, "127.0.0.1:9"] }]);
      case "GET /metrics":
        return void say(200, metrics());
      case "GET /api/serve/applications/":
        return void say(200, details(isBrowser));
      case "PUT /api/serve/applications/": {
        if (isBrowser) return void say(405, "Method Not Allowed for browser traffic.");
        const fault = put(await json(request));
        return void say(fault === null ? 200 : 400, fault ?? "");
      }
      case "GET /api/v0/logs/file": {
        const text = logOf(url.searchParams);
        return void say(text === null ? 500 : 200, text ?? "no such file");
      }
      default:
        return void say(404, "404: Not Found");
    }
  }

  function ingress(path: string, say: (status: number, body: unknown) => void): void {
    const [, id, rest] = /^\/autocode\/([^/]+)(\/.*)$/.exec(path) ?? [];
    const found = applications.get(`autocode-${id}`);
    if (found === undefined || rest !== "/v1/models") {
      say(404, "Path not found");
      return;
    }
    // As Ray does: before any engine is loaded.
    const { model } = found.config["args"] as { model: string };
    say(200, { object: "list", data: [{ id: model }] });
  }

  function put(body: Record<string, unknown>): string | null {
    const unknown = Object.keys(body).find((name) => !TOP.includes(name));
    if (unknown !== undefined) return `the stub knows no ${unknown}`;
    const wanted = body["applications"] as Record<string, unknown>[] | undefined;
    if (!Array.isArray(wanted)) return "applications: Field required";
    for (const config of wanted) {
      const strange = Object.keys(config).find((name) => !OF_APPLICATION.includes(name));
      if (strange !== undefined) return `the stub knows no application's ${strange}`;
      if (typeof config["import_path"] !== "string") return "import_path: Field required";
      if (!/^\/(.*[^/])?$/.test(String(config["route_prefix"]))) return "route_prefix must not end";
    }
    const twice = (key: string) => new Set(wanted.map((one) => one[key])).size < wanted.length;
    if (twice("name")) return "Found multiple configs for applications.";
    if (twice("route_prefix")) return "Found duplicate applications for route prefixes.";
    puts.push(body);
    httpOptions ??= body["http_options"] ?? null;
    for (const config of wanted) {
      const name = String(config["name"]);
      const there = applications.get(name);
      const isSame = JSON.stringify(there?.config) === JSON.stringify(config);
      if (!isSame || there?.status === "DELETING") applications.set(name, fresh(config));
    }
    nowS += 1.3;
    for (const { name } of wanted) {
      const one = applications.get(String(name));
      if (one !== undefined) one.deployedAtS = nowS;
    }
    for (const [name, one] of applications) {
      if (one.source === "imperative" || wanted.some((config) => config["name"] === name)) continue;
      applications.set(name, { ...one, status: "DELETING", looks: 0 });
    }
    return null;
  }

  function details(isBrowser: boolean) {
    const shown = [...applications].map(([name, one]) => [name, detailsOf(name, one, isBrowser)]);
    for (const [name, one] of applications) goOn(name, one);
    return {
      controller_info: {},
      proxies: {},
      applications: Object.fromEntries(shown),
      target_capacity: null,
      ...(httpOptions === null ? {} : { http_options: httpOptions, proxy_location: "EveryNode" }),
    };
  }

  function goOn(name: string, one: Deployed): void {
    one.looks += 1;
    if (one.looks < LOOKS) return;
    if (one.status === "DELETING") applications.delete(name);
    if (one.status !== "DEPLOYING") return;
    const { dies = false } = (one.config["args"] ?? {}) as { dies?: boolean };
    one.status = dies ? "DEPLOY_FAILED" : "RUNNING";
    one.message = dies ? "Failed to update the deployments ['Engine']." : "";
    one.log += dies ? `${OOM}\n` : "Application startup complete.\n";
  }

  function logOf(query: URLSearchParams): string | null {
    const actor = query.get("actor_id");
    if (actor === null || query.get("suffix") !== "out") return null;
    const log = applications.get(actor.replace(/^actor-/, ""))?.log;
    if (log === undefined) return null;
    const lines = Number(query.get("lines"));
    logLines.push(lines);
    return lines === -1 ? log : (log.match(/.*\n|.+$/g) ?? []).slice(-lines).join("");
  }
}

function detailsOf(name: string, one: Deployed, isBrowser: boolean) {
  const { status, message, source, config } = one;
  const env = (config["runtime_env"] as { env_vars?: object } | undefined)?.env_vars;
  const hidden = Object.keys(env ?? {}).map((key) => [key, "<redacted>"]);
  const redacted = { ...config, runtime_env: { env_vars: Object.fromEntries(hidden) } };
  const words = status === "DEPLOY_FAILED" ? `The replica failed to start: ${OOM}` : "";
  const there = { node_id: "n", log_file_path: null, state: "RUNNING" };
  const { id, startedAtS } = one.replica;
  const engine = { replica_id: id, actor_id: `actor-${name}`, start_time_s: startedAtS };
  const before = { replica_id: "i", actor_id: `ingress-${name}`, start_time_s: startedAtS + 1.7 };
  return {
    ...{ name, status, message, source, last_deployed_time_s: one.deployedAtS },
    deployed_app_config: source === "imperative" ? null : isBrowser && env ? redacted : config,
    deployment_topology: { app_name: name, ingress_deployment: "OpenAiIngress" },
    deployments: {
      Engine: {
        status: status === "RUNNING" ? "HEALTHY" : status === "DEPLOYING" ? "UPDATING" : status,
        message: words,
        replicas: [{ ...there, ...engine }],
      },
      OpenAiIngress: { status: "HEALTHY", message: "", replicas: [{ ...there, ...before }] },
    },
  };
}

async function json(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}
