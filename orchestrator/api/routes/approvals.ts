/** Approvals: what waits for a person, and the answer. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import {
  Approval,
  ApprovalList,
  ApprovalState,
  Approve,
  Reject,
} from "../../contract/approvals.ts";
import type { ApprovalFilter } from "../../trials/approvals.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";
import { Cursor, IdParams, idOf, queryId } from "./paging.ts";

const tags = ["approvals"];
const ApprovalQuery = Type.Object(
  {
    state: Type.Optional(ApprovalState),
    project: Type.Optional(Type.String({ maxLength: 100 })),
    trial_id: Type.Optional(Cursor),
  },
  { additionalProperties: false },
);

type Needed = Pick<Services, "approvals" | "idempotency">;

export function approvalRoutes(services: Needed): FastifyPluginAsyncTypebox {
  const { approvals } = services;
  return async (api) => {
    api.get(
      "/approvals",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What waits for a person, and what was answered, oldest first",
          querystring: ApprovalQuery,
          response: { 200: ApprovalList },
        },
      },
      async (request) => {
        const { state, project, trial_id } = request.query;
        const filter: ApprovalFilter = {};
        if (state !== undefined) filter.state = state;
        if (project !== undefined) filter.project = project;
        if (trial_id !== undefined) filter.trialId = queryId("trial", "trial_id", trial_id);
        return { approvals: await approvals.list(filter) };
      },
    );

    api.get(
      "/approvals/:id",
      {
        config: { access: "viewer" },
        schema: { tags, summary: "One approval", params: IdParams, response: { 200: Approval } },
      },
      (request) => approvals.get(idOf("approval", request.params.id)),
    );

    answers(api, services);
  };
}

function answers(api: Api, services: Needed): void {
  const { approvals } = services;
  api.post(
    "/approvals/:id/approve",
    {
      config: { access: "admin" },
      schema: {
        tags,
        summary: "Top up what was short and queue the trial again, or add the rules; once",
        params: IdParams,
        headers: IdempotencyHeaders,
        body: Approve,
        response: { 200: Approval },
      },
    },
    async (request, reply) => {
      const id = idOf("approval", request.params.id);
      await runOnce(services, { request, reply, status: 200, isRepeatable: true }, () =>
        approvals.approve(id, request.body),
      );
      return reply;
    },
  );

  api.post(
    "/approvals/:id/reject",
    {
      config: { access: "operator" },
      schema: {
        tags,
        summary: "Cancel the trial, or add no rules, with the reason",
        params: IdParams,
        headers: IdempotencyHeaders,
        body: Reject,
        response: { 200: Approval },
      },
    },
    async (request, reply) => {
      const id = idOf("approval", request.params.id);
      await runOnce(services, { request, reply, status: 200, isRepeatable: true }, () =>
        approvals.reject(id, request.body),
      );
      return reply;
    },
  );
}
