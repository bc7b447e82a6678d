/** A planned pair as files and commands that a person runs by hand. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { RenderedPair, RenderRequest } from "../../contract/model-render.ts";
import type { Services } from "../services.ts";

export function modelRenderRoutes({ models }: Pick<Services, "models">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      "/models/render",
      {
        config: { access: "viewer" },
        schema: {
          tags: ["models"],
          summary: "A planned pair as vLLM, Ray Serve, Nomad or Compose files to run by hand",
          body: RenderRequest,
          response: { 200: RenderedPair },
        },
      },
      ({ body }) => models.render(body),
    );
  };
}
