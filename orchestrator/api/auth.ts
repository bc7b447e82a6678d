/**
 * Who may call what. Every route declares its `access`; one without is a defect that keeps the
 * server from starting. A request is checked before its body is read.
 *
 * A browser's cookie is sent whoever asks, so a change made with one must come from our own pages
 * (`Sec-Fetch-Site`, else `Origin`). A request that names a host which is not ours is refused:
 * that is what a DNS rebinding attack looks like.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from "fastify";
import { Problem } from "../problem.ts";
import type { WorkerId } from "../runtime/ids.ts";
import type { Session } from "../trials/worker-sessions.ts";
import type { Caller, Role } from "./access.ts";
import type { Services } from "./services.ts";

/**
 * `page`: the web UI's own pages, which tell a stranger how to log in instead of refusing.
 * `worker`: an allocation's token; `host`: a host program's. The rest: a role, or one above it.
 */
export type RouteAccess = "public" | "page" | "worker" | "host" | Role;

declare module "fastify" {
  interface FastifyContextConfig {
    access?: RouteAccess;
  }
  interface FastifyRequest {
    /** The caller's role; null where the route needs none or the caller has none. */
    role: Role | null;
    /** The name of the named token that was sent; null for any other caller. */
    tokenName: string | null;
    /** The allocation behind a `worker` route. */
    workerSession: Session | null;
    /** The worker behind a `host` route. */
    workerId: WorkerId | null;
  }
}

export const SESSION_COOKIE = "autocode_session";

const RANK: Readonly<Record<Role, number>> = { viewer: 1, operator: 2, admin: 3 };
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Adds the checks to every route registered after this; `allowedHosts` are lower case names. */
export function guard(
  api: FastifyInstance,
  { access, workerSessions, hosts }: Pick<Services, "access" | "workerSessions" | "hosts">,
  allowedHosts: readonly string[],
): void {
  api.decorateRequest("role", null);
  api.decorateRequest("tokenName", null);
  api.decorateRequest("workerSession", null);
  api.decorateRequest("workerId", null);
  api.addHook("onRoute", refuseUndeclared);
  api.addHook("onRequest", async (request) => {
    refuseForeignHost(request);
    const needed = request.is404 ? "public" : request.routeOptions.config.access;
    switch (needed) {
      case undefined:
        throw new Error("a route without access was registered");
      case "public":
        return;
      case "worker":
        request.workerSession = await workerSessions.authenticate(bearerToken(request) ?? "");
        return;
      case "host":
        request.workerId = await hosts.authenticate(bearerToken(request) ?? "");
        return;
      case "page":
        request.role = (await callerOf(request))?.role ?? null;
        return;
      case "viewer":
      case "operator":
      case "admin":
        await requireRole(request, needed);
        return;
    }
  });

  function refuseForeignHost({ headers }: FastifyRequest): void {
    const host = (headers.host ?? "").toLowerCase().replace(/:\d{1,5}$/, "");
    if (LOOPBACK.test(host) || allowedHosts.includes(host)) return;
    throw new Problem(
      "forbidden",
      "This server does not answer for the host that the request names: use its loopback address",
    );
  }

  async function requireRole(request: FastifyRequest, needed: Role): Promise<void> {
    const caller = await callerOf(request);
    if (caller === null) {
      throw new Problem(
        "unauthenticated",
        "Send an API token as Bearer, or log in with the link that `autocode login` prints",
      );
    }
    const { role, name } = caller;
    if (RANK[role] < RANK[needed]) {
      throw new Problem("forbidden", `This needs the role ${needed}, and yours is ${role}`);
    }
    request.role = role;
    request.tokenName = name;
  }

  async function callerOf(request: FastifyRequest): Promise<Caller | null> {
    const bearer = bearerToken(request);
    if (bearer !== null) return access.authenticate(bearer);
    const cookie = request.cookies[SESSION_COOKIE];
    if (cookie === undefined || cookie === "") return null;
    const caller = await access.authenticate(cookie);
    if (caller !== null && !SAFE_METHODS.has(request.method)) refuseCrossSite(request);
    return caller;
  }
}

/** The workers' session that the guard has put on a `worker` route's request. */
export function sessionOf(request: FastifyRequest): Session {
  if (request.workerSession === null) throw new Error("not a worker route");
  return request.workerSession;
}

/** The worker that the guard has put on a `host` route's request. */
export function workerOf(request: FastifyRequest): WorkerId {
  if (request.workerId === null) throw new Error("not a host route");
  return request.workerId;
}

/** Headers on every answer; the web UI's pages have a wider policy of their own. */
export async function setSecurityHeaders(
  _request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  reply.headers({
    "content-security-policy":
      "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
  });
}

function refuseUndeclared({ url, method, config }: RouteOptions): void {
  if (config?.access === undefined) {
    throw new Error(`${String(method)} ${url} does not say who may call it (config.access)`);
  }
}

function bearerToken({ headers }: FastifyRequest): string | null {
  return /^Bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1] ?? null;
}

function refuseCrossSite({ headers }: FastifyRequest): void {
  const site = headers["sec-fetch-site"];
  const isOurs =
    site === undefined ? isSameOrigin(headers.origin, headers.host) : site === "same-origin";
  if (isOurs) return;
  throw new Problem("forbidden", "A change made with a browser's session must come from our pages");
}

function isSameOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined || host === undefined || !URL.canParse(origin)) return false;
  return new URL(origin).host === host.toLowerCase();
}
