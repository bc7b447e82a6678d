/** What the installation says of itself: alive, ready, metrics, doctor, and its own description. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { OrchestratorList } from "../../contract/orchestrators.ts";
import { DoctorReport, Readiness } from "../../contract/system.ts";
import { docsPage } from "../pages.ts";
import type { Services } from "../services.ts";

const tags = ["system"];

/** Sealed secrets, and an egress proxy that waits for them, stop nothing that runs through us. */
const TOLD: ReadonlySet<string> = new Set(["secrets", "egress"]);

/** The routes outside `/api/v1`, at the addresses that probes and scrapers expect. */
export function probeRoutes({
  readiness,
  metrics,
}: Pick<Services, "readiness" | "metrics">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/healthz",
      {
        config: { access: "public" },
        schema: {
          tags,
          summary: "Whether the process answers",
          response: { 200: Type.Object({ status: Type.Literal("ok") }) },
        },
      },
      async () => ({ status: "ok" as const }),
    );

    api.get(
      "/readyz",
      {
        config: { access: "public" },
        schema: {
          tags,
          summary: "Whether each dependency answers",
          response: { 200: Readiness, 503: Readiness },
        },
      },
      async (_request, reply) => {
        const dependencies = await readiness();
        const isReady = Object.entries(dependencies).every(
          ([name, fault]) => fault === null || TOLD.has(name),
        );
        return reply.code(isReady ? 200 : 503).send({ is_ready: isReady, dependencies });
      },
    );

    api.get(
      "/metrics",
      { config: { access: "viewer" }, schema: { tags, summary: "Prometheus metrics" } },
      async (_request, reply) =>
        reply.type("text/plain; version=0.0.4; charset=utf-8").send(await metrics()),
    );

    api.get(
      "/openapi.json",
      { config: { access: "public" }, schema: { tags, summary: "This description" } },
      async () => api.swagger(),
    );

    api.get(
      "/docs",
      { config: { access: "public" }, schema: { tags, summary: "This description, for people" } },
      async (_request, reply) =>
        reply.type("text/html; charset=utf-8").send(docsPage(api.swagger())),
    );
  };
}

export function doctorRoutes({
  doctor,
  orchestrators,
  backups,
}: Pick<Services, "doctor" | "orchestrators" | "backups">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/backup",
      {
        config: { access: "admin" },
        schema: {
          tags,
          summary: "The whole installation as one stream, which `autocode backup` keeps in a file",
        },
      },
      async (_request, reply) => reply.type("application/zstd").send(await backups.open()),
    );

    api.get(
      "/orchestrators",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "The orchestrators of this database, and what each of them leads",
          response: { 200: OrchestratorList },
        },
      },
      async () => ({ orchestrators: await orchestrators.list() }),
    );

    api.get(
      "/doctor",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Which adapter is in force, what is missing, and what to do",
          response: { 200: DoctorReport },
        },
      },
      async () => ({ findings: await doctor() }),
    );
  };
}
