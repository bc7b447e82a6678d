/** Model weights on the server's machine: what is there, and pulls with their progress. */
import { PassThrough } from "node:stream";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import {
  PullRequest,
  RemovedWeights,
  RemoveRequest,
  WeightList,
  type WeightProgress,
} from "../../contract/weights.ts";
import { Problem } from "../../problem.ts";
import type { Services } from "../services.ts";

export function weightRoutes({ weights }: Pick<Services, "weights">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/models/weights",
      {
        config: { access: "viewer" },
        schema: {
          tags: ["models"],
          summary: "The weights in the store, whole or not, and the room that is left",
          response: { 200: WeightList },
        },
      },
      () => weights.list(),
    );

    api.post(
      "/models/remove",
      {
        config: { access: "operator" },
        schema: {
          tags: ["models"],
          summary: "Remove a model's weights, or a pair's, from the store; how many bytes it freed",
          body: RemoveRequest,
          response: { 200: RemovedWeights },
        },
      },
      ({ body }) => weights.remove(body),
    );

    api.post(
      "/models/pull",
      {
        config: { access: "operator" },
        schema: {
          tags: ["models"],
          summary: "Pull a model's weights, or a pair's; answers its progress, one JSON a line",
          body: PullRequest,
        },
      },
      async (request, reply) => {
        if (request.body.from !== undefined && request.role !== "admin") {
          throw new Problem("forbidden", "from: only an admin names folders of the server");
        }
        const pull = await weights.prepare(request.body, request.role ?? "operator");
        const lines = new PassThrough();
        const left = new AbortController();
        // Whoever leaves stops it: what came is kept, and the next pull goes on.
        reply.raw.once("close", () => left.abort(new Problem("unavailable", "The caller left")));
        const say = (progress: WeightProgress) => lines.write(`${JSON.stringify(progress)}\n`);
        pull.run(say, left.signal).then(
          () => lines.end(),
          (error: unknown) => {
            if (!left.signal.aborted) {
              request.log.warn({ err: error, model: request.body.model }, "weights not pulled");
            }
            lines.end();
          },
        );
        return reply.type("application/x-ndjson").send(lines);
      },
    );
  };
}
