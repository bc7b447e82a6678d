/** What a project's egress policy is, and what it says of a request that nobody sends. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { Decision, EffectivePolicy, EgressQuestion } from "../../contract/egress.ts";
import type { Services } from "../services.ts";

const tags = ["egress"];
const NameParams = Type.Object({ name: Type.String({ maxLength: 100 }) });
const AgentQuery = Type.Object(
  { agent: Type.Optional(Type.String({ maxLength: 63 })) },
  { additionalProperties: false },
);

export function egressRoutes({ egress }: Pick<Services, "egress">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/projects/:name/egress",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "The egress rules in force, presets included, in the order they are read",
          params: NameParams,
          querystring: AgentQuery,
          response: { 200: EffectivePolicy },
        },
      },
      (request) => egress.policy(request.params.name, request.query.agent ?? null),
    );

    api.post(
      "/projects/:name/egress/decide",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What the policy says of a request; nothing is sent, nor resolved",
          params: NameParams,
          body: EgressQuestion,
          response: { 200: Decision },
        },
      },
      (request) => egress.decide(request.params.name, request.body),
    );
  };
}
