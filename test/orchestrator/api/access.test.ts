/**
 * Goal: only whoever holds a token that is neither expired, revoked nor of another purpose gets in.
 *
 * Method: the generated matrix (S7). Every route that the server registered is called with every
 * kind of wrong credential, and what it declares decides what must come back.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import type { FastifyInstance } from "fastify";
import type { Role } from "../../../orchestrator/api/access.ts";
import type { RouteAccess } from "../../../orchestrator/api/auth.ts";
import { createApi } from "../../../orchestrator/api/server.ts";
import { ALLOCATION_TOKEN, type ApiFixture, openApiServices } from "../../support/api-services.ts";
import { WEB } from "../../support/api-web.ts";

interface Route {
  method: "GET" | "POST" | "PUT";
  url: string;
  access: RouteAccess;
}

const DAY_MS = 86_400_000;

test("the route matrix", async (t) => {
  await using fixture = await openApiServices();
  const { api, routes } = await openApi(fixture);
  const tokens = await credentials(fixture);

  await t.test("every route is here, and each method of it", () => {
    assert.ok(routes.length >= 45, `${routes.length} routes`);
    assert.deepEqual(
      routes
        .filter(({ access }) => access === "public")
        .map(({ method, url }) => `${method} ${url}`),
      [
        "POST /api/v1/worker/enrol",
        "POST /api/v1/host/plan",
        "POST /api/v1/host/join",
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
        "GET /docs",
        "GET /login",
        "GET /vendor/*",
      ],
    );
    const mutations = routes.filter(
      ({ method, access }) => method !== "GET" && access === "viewer",
    );
    assert.deepEqual(mutations, [
      // It changes nothing: its body may hold a whole price book, which is too long for an address.
      { method: "POST", url: "/api/v1/trials/:id/reprice", access: "viewer" },
      // Nor these: what is planned and rendered is not started.
      { method: "POST", url: "/api/v1/models/plan", access: "viewer" },
      { method: "POST", url: "/api/v1/models/render", access: "viewer" },
      // It changes nothing either: what is asked about is an address with secrets of its own.
      { method: "POST", url: "/api/v1/projects/:name/egress/decide", access: "viewer" },
      { method: "POST", url: "/logout", access: "viewer" },
    ]);
  });

  for (const { method, url, access } of routes) {
    if (access === "public") continue;
    await t.test(`${method} ${url} (${access})`, async () => {
      for (const [name, token] of Object.entries(tokens)) {
        const response = await api.inject({
          method,
          url: address(url),
          headers: token === "" ? {} : { authorization: `Bearer ${token}` },
        });
        const expected = expectedStatus(access, name);
        const seen = `${name}: ${response.statusCode} ${response.body.slice(0, 200)}`;
        if (expected === "allowed") assert.ok(![401, 403].includes(response.statusCode), seen);
        else assert.equal(response.statusCode, expected, seen);
      }
    });
  }
  await api.close();
});

test("a browser's session", async (t) => {
  await using fixture = await openApiServices();
  const { api } = await openApi(fixture);
  const cli = await fixture.access.issueCliToken();
  const made = await api.inject({
    method: "POST",
    url: "/api/v1/login-links",
    headers: { authorization: `Bearer ${cli}`, host: "127.0.0.1:4600" },
  });
  assert.equal(made.statusCode, 201, made.body);
  const link = new URL(made.json().url);
  assert.equal(link.origin, "http://127.0.0.1:4600");
  const login = await api.inject({ url: link.pathname + link.search });
  const cookie = String(login.headers["set-cookie"]).split(";")[0] ?? "";

  await t.test("is made by a login link, which works once", async () => {
    assert.equal(login.statusCode, 303);
    assert.equal(login.headers.location, "/");
    assert.match(String(login.headers["set-cookie"]), /HttpOnly; SameSite=Strict/);
    const again = await api.inject({ url: link.pathname + link.search });
    assert.equal(again.statusCode, 401);
    assert.match(again.body, /autocode login/);
    const empty = await api.inject("/login");
    assert.equal(empty.statusCode, 401);
  });

  await t.test("is not made by a link that is too old", async () => {
    const secret = await fixture.access.issueLoginLink(1_000);
    fixture.clock.ms += 1_001;
    assert.equal((await api.inject(`/login?secret=${secret}`)).statusCode, 401);
  });

  await t.test("changes nothing for another site's page", async () => {
    const cases = [
      [{}, 403],
      [{ "sec-fetch-site": "cross-site" }, 403],
      [{ "sec-fetch-site": "same-site" }, 403],
      [{ "sec-fetch-site": "none" }, 403],
      [{ origin: "http://evil.example" }, 403],
      [{ origin: "null" }, 403],
      [{ "sec-fetch-site": "same-origin" }, 201],
      [{ origin: "http://127.0.0.1:4600" }, 201],
    ] as const;
    for (const [headers, status] of cases) {
      const response = await api.inject({
        method: "POST",
        url: "/api/v1/login-links",
        headers: { host: "127.0.0.1:4600", cookie, ...headers },
      });
      assert.equal(response.statusCode, status, JSON.stringify(headers));
    }
  });

  await t.test("shows the pages, and a stranger what to do", async () => {
    const page = await api.inject({ url: "/trials/trial_1", headers: { cookie } });
    assert.equal(page.statusCode, 200);
    assert.match(page.body, /<div id="app">/);
    const stranger = await api.inject("/trials/trial_1");
    assert.equal(stranger.statusCode, 401);
    assert.match(stranger.body, /autocode login/);
  });

  await t.test("ends with logout", async () => {
    const headers = { cookie, "sec-fetch-site": "same-origin" };
    assert.equal((await api.inject({ method: "POST", url: "/logout", headers })).statusCode, 204);
    const after = await api.inject({ url: "/api/v1/trials", headers });
    assert.equal(after.statusCode, 401);
  });
  await api.close();
});

test("a host that is not ours is refused (DNS rebinding)", async () => {
  await using fixture = await openApiServices();
  const { api } = await openApi(fixture);
  const cases = [
    ["evil.example", 403],
    ["127.0.0.1.evil.example", 403],
    ["localhost.evil.example:80", 403],
    ["LOCALHOST:1", 200],
    ["127.8.8.8", 200],
    ["[::1]:4600", 200],
    ["autocode.internal:443", 200],
  ] as const;
  for (const [host, status] of cases) {
    const response = await api.inject({ url: "/healthz", headers: { host } });
    assert.equal(response.statusCode, status, host);
  }
  await api.close();
});

test("tokens", async (t) => {
  await using fixture = await openApiServices();
  const { access, database } = fixture;

  await t.test("are stored hashed", async () => {
    const token = await access.issueCliToken();
    const { rows } = await database.sql.execute(sql`select * from api_token`);
    assert.ok(!JSON.stringify(rows).includes(token.slice(-20)));
    assert.equal(rows.length, 1);
  });

  await t.test("of the command line replace each other", async () => {
    const first = await access.issueCliToken();
    const second = await access.issueCliToken();
    assert.equal(await access.authenticate(first), null);
    assert.deepEqual(await access.authenticate(second), { role: "admin", name: null });
  });

  await t.test("of a login link are no API tokens", async () => {
    const secret = await access.issueLoginLink(1_000);
    assert.equal(await access.authenticate(secret), null);
  });

  await t.test("redeem a link once, however many ask at once", async () => {
    const secret = await access.issueLoginLink(1_000);
    const redeemed = await Promise.all(
      Array.from({ length: 8 }, () => access.redeemLoginLink(secret)),
    );
    assert.equal(redeemed.filter((session) => session !== null).length, 1);
  });

  await t.test("meet hostile text as text (S6)", async () => {
    const hostile = [
      "' or '1'='1",
      "'; drop table api_token; --",
      "\\x00",
      "a".repeat(5_000),
      "é☃",
    ];
    for (const token of hostile) assert.equal(await access.authenticate(token), null);
    const { rows } = await database.sql.execute(sql`select count(*)::int as n from api_token`);
    assert.ok(Number(rows[0]?.["n"]) > 0);
  });
});

async function openApi(fixture: ApiFixture): Promise<{ api: FastifyInstance; routes: Route[] }> {
  const api = createApi(fixture.services, {
    version: "0.0.0",
    allowedHosts: ["autocode.internal"],
    web: WEB,
  });
  const routes: Route[] = [];
  api.addHook("onRoute", ({ method, url, config }) => {
    for (const each of [method].flat()) {
      routes.push({ method: each as Route["method"], url, access: config?.access ?? "public" });
    }
  });
  await api.ready();
  return { api, routes };
}

/** Credentials by name: every role, and every way to have none. */
async function credentials({ access, clock }: ApiFixture) {
  const revoked = await access.issueCliToken();
  const admin = await access.issueCliToken();
  const session = await access.redeemLoginLink(await access.issueLoginLink(1_000));
  const expired = session?.sessionToken ?? "";
  clock.ms += 8 * DAY_MS;
  const viewer = await named("viewer", "viewer");
  const operator = await named("operator", "operator");
  const revokedName = await named("revoked", "admin");
  await access.revokeToken("revoked");
  const expiredName = await named("expired", "admin", 1_000);
  clock.ms += 1_000;
  const loginLink = await access.issueLoginLink(DAY_MS);
  return {
    none: "",
    garbage: "autocode_cli_garbage",
    garbageName: "autocode_named_garbage",
    revoked,
    revokedName,
    expired,
    expiredName,
    loginLink,
    viewer,
    operator,
    admin,
    allocation: ALLOCATION_TOKEN,
  };

  async function named(name: string, role: Role, ttlMs: number | null = null): Promise<string> {
    return (await access.createToken({ name, role, ttl_ms: ttlMs })).token;
  }
}

function expectedStatus(access: RouteAccess, credential: string): number | "allowed" {
  if (access === "page") {
    return ["viewer", "operator", "admin"].includes(credential) ? "allowed" : 401;
  }
  // No host has joined: whoever asks as one is not known.
  if (access === "host") return 401;
  if (access === "worker") return credential === "allocation" ? "allowed" : 401;
  const rank = { viewer: 1, operator: 2, admin: 3 } as const;
  if (!(credential in rank)) return 401;
  return rank[credential as keyof typeof rank] >= rank[access as keyof typeof rank]
    ? "allowed"
    : 403;
}

/** Something in every parameter's place; what would stream for ever has a wrong query. */
function address(url: string): string {
  if (url === "/*") return "/trials";
  if (url === "/api/v1/events") return "/api/v1/events?after_seq=x";
  if (url === "/api/v1/flows/live") return "/api/v1/flows/live?since=x";
  return url.replaceAll(/:[a-z]+/g, "demo").replace("*", "none.js");
}
