/**
 * What the proxies' tests run in: a guard that decides as the real one does (its policy, over names
 * and addresses of the test), a sink that keeps drafts, servers of the test behind names, and the
 * authorities of both sides.
 */
import { writeFile } from "node:fs/promises";
import { createServer as createHttpServer, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TlsOptions } from "node:tls";
import type { EgressPolicy } from "../../../orchestrator/contract/egress.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";
import type { FlowDraft, FlowSink } from "../../../orchestrator/traffic/sink.ts";
import { type Authority, openAuthority } from "../../../proxy/egress/ca.ts";
import { createDecisions } from "../../../proxy/egress/decide.ts";
import type { EgressGuard, EgressProxy, EgressSession } from "../../../proxy/egress/guard.ts";
import { createPlaces, PLACE_LIMITS, type PlaceLimits } from "../../../proxy/egress/places.ts";
import { compilePolicy } from "../../../proxy/egress/policy.ts";
import { denied } from "../../../proxy/egress/refusal.ts";
import { openTestFolder } from "../../support/embedded.ts";

export const CANARY = "cnry-5f1c9b7d2e";
export const BODY_BYTES_MAX = 64 * 1024;
export const log = createLog("silent");

/** What an engine is opened with; `extraCa`: what the test's servers are signed by. */
export interface EngineParts {
  guard: EgressGuard;
  sink: FlowSink;
  authority: Authority;
  extraCa: string;
  folder: string;
  idleTimeoutMs?: number;
}

export type OpenEngine = (parts: EngineParts) => Promise<EgressProxy>;

export interface TestGuard extends EgressGuard {
  readonly drafts: FlowDraft[];
  readonly strangers: FlowDraft[];
  readonly canaries: string[];
  /** Bytes that the session let leave. */
  sentCount(): number;
  end(): void;
}

export interface Limits {
  policy: EgressPolicy;
  secrets?: Readonly<Record<string, string>>;
  addresses?: Readonly<Record<string, readonly string[]>>;
  sentMax?: number;
  perSession?: Partial<PlaceLimits>;
}

/** One allocation, "worker" with the password "pass"; every name is 127.0.0.1 unless told. */
export function createTestGuard({
  policy,
  secrets = {},
  addresses = {},
  sentMax,
  perSession = {},
}: Limits): TestGuard {
  const ending = new AbortController();
  const drafts: FlowDraft[] = [];
  const strangers: FlowDraft[] = [];
  const canaries: string[] = [];
  let sentCount = 0;
  const compiled = compilePolicy(policy, "aider", null);
  const decisions = createDecisions({
    policy: async () => compiled,
    ended: async () => (ending.signal.aborted ? "The allocation has ended" : null),
    recordFault: () => null,
    resolve: async ({ text }) => addresses[text] ?? ["127.0.0.1"],
    readSecret: async (path) => secrets[path] ?? null,
    isOwn: async () => false,
    isGateway: () => false,
    canaries: () => [CANARY],
    take: () => 0,
    hasSentAll: (_, more) => sentCount + more > (sentMax ?? Number.MAX_SAFE_INTEGER),
    onHead: (byteCount) => {
      sentCount += byteCount;
    },
    onCanary: () => canaries.push("head"),
    onValues: () => undefined,
    replay: null,
  });
  const session: EgressSession = {
    allocationId: "allocation_1",
    ...{ trialId: "trial_1", projectId: "project_1", agent: "aider", signal: ending.signal },
    places: createPlaces({ ...PLACE_LIMITS, ...perSession }),
    ...decisions,
    sent: (byteCount) => {
      sentCount += byteCount;
      return sentCount <= (sentMax ?? Number.MAX_SAFE_INTEGER);
    },
    onCanary: (_, host) => canaries.push(host),
    record: (draft) => drafts.push(draft),
  };
  return {
    ...{ drafts, strangers, canaries },
    session: async (username, password) =>
      username === "worker" && password === "pass" && !ending.signal.aborted ? session : null,
    stranger: denied("no_session", "The proxy knows nobody by these credentials"),
    recordStranger: (draft) => strangers.push(draft),
    sentCount: () => sentCount,
    end: () => ending.abort(),
  };
}

export function createTestSink(): FlowSink & { isFull: boolean } {
  const sink = {
    sourceId: "process_1",
    bodyBytesMax: BODY_BYTES_MAX,
    messageBytesMax: BODY_BYTES_MAX,
    append: async () => undefined,
    isBehind: () => sink.isFull,
    fault: () => null,
    isFull: false,
  };
  return sink;
}

export interface World extends AsyncDisposable {
  guard: TestGuard;
  sink: ReturnType<typeof createTestSink>;
  proxy: EgressProxy;
  /** With the worker's credentials. */
  proxyUrl: string;
  /** Of the proxy's authority: what workers trust. */
  caFile: string;
  ca: string;
  /** That the test's servers are signed by. */
  upstream: Authority;
  folder: string;
}

/** The ports that a policy names are those of the test's servers. */
export async function openWorld(
  openEngine: OpenEngine,
  limits: Limits,
  options: { idleTimeoutMs?: number } = {},
): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await openTestFolder());
  const guard = createTestGuard(limits);
  const sink = createTestSink();
  const upstream = await upstreamAuthority();
  const authority = await authorityIn(join(folder.path, "own"));
  const caFile = join(folder.path, "ca.pem");
  await writeFile(caFile, authority.certificatePem);
  const parts = { guard, sink, authority, extraCa: upstream.certificatePem, folder: folder.path };
  const proxy = stack.use(await openEngine({ ...parts, ...options }));
  const owned = stack.move();
  return {
    ...{ guard, sink, proxy, caFile, upstream, folder: folder.path },
    ca: authority.certificatePem,
    proxyUrl: proxy.url.replace("//", "//worker:pass@"),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

let shared: Promise<Authority> | null = null;

/** One for all of a process's tests: servers are started before the world they are in. */
export function upstreamAuthority(): Promise<Authority> {
  shared ??= (async () => {
    await using folder = await openTestFolder();
    return await authorityIn(folder.path);
  })();
  return shared;
}

async function authorityIn(dir: string): Promise<Authority> {
  const secrets = await openFileSecrets({ dir, passphrase: null }, systemRandom);
  return openAuthority({ secrets, clock: systemClock, random: systemRandom });
}

export interface Upstream extends AsyncDisposable {
  port: number;
  server: Server;
}

/** A server of the test, under any name, over TLS unless `isPlain`. */
export async function startUpstream(
  onRequest: Parameters<typeof createHttpServer>[1] & object,
  { isPlain = false } = {},
): Promise<Upstream> {
  const authority = await upstreamAuthority();
  const SNICallback: TlsOptions["SNICallback"] = (name, done) => {
    void authority.leaf(name).then(({ context }) => done(null, context));
  };
  const server = isPlain
    ? createHttpServer(onRequest)
    : createHttpsServer({ SNICallback }, onRequest);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    server,
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const ids = createIds(systemClock, systemRandom);
