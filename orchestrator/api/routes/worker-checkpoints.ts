/** What a worker keeps of its trial, and what one goes on from: `contract/checkpoints.ts`. */
import type { Readable } from "node:stream";
import {
  BLOB_BYTES_PER_REQUEST,
  BlobList,
  Checkpoint,
  NewCheckpoint,
} from "../../contract/checkpoints.ts";
import { Problem } from "../../problem.ts";
import { sessionOf } from "../auth.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";

const tags = ["worker"];
const BINARY = "application/octet-stream";
/** A manifest of as many files as it may have, each with a long path. */
const MANIFEST_BODY_BYTES = 33_554_432;
const BLOBS_BODY_BYTES = BLOB_BYTES_PER_REQUEST + 16_777_216;

/** Adds the routes to those of `routes/worker.ts`, whose body parser they use. */
export function addCheckpoints(api: Api, checkpoints: Services["checkpoints"]): void {
  api.get(
    "/checkpoint",
    {
      config: { access: "worker" },
      schema: { tags, summary: "What the trial goes on from, as a gzipped tar" },
    },
    async (request, reply) => {
      const archive = await checkpoints.restore(sessionOf(request));
      if (archive === null) throw new Problem("not_found", "This trial begins anew");
      return reply.type(BINARY).send(archive);
    },
  );

  api.post(
    "/checkpoints/missing",
    {
      config: { access: "worker" },
      schema: {
        tags,
        summary: "Of these contents, those that the project lacks",
        body: BlobList,
        response: { 200: BlobList },
      },
    },
    async (request) => ({
      sha256s: await checkpoints.missing(sessionOf(request), request.body.sha256s),
    }),
  );

  api.put(
    "/checkpoints/blobs",
    {
      config: { access: "worker" },
      bodyLimit: BLOBS_BODY_BYTES,
      schema: { tags, summary: "Store contents: a gzipped tar, each called by its SHA-256" },
    },
    async (request) => {
      if (request.headers["content-type"] !== BINARY) {
        throw new Problem("invalid_request", `The content-type must be ${BINARY}`);
      }
      return { stored: await checkpoints.store(sessionOf(request), request.body as Readable) };
    },
  );

  api.post(
    "/checkpoints",
    {
      config: { access: "worker" },
      bodyLimit: MANIFEST_BODY_BYTES,
      schema: {
        tags,
        summary: "Make a checkpoint of contents that are stored",
        body: NewCheckpoint,
        response: { 200: Checkpoint },
      },
    },
    (request) => checkpoints.commit(sessionOf(request), request.body),
  );
}
