/** Trials: made, listed, stopped, resumed, and what is known of each. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { CallList } from "../../contract/calls.ts";
import { TrialEngineList } from "../../contract/engines.ts";
import { NewTrial, Trial, TrialPage, TrialState } from "../../contract/trials.ts";
import type { TrialFilter } from "../../trials/trials.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";
import { Cursor, IdParams, idOf, PAGE_LIMIT, PageLimit, queryId } from "./paging.ts";

const tags = ["trials"];
const TrialQuery = Type.Object(
  {
    project: Type.Optional(Type.String({ maxLength: 100 })),
    experiment_id: Type.Optional(Cursor),
    state: Type.Optional(TrialState),
    limit: Type.Optional(PageLimit),
    before: Type.Optional(Cursor),
  },
  { additionalProperties: false },
);

export function trialRoutes(
  services: Pick<Services, "trials" | "idempotency">,
): FastifyPluginAsyncTypebox {
  const { trials } = services;
  return async (api) => {
    api.post(
      "/trials",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Queue a trial",
          headers: IdempotencyHeaders,
          body: NewTrial,
          response: { 201: Trial },
        },
      },
      async (request, reply) => {
        await runOnce(services, { request, reply, status: 201, isRepeatable: false }, () =>
          trials.create(request.body),
        );
        return reply;
      },
    );

    api.get(
      "/trials",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Trials, newest first",
          querystring: TrialQuery,
          response: { 200: TrialPage },
        },
      },
      async (request) => {
        const { project, experiment_id, state, before, limit = PAGE_LIMIT } = request.query;
        const filter: TrialFilter = { limit: limit + 1 };
        if (project !== undefined) filter.project = project;
        if (state !== undefined) filter.state = state;
        if (before !== undefined) filter.before = queryId("trial", "before", before);
        if (experiment_id !== undefined) {
          filter.experimentId = queryId("experiment", "experiment_id", experiment_id);
        }
        const found = await trials.list(filter);
        const page = found.slice(0, limit);
        return {
          trials: page,
          next_cursor: found.length > limit ? (page.at(-1)?.id ?? null) : null,
        };
      },
    );

    actions(api, services);
  };
}

function actions(api: Api, { trials }: Pick<Services, "trials">): void {
  api.get(
    "/trials/:id",
    {
      config: { access: "viewer" },
      schema: { tags, summary: "One trial", params: IdParams, response: { 200: Trial } },
    },
    (request) => trials.get(idOf("trial", request.params.id)),
  );

  api.post(
    "/trials/:id/stop",
    {
      config: { access: "operator" },
      schema: {
        tags,
        summary: "Ask for a trial's end; one that has ended stays as it is",
        params: IdParams,
        response: { 200: Trial },
      },
    },
    (request) => trials.cancel(idOf("trial", request.params.id)),
  );

  api.post(
    "/trials/:id/resume",
    {
      config: { access: "operator" },
      schema: {
        tags,
        summary: "Queue a paused trial again",
        params: IdParams,
        response: { 200: Trial },
      },
    },
    (request) => trials.resume(idOf("trial", request.params.id)),
  );

  api.get(
    "/trials/:id/calls",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "Its model calls, oldest first",
        params: IdParams,
        response: { 200: CallList },
      },
    },
    async (request) => ({ calls: await trials.calls(idOf("trial", request.params.id)) }),
  );

  api.get(
    "/trials/:id/engines",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "What it got from each model server, and how loaded that was meanwhile",
        params: IdParams,
        response: { 200: TrialEngineList },
      },
    },
    async (request) => ({ engines: await trials.engines(idOf("trial", request.params.id)) }),
  );

  api.get(
    "/trials/:id/trajectory",
    {
      config: { access: "viewer" },
      schema: { tags, summary: "Its trajectory, in ATIF", params: IdParams },
    },
    (request) => trials.trajectory(idOf("trial", request.params.id)),
  );
}
