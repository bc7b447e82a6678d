/** Workers, for people: the hosts of whichever scheduler is in force. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import {
  JoinToken,
  JoinTokenList,
  NewJoinToken,
  WorkerDetail,
  WorkerDrain,
  WorkerList,
} from "../../contract/workers.ts";
import type { Services } from "../services.ts";

const tags = ["workers"];
/** A Nomad node's id, a worker's id, or a name. */
const params = Type.Object({ worker: Type.String({ minLength: 1, maxLength: 200 }) });

const Empty = Type.Object({}, { additionalProperties: false });

export function workersRoutes({ workers }: Pick<Services, "workers">): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/workers",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "All workers, what they have, and their availability",
          response: { 200: WorkerList },
        },
      },
      () => workers.list(),
    );

    api.get(
      "/workers/:worker",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "A worker with its outages and allocations",
          params,
          response: { 200: WorkerDetail },
        },
      },
      (request) => workers.get(request.params.worker),
    );

    api.post(
      "/workers/:worker/drain",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Let a worker end what it has and give it nothing new, or undo that",
          params,
          body: WorkerDrain,
          response: { 200: WorkerDetail },
        },
      },
      (request) => workers.drain(request.params.worker, request.body.is_draining),
    );

    api.post(
      "/workers/:worker/remove",
      {
        config: { access: "admin" },
        schema: {
          tags,
          summary: "Throw a worker out: its token is worth nothing, its work is placed elsewhere",
          params,
          response: { 200: Empty },
        },
      },
      async (request) => {
        await workers.remove(request.params.worker);
        return {};
      },
    );
    joinTokens(api, workers);
  };
}

function joinTokens(
  api: Parameters<FastifyPluginAsyncTypebox>[0],
  workers: Services["workers"],
): void {
  api.post(
    "/workers/tokens",
    {
      config: { access: "admin" },
      schema: {
        tags,
        summary: "Make a token that lets hosts join a pool; it is told this once",
        body: NewJoinToken,
        response: { 200: JoinToken },
      },
    },
    (request) => workers.issueJoinToken(request.body),
  );

  api.get(
    "/workers/tokens",
    {
      config: { access: "admin" },
      schema: {
        tags,
        summary: "The join tokens that hosts can still join with",
        response: { 200: JoinTokenList },
      },
    },
    () => workers.listJoinTokens(),
  );

  api.post(
    "/workers/tokens/:token/revoke",
    {
      config: { access: "admin" },
      schema: {
        tags,
        summary: "Revoke a join token, by its id; hosts that joined with it stay",
        params: Type.Object({ token: Type.String({ minLength: 1, maxLength: 64 }) }),
        response: { 200: Empty },
      },
    },
    async (request) => {
      await workers.revokeJoinToken(request.params.token);
      return {};
    },
  );
}
