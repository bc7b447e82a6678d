/**
 * The control API: routes over the ports, one schema for checking, types and description.
 *
 * A request with a field that its schema does not know is refused, never trimmed; nothing in a
 * body is converted. Every answer that is an error is a problem document (RFC 9457).
 */
import fastifyCookie from "@fastify/cookie";
import fastifySwagger from "@fastify/swagger";
import {
  type FastifyPluginAsyncTypebox,
  TypeBoxValidatorCompiler,
} from "@fastify/type-provider-typebox";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyPluginAsync,
  type FastifyRequest,
  LogController,
  type RouteOptions,
} from "fastify";
import { ProblemBody } from "../contract/system.ts";
import { Problem } from "../problem.ts";
import { guard, type RouteAccess, setSecurityHeaders } from "./auth.ts";
import type { ApiOptions } from "./options.ts";
import { describeFaults, PROBLEM_TYPE, replyWithProblem } from "./problem-reply.ts";
import { accountingRoutes } from "./routes/accounting.ts";
import { agentRoutes } from "./routes/agents.ts";
import { approvalRoutes } from "./routes/approvals.ts";
import { budgetRoutes } from "./routes/budgets.ts";
import { egressRoutes } from "./routes/egress.ts";
import { experimentRoutes } from "./routes/experiments.ts";
import { flowRoutes } from "./routes/flows.ts";
import { hostRoutes } from "./routes/hosts.ts";
import { ledgerRoutes } from "./routes/ledger.ts";
import { loginLinkRoutes, loginRoutes } from "./routes/login.ts";
import { modelPlanRoutes } from "./routes/model-plans.ts";
import { modelRenderRoutes } from "./routes/model-renders.ts";
import { modelServerRoutes } from "./routes/model-servers.ts";
import { priceRoutes } from "./routes/prices.ts";
import { projectRoutes } from "./routes/projects.ts";
import { secretRoutes } from "./routes/secrets.ts";
import { doctorRoutes, probeRoutes } from "./routes/system.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { trafficSourceRoutes } from "./routes/traffic-sources.ts";
import { checkpointRoutes } from "./routes/trial-checkpoints.ts";
import { trialRecordRoutes } from "./routes/trial-records.ts";
import { replayRoutes } from "./routes/trial-replays.ts";
import { trialRoutes } from "./routes/trials.ts";
import { webRoutes } from "./routes/web.ts";
import { weightRoutes } from "./routes/weights.ts";
import { workerRoutes } from "./routes/worker.ts";
import { workersRoutes } from "./routes/workers.ts";
import type { Services } from "./services.ts";

const BODY_BYTES = 1_048_576;
const HEARTBEAT_MS = 15_000;
const POLL_MS = 500;
const LOGIN_LINK_MS = 900_000;
/** The whole head and body of a request; artefacts come in pieces well under it. */
const REQUEST_TIMEOUT_MS = 120_000;

/**
 * Builds the API; the caller listens and closes. Closing ends live streams at once, so that it
 * does not wait for their readers.
 */
export function createApi(services: Services, options: ApiOptions): FastifyInstance {
  const { heartbeatMs = HEARTBEAT_MS, pollMs = POLL_MS, loginLinkMs = LOGIN_LINK_MS } = options;
  const closing = new AbortController();
  const api = Fastify({
    loggerInstance: services.log as FastifyBaseLogger,
    // Its lines would hold login links' secrets, which come in addresses.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    schemaErrorFormatter: describeFaults,
    routerOptions: { maxParamLength: 200 },
  });
  api.setValidatorCompiler(TypeBoxValidatorCompiler);
  // The ports answer in the wire's own types; a serializer that drops fields would hide a defect.
  api.setSerializerCompiler(() => (value) => JSON.stringify(value));
  api.setErrorHandler(replyWithProblem);
  api.setNotFoundHandler(() => {
    throw new Problem("not_found", "There is no such route");
  });
  api.removeContentTypeParser("text/plain");
  api.addHook("onRequest", setSecurityHeaders);
  api.addHook("onRequest", refuseNul);
  api.addHook("onRoute", describeRoute);
  api.addHook("preClose", async () => closing.abort());

  void api.register(fastifyCookie);
  void api.register(fastifySwagger, { openapi: document(options.version) });
  const routes: FastifyPluginAsync = async (guarded) => {
    guard(guarded, services, options.allowedHosts ?? []);
    const streams = { heartbeatMs, pollMs, closing: closing.signal };
    const v1: FastifyPluginAsyncTypebox[] = [
      projectRoutes(services),
      agentRoutes(services),
      priceRoutes(services),
      modelServerRoutes(services, streams),
      weightRoutes(services),
      modelPlanRoutes(services),
      modelRenderRoutes(services),
      secretRoutes(services),
      trialRoutes(services),
      trialRecordRoutes(services, streams),
      checkpointRoutes(services),
      replayRoutes(services),
      accountingRoutes(services),
      experimentRoutes(services),
      budgetRoutes(services),
      approvalRoutes(services),
      egressRoutes(services),
      flowRoutes(services, { ...streams, version: options.version }),
      trafficSourceRoutes(services),
      ledgerRoutes(services),
      workersRoutes(services),
      doctorRoutes(services),
      tokenRoutes(services),
      loginLinkRoutes(services, { validMs: loginLinkMs }),
    ];
    for (const plugin of v1) await guarded.register(plugin, { prefix: "/api/v1" });
    await guarded.register(workerRoutes(services), { prefix: "/api/v1/worker" });
    await guarded.register(hostRoutes(services), { prefix: "/api/v1/host" });
    await guarded.register(probeRoutes(services));
    await guarded.register(loginRoutes(services, { isSecure: options.isSecure ?? false }));
    if (options.web !== undefined) await guarded.register(webRoutes(options.web));
  };
  void api.register(routes);
  return api;
}

/** PostgreSQL has no text with a NUL in it, so that no name or cursor that we know can have one. */
async function refuseNul({ url }: FastifyRequest): Promise<void> {
  if (!/%00/.test(url)) return;
  throw new Problem("invalid_request", "The address must not hold a NUL character (%00)");
}

/** What a route's declared access and its problems look like in the description. */
function describeRoute(route: RouteOptions): void {
  const access: RouteAccess = route.config?.access ?? "public";
  const { response = {}, ...schema } = route.schema ?? {};
  const problem = {
    description: "A problem",
    content: { [PROBLEM_TYPE]: { schema: ProblemBody } },
  };
  const isUser = access !== "public" && access !== "worker" && access !== "host";
  route.schema = {
    ...schema,
    description: {
      public: "anyone",
      page: "anyone",
      worker: "an allocation, with its token",
      host: "a host program, with its worker token",
      viewer: "viewer, operator, admin",
      operator: "operator, admin",
      admin: "admin",
    }[access],
    security: isUser
      ? [{ apiToken: [] }, { session: [] }]
      : access === "worker" || access === "host"
        ? [{ [access === "host" ? "workerToken" : "allocationToken"]: [] }]
        : [],
    response: { ...(response as object), default: problem },
  };
}

function document(version: string) {
  return {
    openapi: "3.1.0",
    info: {
      title: "autocode",
      description: "Runs coding-agent trials under a budget that cannot be overspent",
      version,
    },
    components: {
      securitySchemes: {
        apiToken: { type: "http" as const, scheme: "bearer" },
        allocationToken: { type: "http" as const, scheme: "bearer" },
        workerToken: { type: "http" as const, scheme: "bearer" },
        session: { type: "apiKey" as const, in: "cookie" as const, name: "autocode_session" },
      },
    },
  };
}
