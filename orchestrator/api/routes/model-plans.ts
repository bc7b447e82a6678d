/** What models would need of GPUs, and which GPUs there are to plan for. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { HardwareList, PairPlan, PlanRequest } from "../../contract/models.ts";
import type { Services } from "../services.ts";

const tags = ["models"];

export function modelPlanRoutes({ models }: Pick<Services, "models">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      "/models/plan",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Whether a pair fits GPUs, how fast it then is, and what it costs",
          body: PlanRequest,
          response: { 200: PairPlan },
        },
      },
      async ({ body }) => models.plan(body),
    );

    api.get(
      "/hardware",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "The GPUs that a plan can be made for, and those that are here",
          response: { 200: HardwareList },
        },
      },
      async () => models.hardware(),
    );
  };
}
