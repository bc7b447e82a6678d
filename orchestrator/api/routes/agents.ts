/** The catalogue of agents, their installation, and the model pairs. */
import { PassThrough } from "node:stream";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { AgentList, type InstallProgress } from "../../contract/agents.ts";
import { PairList } from "../../contract/system.ts";
import { Problem } from "../../problem.ts";
import type { Services } from "../services.ts";

export function agentRoutes({
  agents,
  pairs,
}: Pick<Services, "agents" | "pairs">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/agents",
      {
        config: { access: "viewer" },
        schema: { tags: ["agents"], summary: "All agents", response: { 200: AgentList } },
      },
      async () => ({ agents: await agents.list() }),
    );

    api.post(
      "/agents/:name/install",
      {
        config: { access: "operator" },
        schema: {
          tags: ["agents"],
          summary: "Install an agent's pinned version; answers its progress, one JSON a line",
          params: Type.Object({ name: Type.String({ maxLength: 100 }) }),
        },
      },
      async (request, reply) => {
        const { name } = request.params;
        const known = await agents.list();
        if (!known.some(({ facts }) => facts.name === name)) {
          const names = known.map(({ facts }) => facts.name).join(", ");
          throw new Problem("not_found", `No agent has this name; there are ${names}`);
        }
        const lines = new PassThrough();
        const say = (progress: InstallProgress) => lines.write(`${JSON.stringify(progress)}\n`);
        // The status is sent by then: a fault is the last line, and the log has its cause.
        agents.install(name, say).then(
          () => lines.end(),
          (error: unknown) => {
            request.log.warn({ err: error, agent: name }, "agent not installed");
            const detail = error instanceof Problem ? error.message : "The server's log says why";
            say({ agent: name, step: "failed", detail });
            lines.end();
          },
        );
        return reply.type("application/x-ndjson").send(lines);
      },
    );

    api.get(
      "/pairs",
      {
        config: { access: "viewer" },
        schema: {
          tags: ["pairs"],
          summary: "The model pairs of the installation, and of a project where one is named",
          querystring: Type.Object(
            { project: Type.Optional(Type.String({ maxLength: 100 })) },
            { additionalProperties: false },
          ),
          response: { 200: PairList },
        },
      },
      async (request) => ({ pairs: await pairs(request.query.project) }),
    );
  };
}
