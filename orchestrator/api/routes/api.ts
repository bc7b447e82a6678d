/** The server as a route plugin sees it: schemas give its handlers their types. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";

export type Api = Parameters<FastifyPluginAsyncTypebox>[0];
