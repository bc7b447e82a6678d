/** A trial run again from its record, and that record to take away. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Cassette, NewCassetteReplay } from "../../contract/cassettes.ts";
import { Trial } from "../../contract/trials.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";
import { IdParams, idOf } from "./paging.ts";

const tags = ["trials"];
/** It is read whole, in the process that serves everything else. */
const CASSETTE_BYTES_MAX = 64 * 2 ** 20;

export function replayRoutes(
  services: Pick<Services, "replays" | "trials" | "idempotency">,
): FastifyPluginAsyncTypebox {
  const { replays } = services;
  return async (api) => {
    api.post(
      "/trials/:id/replay",
      {
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Queue a trial that is answered from the record of this one, offline and free",
          params: IdParams,
          headers: IdempotencyHeaders,
          response: { 201: Trial },
        },
      },
      async (request, reply) => {
        const id = idOf("trial", request.params.id);
        await runOnce(services, { request, reply, status: 201, isRepeatable: false }, () =>
          replays.replay(id),
        );
        return reply;
      },
    );

    api.post(
      "/cassettes/replay",
      {
        bodyLimit: CASSETTE_BYTES_MAX,
        config: { access: "operator" },
        schema: {
          tags,
          summary: "Queue a trial that a cassette answers, which was recorded here or elsewhere",
          body: NewCassetteReplay,
          headers: IdempotencyHeaders,
          response: { 201: Trial },
        },
      },
      async (request, reply) => {
        await runOnce(services, { request, reply, status: 201, isRepeatable: false }, () =>
          services.trials.replayCassette(request.body),
        );
        return reply;
      },
    );

    api.get(
      "/trials/:id/cassette",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What it was answered, whole and in order",
          params: IdParams,
          response: { 200: Cassette },
        },
      },
      (request) => replays.cassette(idOf("trial", request.params.id)),
    );

    api.get(
      "/trials/:id/script",
      {
        config: { access: "viewer" },
        schema: {
          tags,
          summary: "What its models said, as a script that the scripted model plays: YAML",
          params: IdParams,
        },
      },
      async (request, reply) => {
        const script = await replays.script(idOf("trial", request.params.id));
        return reply.type("application/yaml; charset=utf-8").send(script);
      },
    );
  };
}
