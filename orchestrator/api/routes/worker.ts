/** The worker-agent's side door: `contract/worker.ts`. Each request but `enrol` is fenced. */
import type { Readable } from "node:stream";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { ORCHESTRATORS_HEADER } from "../../contract/orchestrators.ts";
import {
  Directive,
  Enrolment,
  EnrolRequest,
  EventBatch,
  EventBatchAck,
  Heartbeat,
  Report,
} from "../../contract/worker.ts";
import { Problem } from "../../problem.ts";
import { sessionOf } from "../auth.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";
import { sendFile } from "./trial-records.ts";
import { addCheckpoints } from "./worker-checkpoints.ts";

const tags = ["worker"];
const BINARY = "application/octet-stream";
/** 500 events, each with the text of a tool's result. */
const EVENTS_BODY_BYTES = 16_777_216;
const REPORT_BODY_BYTES = 4_194_304;

export function workerRoutes({
  workerSessions,
  orchestrators,
  checkpoints,
}: Pick<Services, "workerSessions" | "orchestrators" | "checkpoints">): FastifyPluginAsyncTypebox {
  return async (api) => {
    // So that a worker whose orchestrator is killed knows where to turn.
    api.addHook("onRequest", async (_request, reply) => {
      reply.header(ORCHESTRATORS_HEADER, orchestrators.urls().join(","));
    });
    // The body is streamed to disk, with the session's own limit on its size.
    api.addContentTypeParser(BINARY, (_request, payload, done) => done(null, payload));

    api.post(
      "/enrol",
      {
        config: { access: "public" },
        schema: {
          tags,
          summary: "Exchange a one-time enrolment token for the specification",
          body: EnrolRequest,
          response: { 200: Enrolment },
        },
      },
      (request) => workerSessions.enrol(request.body.enrolment_token),
    );

    for (const [name, pathOf] of [
      ["source", workerSessions.sourcePath],
      ["tests", workerSessions.testsPath],
      ["patch", workerSessions.patchPath],
    ] as const) {
      api.get(
        `/${name}`,
        { config: { access: "worker" }, schema: { tags, summary: `The trial's ${name}` } },
        async (request, reply) => {
          const path = await pathOf(sessionOf(request));
          if (path === null) throw new Problem("not_found", `This trial has no ${name}`);
          return sendFile(reply, path, BINARY);
        },
      );
    }

    api.post(
      "/events",
      {
        config: { access: "worker" },
        bodyLimit: EVENTS_BODY_BYTES,
        schema: {
          tags,
          summary: "Append events, idempotent by cursor",
          body: EventBatch,
          response: { 200: EventBatchAck },
        },
      },
      async (request) => ({
        acked: await workerSessions.appendEvents(sessionOf(request), request.body.events),
      }),
    );

    api.post(
      "/heartbeat",
      {
        config: { access: "worker" },
        schema: {
          tags,
          summary: "Say that the worker lives; held open until there is a directive",
          body: Heartbeat,
          response: { 200: Directive },
        },
      },
      (request) => workerSessions.heartbeat(sessionOf(request), request.body.wait_ms),
    );

    results(api, workerSessions);
    addCheckpoints(api, checkpoints);
  };
}

function results(api: Api, workerSessions: Services["workerSessions"]): void {
  api.put(
    "/artefacts/:name",
    {
      config: { access: "worker" },
      schema: {
        tags,
        summary: "Append bytes to an artefact",
        params: Type.Object({ name: Type.String({ pattern: "^[a-z0-9][a-z0-9._-]{0,99}$" }) }),
        querystring: Type.Object(
          { offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) },
          { additionalProperties: false },
        ),
      },
    },
    async (request) => {
      if (request.headers["content-type"] !== BINARY) {
        throw new Problem("invalid_request", `An artefact's content-type must be ${BINARY}`);
      }
      const byteCount = await workerSessions.appendArtefact(
        sessionOf(request),
        request.params.name,
        request.query.offset,
        request.body as Readable,
      );
      return { byte_count: byteCount };
    },
  );

  api.post(
    "/report",
    {
      config: { access: "worker" },
      bodyLimit: REPORT_BODY_BYTES,
      schema: { tags, summary: "The last thing a worker says", body: Report },
    },
    async (request) => {
      await workerSessions.report(sessionOf(request), request.body);
      return {};
    },
  );
}
