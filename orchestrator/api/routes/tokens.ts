/**
 * Named API tokens, for admins. Who makes or revokes one leaves a line in the log, with its name
 * and the name of the token that it was done with.
 *
 * Invariant: an answer that is kept for its repeat has no secret. A repeat gets another secret,
 * while nobody has used the first.
 */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { ApiToken, ApiTokenList, NewApiToken } from "../../contract/tokens.ts";
import { IdempotencyHeaders, runOnce } from "../run-once.ts";
import type { Services } from "../services.ts";

const tags = ["access"];
const config = { access: "admin" } as const;
const params = Type.Object({ name: Type.String({ minLength: 1, maxLength: 63 }) });
const Empty = Type.Object({}, { additionalProperties: false });

export function tokenRoutes(
  services: Pick<Services, "access" | "idempotency">,
): FastifyPluginAsyncTypebox {
  const { access } = services;
  return async (api) => {
    api.post(
      "/tokens",
      {
        config,
        schema: {
          tags,
          summary: "Make a named API token, which outlives restarts; it is told this once",
          headers: IdempotencyHeaders,
          body: NewApiToken,
          response: { 201: ApiToken },
        },
      },
      async (request, reply) => {
        let secret: string | null = null;
        const complete = async (kept: string) => {
          const facts = JSON.parse(kept) as Omit<ApiToken, "token">;
          return JSON.stringify({ ...facts, token: secret ?? (await access.renewToken(facts.id)) });
        };
        const call = { request, reply, status: 201, isRepeatable: false, complete };
        await runOnce(services, call, async () => {
          const { token, ...facts } = await access.createToken(request.body);
          secret = token;
          note(request, "named token made", facts.name, {
            token_id: facts.id,
            token_role: facts.role,
            expires_at: facts.expires_at,
          });
          return facts;
        });
        return reply;
      },
    );

    api.get(
      "/tokens",
      {
        config,
        schema: {
          tags,
          summary: "The named API tokens that are not revoked",
          response: { 200: ApiTokenList },
        },
      },
      async () => ({ tokens: await access.listTokens() }),
    );

    api.post(
      "/tokens/:name/revoke",
      {
        config,
        schema: {
          tags,
          summary: "Revoke a named API token, at once and for ever",
          params,
          response: { 200: Empty },
        },
      },
      async (request) => {
        const { name } = request.params;
        if (await access.revokeToken(name)) note(request, "named token revoked", name);
        return {};
      },
    );
  };
}

function note(request: FastifyRequest, what: string, name: string, facts: object = {}): void {
  const { role, tokenName: by, ip: from } = request;
  request.log.info({ token_name: name, ...facts, role, by, from }, what);
}
