/**
 * How an allocation's processes reach anything: what its specification says, made true on this
 * host. Opened once for an allocation, and used for each of its processes.
 *
 * Invariant: a process that goes through the proxy has its credentials and no secret of ours.
 */
import type { AgentSpec, EgressSpec, VerifySpec } from "../orchestrator/contract/worker.ts";
import { WorkspaceFault } from "./faults.ts";
import type { Isolation, OpenIsolation } from "./isolate/isolate.ts";
import type { Job } from "./job.ts";
import { openIsolation } from "./open-isolation.ts";
import { handOver } from "./rooms.ts";
import { prepareTrust } from "./trust.ts";

type Proxied = Extract<EgressSpec, { kind: "proxied" }>;

/** Where no proxy runs, the gateway alone is reached. */
const NO_PROXY: Proxied = {
  kind: "proxied",
  proxy_url: "http://127.0.0.1:9",
  username: "",
  password: "",
  authority_pem: "",
  is_isolation_required: false,
  is_llm_proxied: false,
  environment: {},
};

export interface Egress extends AsyncDisposable {
  /** Over a process's own variables. */
  readonly env: Readonly<Record<string, string>>;
  /** Where its processes reach the gateway. */
  readonly gatewayUrl: string;
  /** Null: its processes are started as they are. */
  readonly wrap: Isolation["wrap"] | null;
}

/** @throws WorkspaceFault when isolation is required and this host gives none. */
export async function openEgress(
  job: Job<AgentSpec | VerifySpec>,
  gatewayUrl: string,
  open: OpenIsolation = openIsolation,
): Promise<Egress> {
  if (job.spec.egress.kind === "open") {
    return {
      env: {},
      gatewayUrl,
      wrap: null,
      [Symbol.asyncDispose]: async () => {},
    };
  }
  const egress = job.spec.egress.kind === "closed" ? NO_PROXY : job.spec.egress;
  const hasGateway = gatewayUrl !== "" && !egress.is_llm_proxied;
  const isolation = await isolate(job, egress, hasGateway ? gatewayUrl : null, open);
  try {
    const trust = egress === NO_PROXY ? {} : await trustIn(job, egress.authority_pem);
    const reached = isolation.gatewayUrl ?? gatewayUrl;
    const places = {
      proxyUrl: isolation.proxyUrl,
      gatewayUrl: reached,
      isGatewayDirect: hasGateway,
    };
    return {
      env: {
        ...egress.environment,
        ...trust,
        ...proxyVariables(egress, places),
      },
      gatewayUrl: reached,
      wrap: isolation.kind === "none" ? null : isolation.wrap,
      [Symbol.asyncDispose]: () => isolation[Symbol.asyncDispose](),
    };
  } catch (error) {
    await isolation[Symbol.asyncDispose]();
    throw error;
  }
}

/** The variables by which its programs believe the proxy's authority. */
async function trustIn(
  { rooms, path, runAs }: Job<AgentSpec | VerifySpec>,
  authorityPem: string,
): Promise<Readonly<Record<string, string>>> {
  const { side: dir, home } = rooms;
  const { env } = await prepareTrust({ dir, authorityPem, systemBundle: null, home, path });
  // Made by us; its user's from now on.
  await handOver(home, runAs);
  return env;
}

async function isolate(
  { spec, rooms, runAs, outbox, stop, seclusion }: Job<AgentSpec | VerifySpec>,
  egress: Proxied,
  gatewayUrl: string | null,
  open: OpenIsolation,
): Promise<Isolation> {
  const isolation = await open({
    ...seclusion,
    allocationId: spec.allocation_id,
    rooms,
    runAs,
    proxyUrl: egress.proxy_url,
    gatewayUrl,
    onDropped: (dropped) => outbox.emit("egress.dropped", { ...dropped }),
    onLost: (why) => {
      outbox.emit("egress.isolation", { kind: "none", detail: why });
      stop.request("isolation_lost", why);
    },
  });
  const { kind, detail } = isolation;
  outbox.emit("egress.isolation", { kind, detail });
  if (kind !== "none") return isolation;
  if (egress.is_isolation_required) {
    throw new WorkspaceFault(
      `the egress policy requires isolation, and this worker gives none: ${detail}; run workers ` +
        "as root with iproute2 and nftables, or install bubblewrap, or set require_isolation: false",
    );
  }
  outbox.emit("trial.note", { level: "warn", message: detail });
  return isolation;
}

interface Places {
  readonly proxyUrl: string;
  /** Empty: there is none. */
  readonly gatewayUrl: string;
  readonly isGatewayDirect: boolean;
}

/** The variables that lead clients to the proxy, and past it to loopback and a direct gateway. */
export function proxyVariables(
  { username, password }: Pick<Proxied, "username" | "password">,
  { proxyUrl, gatewayUrl, isGatewayDirect }: Places,
): Record<string, string> {
  const url = new URL(proxyUrl);
  url.username = encodeURIComponent(username);
  url.password = encodeURIComponent(password);
  const proxy = url.href.replace(/\/$/, "");
  const gateway = URL.parse(gatewayUrl)?.hostname.replace(/^\[|\]$/g, "") ?? "";
  const past = new Set(["127.0.0.1", "localhost", "::1"]);
  if (isGatewayDirect) past.add(gateway);
  else past.delete(gateway);
  const variables = {
    http_proxy: proxy,
    https_proxy: proxy,
    all_proxy: proxy,
    no_proxy: [...past].join(","),
  };
  const upperCase = Object.entries(variables).map(([name, value]) => [name.toUpperCase(), value]);
  return { ...variables, ...Object.fromEntries(upperCase) };
}
