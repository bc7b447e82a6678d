/** Logging a browser in by a one-time link, and out. */
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import { LoginLink } from "../../contract/system.ts";
import { rfc3339 } from "../../runtime/clock.ts";
import { SESSION_COOKIE } from "../auth.ts";
import { usedLinkPage } from "../pages.ts";
import type { Services } from "../services.ts";

const tags = ["access"];

/** Where a login link leads, on the server at `baseUrl`. */
export function loginUrl(baseUrl: string, secret: string): string {
  const url = new URL("/login", baseUrl);
  url.searchParams.set("secret", secret);
  return url.href;
}

export function loginRoutes(
  { access }: Pick<Services, "access">,
  { isSecure }: { isSecure: boolean },
): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.get(
      "/login",
      {
        config: { access: "public" },
        schema: {
          tags,
          summary: "Exchange a login link's secret for a session cookie",
          querystring: Type.Object({ secret: Type.Optional(Type.String({ maxLength: 200 })) }),
        },
      },
      async (request, reply) => {
        const redeemed = await access.redeemLoginLink(request.query.secret ?? "");
        if (redeemed === null) {
          return reply.code(401).type("text/html; charset=utf-8").send(usedLinkPage());
        }
        return reply
          .setCookie(SESSION_COOKIE, redeemed.sessionToken, {
            httpOnly: true,
            sameSite: "strict",
            secure: isSecure,
            path: "/",
            expires: new Date(redeemed.expiresAtMs),
          })
          .redirect("/", 303);
      },
    );

    api.post(
      "/logout",
      // Anyone may end their own session.
      { config: { access: "viewer" }, schema: { tags, summary: "End the browser's session" } },
      async (request, reply) => {
        const token = request.cookies[SESSION_COOKIE];
        if (token !== undefined) await access.endSession(token);
        return reply.clearCookie(SESSION_COOKIE, { path: "/" }).code(204).send();
      },
    );
  };
}

export function loginLinkRoutes(
  { access, clock }: Pick<Services, "access" | "clock">,
  { validMs }: { validMs: number },
): FastifyPluginAsyncTypebox {
  return async (api) => {
    api.post(
      "/login-links",
      {
        config: { access: "admin" },
        schema: {
          tags,
          summary: "Make an address that logs one browser in, once",
          response: { 201: LoginLink },
        },
      },
      async (request, reply) => {
        const expiresAtMs = clock.now() + validMs;
        const secret = await access.issueLoginLink(validMs);
        const url = loginUrl(`${request.protocol}://${request.host}`, secret);
        return reply.code(201).send({ url, expires_at: rfc3339(expiresAtMs) });
      },
    );
  };
}
