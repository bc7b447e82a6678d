/**
 * The web UI's files. Its scripts and styles hold nothing secret and are public; a page is shown
 * to whoever is logged in, and tells others how to. Packages' modules come from an allow-list.
 */
import fastifyStatic from "@fastify/static";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Problem } from "../../problem.ts";
import type { WebOptions } from "../options.ts";
import { loginHintPage } from "../pages.ts";

/** What the folder may hold for browsers; its TypeScript and its notes are not for them. */
const ASSET = /\.(js|css|svg|png|ico|woff2|webmanifest)$/;
const PAGE = "index.html";

export function webRoutes(web: WebOptions): FastifyPluginAsyncTypebox {
  return async (api) => {
    await api.register(fastifyStatic, {
      root: web.dir,
      serve: false,
      cacheControl: false,
      dotfiles: "ignore",
    });
    const modules = new Map(web.vendorFiles.map(({ url, packagePath }) => [url, packagePath]));

    api.addHook("onRequest", async (_request, reply) => {
      reply.header("content-security-policy", web.contentSecurityPolicy);
    });

    api.get(
      "/vendor/*",
      { config: { access: "public" }, schema: { hide: true } },
      async (request, reply) => {
        const path = modules.get(new URL(request.url, "http://localhost").pathname);
        if (path === undefined) throw new Problem("not_found", "There is no such module");
        return reply.header("cache-control", "no-cache").sendFile(path, web.packagesDir);
      },
    );

    api.get(
      "/*",
      { config: { access: "page" }, schema: { hide: true } },
      async (request, reply) => {
        const { "*": path } = request.params as { "*": string };
        if (/^api(\/|$)/.test(path)) throw new Problem("not_found", "There is no such route");
        if (ASSET.test(path)) return reply.header("cache-control", "no-cache").sendFile(path);
        if (request.role === null) {
          return reply.code(401).type("text/html; charset=utf-8").send(loginHintPage());
        }
        return reply.sendFile(PAGE);
      },
    );
  };
}
