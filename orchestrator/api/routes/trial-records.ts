/** A trial's records: its events, terminal, artefacts and diff, as documents or as they happen. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import { ArtefactList } from "../../contract/artefacts.ts";
import { EventPage } from "../../contract/events.ts";
import { WorkerOutput } from "../../contract/workers.ts";
import { Problem } from "../../problem.ts";
import type { Services } from "../services.ts";
import { resumePosition, wantsEventStream } from "../sse.ts";
import type { Api } from "./api.ts";
import { IdParams, idOf } from "./paging.ts";
import { type StreamSettings, streamEvents, streamTerminal } from "./trial-streams.ts";

const tags = ["trials"];
const EVENTS_LIMIT = 500;
const PATCH = "changes.patch";
const EventsQuery = Type.Object(
  {
    after_seq: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
  },
  { additionalProperties: false },
);
const ArtefactParams = Type.Object({
  id: Type.String({ maxLength: 100 }),
  name: Type.String({ maxLength: 100 }),
});

const WorkerLogQuery = Type.Object(
  {
    allocation_id: Type.Optional(Type.String({ maxLength: 100 })),
    output: Type.Optional(WorkerOutput),
    follow: Type.Optional(Type.Enum(["true", "false"])),
  },
  { additionalProperties: false },
);

export function trialRecordRoutes(
  { trials, workerLogs }: Pick<Services, "trials" | "workerLogs">,
  settings: StreamSettings,
): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/trials/:id/events",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "Its events after a seq; as text/event-stream, as they happen",
          params: IdParams,
          querystring: EventsQuery,
          response: { 200: EventPage },
        },
      },
      async (request, reply) => {
        const id = idOf("trial", request.params.id);
        const { after_seq: asked = 0, limit = EVENTS_LIMIT } = request.query;
        if (wantsEventStream(request)) {
          const afterSeq = resumePosition(request, asked);
          await streamEvents(trials, { id, afterSeq }, { request, reply }, settings);
          return reply;
        }
        const events = await trials.events(id, asked, limit);
        return { events, next_after_seq: events.at(-1)?.seq ?? asked };
      },
    );

    api.get(
      "/trials/:id/terminal",
      {
        config: { access: "viewer" },
        schema: { tags, summary: "Its terminal, an asciicast line an event", params: IdParams },
      },
      async (request, reply) => {
        const id = idOf("trial", request.params.id);
        const from = resumePosition(request, 0);
        await streamTerminal(trials, { id, from }, { request, reply }, settings);
        return reply;
      },
    );

    api.get(
      "/events",
      {
        config: { access: "viewer" },
        schema: {
          tags: ["events"],
          summary: "Events of all trials as they happen, from now on or after a seq",
          querystring: EventsQuery,
        },
      },
      async (request, reply) => {
        const asked = request.query.after_seq ?? (await trials.latestSeq());
        const afterSeq = resumePosition(request, asked);
        await streamEvents(trials, { id: null, afterSeq }, { request, reply }, settings);
        return reply;
      },
    );

    files(api, trials);
    workerLog(api, workerLogs, settings);
  };
}

function workerLog(api: Api, logs: Services["workerLogs"], { closing }: StreamSettings): void {
  api.get(
    "/trials/:id/worker-log",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "What its newest worker printed, as text without secrets; followed, as it comes",
        params: IdParams,
        querystring: WorkerLogQuery,
      },
    },
    async (request, reply) => {
      const { allocation_id: allocationId = null, output = null, follow } = request.query;
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      const signal = AbortSignal.any([gone.signal, closing]);
      const asked = { allocationId, output, isFollowed: follow === "true", signal };
      const text = await logs.read(idOf("trial", request.params.id), asked);
      return reply
        .type("text/plain; charset=utf-8")
        .send(Readable.from(text, { objectMode: false }));
    },
  );
}

function files(api: Api, trials: Services["trials"]): void {
  api.get(
    "/trials/:id/artefacts",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "What it left behind",
        params: IdParams,
        response: { 200: ArtefactList },
      },
    },
    async (request) => ({ artefacts: await trials.artefacts(idOf("trial", request.params.id)) }),
  );

  api.get(
    "/trials/:id/artefacts/:name",
    {
      config: { access: "viewer" },
      schema: { tags, summary: "One artefact's bytes", params: ArtefactParams },
    },
    async (request, reply) => {
      const { name } = request.params;
      if (!/^[a-z0-9][a-z0-9._-]{0,99}$/.test(name)) {
        throw new Problem("not_found", "The trial has no artefact of this name");
      }
      const path = await trials.artefactPath(idOf("trial", request.params.id), name);
      reply.header("content-disposition", `attachment; filename="${name}"`);
      return sendFile(reply, path, "application/octet-stream");
    },
  );

  api.get(
    "/trials/:id/diff",
    {
      config: { access: "viewer" },
      schema: { tags, summary: "What the agent changed, as a patch", params: IdParams },
    },
    async (request, reply) => {
      const path = await trials.artefactPath(idOf("trial", request.params.id), PATCH);
      return sendFile(reply, path, "text/x-diff; charset=utf-8");
    },
  );
}

/** Streams a file's bytes, as many as it has now: it may grow while it is read. */
export async function sendFile(
  reply: FastifyReply,
  path: string,
  type: string,
): Promise<FastifyReply> {
  const { size } = await stat(path);
  reply.type(type).header("content-length", size);
  return reply.send(size === 0 ? "" : createReadStream(path, { end: size - 1 }));
}
