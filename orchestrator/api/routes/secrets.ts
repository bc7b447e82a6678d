/**
 * Secrets, for admins. No answer here is kept for its repeat: it would lie in the database. Who
 * reads, writes or rotates leaves a line in the log, with the path and never the value.
 */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyRequest } from "fastify";
import {
  IssuedToken,
  IssueScoped,
  PutSecret,
  RemoveSecret,
  Reseal,
  Resealed,
  RevealedSecret,
  RevealSecret,
  RotatedKey,
  SecretList,
  SecretsReport,
  StoredSecret,
} from "../../contract/secrets.ts";
import { Problem } from "../../problem.ts";
import type { Services } from "../services.ts";
import type { Api } from "./api.ts";

const tags = ["secrets"];
const config = { access: "admin" } as const;

type Needed = Pick<Services, "secrets">;

export function secretRoutes(services: Needed): FastifyPluginAsyncTypebox {
  return async (api) => {
    readers(api, services);
    writers(api, services);
    rotations(api, services);
  };
}

function readers(api: Api, { secrets: { secrets, watch, reseal } }: Needed): void {
  api.get(
    "/secrets",
    {
      config,
      schema: { tags, summary: "The paths of all secrets", response: { 200: SecretList } },
    },
    async () => ({ paths: await secrets.list() }),
  );

  api.get(
    "/secrets/status",
    {
      config: { access: "viewer" },
      schema: {
        tags,
        summary: "Which engine holds the secrets, and whether it can be opened",
        response: { 200: SecretsReport },
      },
    },
    async () => {
      const { state, detail } = await watch.last();
      const keyId = await secrets.publicKey().catch((error) => {
        if (error instanceof Problem && error.code === "secrets_sealed") return null;
        throw error;
      });
      const { canWrite, canRotateKey, canIssueScoped } = secrets.can;
      return {
        ...{ engine: secrets.name, state, detail, key_id: keyId },
        can_write: canWrite,
        can_rotate_key: canRotateKey,
        can_issue_scoped: canIssueScoped,
        can_reseal: reseal !== null,
      };
    },
  );

  api.post(
    "/secrets/reveal",
    {
      config,
      schema: {
        tags,
        summary: "A secret's value",
        body: RevealSecret,
        response: { 200: RevealedSecret },
      },
    },
    async (request) => {
      const { path, version } = request.body;
      const secret = await secrets.get(path, version);
      audit(request, "secret revealed", { path, version: secret?.version ?? null });
      if (secret !== null) return secret;
      throw new Problem("not_found", `There is no secret ${path}`);
    },
  );
}

function writers(api: Api, { secrets: { secrets, changed } }: Needed): void {
  api.post(
    "/secrets",
    {
      config,
      schema: {
        tags,
        summary: "Write a secret's next version",
        body: PutSecret,
        response: { 200: StoredSecret },
      },
    },
    async (request) => {
      const { path, value, expected_version: expectedVersion } = request.body;
      const only = expectedVersion === undefined ? {} : { expectedVersion };
      const { outcome, version } = await secrets.put(path, value, only);
      if (outcome === "version_mismatch") {
        const detail = `expected_version: ${path} is at version ${version}, written by somebody else`;
        throw new Problem("conflict", detail, { facts: { version } });
      }
      audit(request, "secret written", { path, version });
      await changed();
      return { version };
    },
  );

  api.post(
    "/secrets/remove",
    {
      config,
      schema: {
        tags,
        summary: "Forget a secret with all its versions",
        body: RemoveSecret,
        response: { 200: RemoveSecret },
      },
    },
    async (request) => {
      const { path } = request.body;
      if (!(await secrets.remove(path))) {
        throw new Problem("not_found", `There is no secret ${path}`);
      }
      audit(request, "secret removed", { path });
      await changed();
      return { path };
    },
  );

  api.post(
    "/secrets/tokens",
    {
      config,
      schema: {
        tags,
        summary: "A short-lived token of the engine that reads these secrets and nothing else",
        body: IssueScoped,
        response: { 200: IssuedToken },
      },
    },
    async (request) => {
      const { paths, ttl_ms: ttlMs, uses, is_wrapped: isWrapped, purpose } = request.body;
      const issued = await secrets.issueScoped({ paths, ttlMs, uses, isWrapped, purpose });
      audit(request, "scoped token issued", { paths, ttl_ms: ttlMs, purpose });
      return { token: issued.token, is_wrapped: issued.isWrapped, places: [...issued.places] };
    },
  );
}

function rotations(api: Api, { secrets: { secrets, reseal } }: Needed): void {
  api.post(
    "/secrets/rotate-key",
    {
      config,
      schema: {
        tags,
        summary: "Make a new signing key; what the former ones signed still holds",
        response: { 200: RotatedKey },
      },
    },
    async (request) => {
      const keyId = await secrets.rotateKey();
      audit(request, "signing key rotated", { key_id: keyId });
      return { key_id: keyId };
    },
  );

  api.post(
    "/secrets/reseal",
    {
      config,
      schema: {
        tags,
        summary: "Seal the file anew, with this passphrase or with a new key file",
        body: Reseal,
        response: { 200: Resealed },
      },
    },
    async (request) => {
      if (reseal === null) {
        const detail = `The secrets are in ${secrets.name}: it seals itself`;
        throw new Problem("conflict", `${detail}; use its own command`);
      }
      await reseal(request.body.passphrase);
      audit(request, "secrets sealed anew", {
        by: request.body.passphrase === null ? "key file" : "passphrase",
      });
      return { is_resealed: true as const };
    },
  );
}

function audit(request: FastifyRequest, what: string, facts: object): void {
  request.log.info({ ...facts, role: request.role, from: request.ip }, what);
}
