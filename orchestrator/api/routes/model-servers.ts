/** Pairs brought up on own GPUs, and down; what their engines say. */
import { Readable } from "node:stream";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { Side } from "../../contract/agents.ts";
import { DownRequest, ServedPair, ServedPairList, UpRequest } from "../../contract/models.ts";
import type { Services } from "../services.ts";

const tags = ["models"];

/** @param closing ends what is being followed. */
export function modelServerRoutes(
  { models }: Pick<Services, "models">,
  { closing }: { closing: AbortSignal },
): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/models/served",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "The pairs that are up, or being brought up or down, and how their engines are",
          response: { 200: ServedPairList },
        },
      },
      async () => ({ served: await models.list() }),
    );

    api.post(
      "/models/up",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Plan a pair and serve it on this machine's GPUs, priced by its plan",
          body: UpRequest,
          response: { 200: ServedPair },
        },
      },
      ({ body }) => models.up(body),
    );

    api.post(
      "/models/down",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "End a pair's engines, once they have answered what they are asked",
          body: DownRequest,
          response: { 200: ServedPair },
        },
      },
      ({ body }) => models.down(body.pair),
    );

    api.get(
      "/models/:pair/logs",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "What an engine printed since its last start, as text; followed, as it comes",
          params: Type.Object({ pair: Type.String({ minLength: 1, maxLength: 200 }) }),
          querystring: Type.Object(
            { side: Type.Optional(Side), follow: Type.Optional(Type.Enum(["true", "false"])) },
            { additionalProperties: false },
          ),
        },
      },
      async (request, reply) => {
        const { side = "normal", follow } = request.query;
        const gone = new AbortController();
        reply.raw.once("close", () => gone.abort());
        const signal = AbortSignal.any([gone.signal, closing]);
        const engine = { pair: request.params.pair, side };
        const bytes = await models.logs(engine, { isFollowed: follow === "true", signal });
        return reply.type("text/plain; charset=utf-8").send(Readable.from(bytes));
      },
    );
  };
}
