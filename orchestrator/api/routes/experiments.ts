/** Experiments: a matrix of agents, pairs, tasks and attempts that makes trials. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { Experiment, ExperimentList, NewExperiment } from "../../contract/trials.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import { IdParams, idOf } from "./paging.ts";

const tags = ["experiments"];

export function experimentRoutes(
  services: Pick<Services, "trials" | "idempotency">,
): FastifyPluginAsyncTypebox {
  const { trials } = services;
  return async (api) => {
    api.post(
      "/experiments",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Expand an experiment into trials and queue them",
          headers: IdempotencyHeaders,
          body: NewExperiment,
          response: { 201: Experiment },
        },
      },
      async (request, reply) => {
        await runOnce(services, { request, reply, status: 201, isRepeatable: false }, () =>
          trials.createExperiment(request.body),
        );
        return reply;
      },
    );

    api.get(
      "/experiments",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Experiments, newest first",
          querystring: Type.Object(
            { project: Type.Optional(Type.String({ maxLength: 100 })) },
            { additionalProperties: false },
          ),
          response: { 200: ExperimentList },
        },
      },
      async (request) => ({ experiments: await trials.experiments(request.query.project) }),
    );

    api.get(
      "/experiments/:id",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "One experiment with its trials",
          params: IdParams,
          response: { 200: Experiment },
        },
      },
      (request) => trials.experiment(idOf("experiment", request.params.id)),
    );
  };
}
