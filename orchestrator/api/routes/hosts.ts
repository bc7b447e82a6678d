/** The host program's side door: `contract/hosts.ts`. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import {
  HostOrders,
  HostPlan,
  HostPlanRequest,
  HostSync,
  Joined,
  JoinRequest,
} from "../../contract/hosts.ts";
import { ORCHESTRATORS_HEADER } from "../../contract/orchestrators.ts";
import { Problem } from "../../problem.ts";
import { workerOf } from "../auth.ts";
import type { Services } from "../services.ts";

const tags = ["hosts"];
const BINARY = "application/octet-stream";
/** 5,000 allocations and what the host is. */
const SYNC_BODY_BYTES = 2_097_152;
const LOG_BODY_BYTES = 262_144;

export function hostRoutes({
  hosts,
  orchestrators,
}: Pick<Services, "hosts" | "orchestrators">): FastifyPluginAsyncTypebox {
  return async (api) => {
    // Where to go on when this one does not answer any more.
    api.addHook("onSend", async (_request, reply) => {
      reply.header(ORCHESTRATORS_HEADER, orchestrators.urls().join(","));
    });
    api.addContentTypeParser(
      BINARY,
      { parseAs: "buffer", bodyLimit: LOG_BODY_BYTES },
      (_request, body, done) => done(null, body),
    );

    api.post(
      "/plan",
      {
        config: { access: "public" },
        schema: {
          tags,
          summary: "What a host installs before it joins",
          body: HostPlanRequest,
          response: { 200: HostPlan },
        },
      },
      (request) => hosts.plan(request.body.token),
    );

    api.post(
      "/join",
      {
        config: { access: "public" },
        schema: {
          tags,
          summary: "Exchange a join token for a worker token",
          body: JoinRequest,
          response: { 200: Joined },
        },
      },
      (request) => hosts.join(request.body),
    );

    api.post(
      "/sync",
      {
        config: { access: "host" },
        bodyLimit: SYNC_BODY_BYTES,
        schema: {
          tags,
          summary: "Say what the host has; held open until there is something to do",
          body: HostSync,
          response: { 200: HostOrders },
        },
      },
      (request, reply) => {
        const gone = new AbortController();
        reply.raw.once("close", () => gone.abort());
        return hosts.sync(workerOf(request), request.body, gone.signal);
      },
    );

    api.post(
      "/logs/:request",
      {
        config: { access: "host" },
        schema: {
          tags,
          summary: "Bytes of a worker's log that the orders asked for",
          params: Type.Object({ request: Type.String({ pattern: "^[0-9a-f]{24}$" }) }),
          querystring: Type.Object(
            { is_last: Type.Union([Type.Literal("true"), Type.Literal("false")]) },
            { additionalProperties: false },
          ),
        },
      },
      async (request) => {
        const { body } = request;
        if (!Buffer.isBuffer(body)) {
          throw new Problem("invalid_request", `A log's content-type must be ${BINARY}`);
        }
        const isLast = request.query.is_last === "true";
        await hosts.receiveLog(workerOf(request), request.params.request, body, isLast);
        return {};
      },
    );
  };
}
