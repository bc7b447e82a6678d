/** A trial's checkpoints, and trials that begin with one of them. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { CheckpointTree } from "../../contract/checkpoints.ts";
import { NewFork, Trial } from "../../contract/trials.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import { IdParams, idOf } from "./paging.ts";

const tags = ["trials"];

export function checkpointRoutes(
  services: Pick<Services, "checkpoints" | "trials" | "idempotency">,
): FastifyPluginAsyncTypebox {
  const { checkpoints, trials } = services;
  return async (api) => {
    api.get(
      "/trials/:id/checkpoints",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "The tree of its checkpoints, and of the trials that grew from one another",
          params: IdParams,
          response: { 200: CheckpointTree },
        },
      },
      (request) => checkpoints.tree(idOf("trial", request.params.id)),
    );

    api.post(
      "/trials/:id/fork",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Queue a trial that begins with a checkpoint of this one",
          params: IdParams,
          headers: IdempotencyHeaders,
          body: NewFork,
          response: { 201: Trial },
        },
      },
      async (request, reply) => {
        const id = idOf("trial", request.params.id);
        await runOnce(services, { request, reply, status: 201, isRepeatable: false }, () =>
          trials.fork(id, request.body),
        );
        return reply;
      },
    );
  };
}
