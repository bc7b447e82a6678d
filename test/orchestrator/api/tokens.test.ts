/**
 * Goal: a named token is good for its role until it expires or is revoked, whatever restarts; who
 * holds one that is not is told why; its secret is told once and lies nowhere.
 *
 * Method: the real access and idempotency on a test database, behind the whole server.
 */
import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { pino } from "pino";
import { Value } from "typebox/value";
import { createApi } from "../../../orchestrator/api/server.ts";
import { ApiToken, ApiTokenList } from "../../../orchestrator/contract/tokens.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openApiServices } from "../../support/api-services.ts";

const DAY_MS = 86_400_000;
const NIGHTLY = { name: "nightly", role: "operator", ttl_ms: 90 * DAY_MS } as const;

test("a named token, from its making to its end", async (t) => {
  await using opened = await openApi();
  const { clock, create, get, post, restart } = opened;
  const made = await create(NIGHTLY, "k1");
  const { token, ...facts } = made.json() as ApiToken;

  await t.test("is told once, with its role and its end", () => {
    assert.equal(made.statusCode, 201, made.body);
    assert.deepEqual([...Value.Errors(ApiToken, made.json())], []);
    assert.match(token, /^autocode_named_[\w-]{43}$/);
    const { id: _, ...told } = facts;
    const created = new Date(clock.ms).toISOString();
    const expires = new Date(clock.ms + NIGHTLY.ttl_ms).toISOString();
    const expected = { name: "nightly", role: "operator", created_at: created };
    assert.deepEqual(told, { ...expected, expires_at: expires });
  });

  await t.test("does what its role may, and no more", async () => {
    assert.equal((await get("/api/v1/trials", token)).statusCode, 200);
    const refused = await get("/api/v1/tokens", token);
    assert.equal(refused.statusCode, 403);
    assert.match(refused.json().detail, /needs the role admin, and yours is operator/);
  });

  await t.test("outlives a restart, which replaces the command line's", async () => {
    await restart();
    assert.equal((await get("/api/v1/trials", token)).statusCode, 200);
  });

  await t.test("is listed with its last use, to the minute, and without its secret", async () => {
    const firstUse = clock.ms;
    clock.ms += 59_000;
    await get("/api/v1/trials", token);
    const listed = await get("/api/v1/tokens");
    assert.deepEqual([...Value.Errors(ApiTokenList, listed.json())], []);
    const last_used_at = new Date(firstUse).toISOString();
    assert.deepEqual(listed.json(), { tokens: [{ ...facts, last_used_at, is_expired: false }] });
    clock.ms += 1_000;
    await get("/api/v1/trials", token);
    const again = (await get("/api/v1/tokens")).json() as ApiTokenList;
    assert.equal(again.tokens[0]?.last_used_at, new Date(clock.ms).toISOString());
  });

  await t.test("keeps its name until it is revoked", async () => {
    const twin = await create({ ...NIGHTLY, role: "viewer" }, "k2");
    assert.equal(twin.statusCode, 409);
    assert.match(twin.json().detail, /there is a token "nightly": revoke it first/);
    assert.equal((await get("/api/v1/trials", token)).statusCode, 200);
  });

  await t.test("is worth nothing once it expired, and says so", async () => {
    clock.ms += NIGHTLY.ttl_ms;
    const late = await get("/api/v1/trials", token);
    assert.equal(late.statusCode, 401);
    assert.equal(late.json().reason, "expired");
    assert.match(late.json().detail, /^The token "nightly" expired at 20\d\d-\d\d-\d\dT.*another/);
    const { tokens } = (await get("/api/v1/tokens")).json() as ApiTokenList;
    assert.deepEqual(
      tokens.map(({ name, is_expired }) => [name, is_expired]),
      [["nightly", true]],
    );
  });

  await t.test("is worth nothing once it was revoked, says so, and its name is free", async () => {
    const kept = (await create({ name: "for-ever", role: "viewer", ttl_ms: null }, "k3")).json();
    clock.ms += 3_650 * DAY_MS;
    await restart();
    assert.equal((await get("/api/v1/trials", kept.token)).statusCode, 200);
    for (const name of ["for-ever", "for-ever"]) {
      assert.equal((await post(`/api/v1/tokens/${name}/revoke`)).statusCode, 200);
    }
    const gone = await get("/api/v1/trials", kept.token);
    assert.deepEqual([gone.statusCode, gone.json().reason], [401, "revoked"]);
    const never = await post("/api/v1/tokens/nobody/revoke");
    assert.equal(never.statusCode, 404);
    assert.match(never.json().detail, /There is no token "nobody"/);
    assert.equal(
      (await create({ name: "for-ever", role: "viewer", ttl_ms: 1_000 })).statusCode,
      201,
    );
    assert.equal((await get("/api/v1/trials", kept.token)).statusCode, 401);
  });
});

test("a token is refused that has no proper name, role or end", async () => {
  await using opened = await openApi();
  const cases = [
    [{ ...NIGHTLY, name: "" }, /body\.name/],
    [{ ...NIGHTLY, name: "Nightly" }, /body\.name/],
    [{ ...NIGHTLY, name: "-x" }, /body\.name/],
    [{ ...NIGHTLY, name: "a".repeat(64) }, /body\.name/],
    [{ ...NIGHTLY, role: "root" }, /body\.role/],
    [{ ...NIGHTLY, ttl_ms: 0 }, /body\.ttl_ms/],
    [{ ...NIGHTLY, ttl_ms: 3_651 * DAY_MS }, /body\.ttl_ms/],
    [{ name: "a", role: "viewer" }, /missing field ttl_ms/],
    [{ ...NIGHTLY, project: "p" }, /unknown field project/],
  ] as const;
  for (const [body, told] of cases) {
    const refused = await opened.create(body);
    assert.equal(refused.statusCode, 400, refused.body);
    assert.match(refused.json().detail, told);
  }
  assert.deepEqual((await opened.get("/api/v1/tokens")).json(), { tokens: [] });
});

test("a repeat with the same key makes no second token", async (t) => {
  await using opened = await openApi();
  const { create, get, post } = opened;
  const first = (await create(NIGHTLY, "k1")).json() as ApiToken;

  await t.test("and tells another secret while the first was not used", async () => {
    const second = (await create(NIGHTLY, "k1")).json() as ApiToken;
    assert.notEqual(second.token, first.token);
    assert.deepEqual({ ...second, token: "" }, { ...first, token: "" });
    assert.equal((await get("/api/v1/trials", first.token)).statusCode, 401);
    assert.equal((await get("/api/v1/trials", second.token)).statusCode, 200);
  });

  await t.test("and none once it was used, or revoked", async () => {
    for (const again of [1, 2]) {
      const refused = await create(NIGHTLY, "k1");
      assert.equal(refused.statusCode, 409, String(again));
      assert.match(refused.json().detail, /was used or revoked since, and is told once/);
      await post("/api/v1/tokens/nightly/revoke");
    }
  });

  await t.test("and is refused with another body, or without a key", async () => {
    assert.equal((await create({ ...NIGHTLY, role: "admin" }, "k1")).statusCode, 422);
    assert.equal((await create(NIGHTLY, null)).statusCode, 400);
  });
});

test("no secret of a token is in a table or the log, which tells who made and revoked it", async () => {
  await using opened = await openApi();
  const { create, post, get, database, lines } = opened;
  const made = [await create(NIGHTLY, "k1"), await create(NIGHTLY, "k1")];
  const secrets = made.map((answer) => (answer.json() as ApiToken).token);
  await get("/api/v1/trials", secrets[1]);
  const ada = (await create({ name: "ada", role: "admin", ttl_ms: null }, "k2")).json() as ApiToken;
  const byAda = { authorization: `Bearer ${ada.token}` };
  await post("/api/v1/tokens/nightly/revoke", undefined, byAda);
  await post("/api/v1/tokens/nightly/revoke", undefined, byAda);

  for (const secret of secrets) {
    for (const table of ["api_token", "idempotency"]) {
      const found = await rows(
        database.sql,
        sql`select 1 from ${sql.identifier(table)} as every
          where every::text like ${`%${secret.slice(-20)}%`} limit 1`,
      );
      assert.deepEqual(found, [], table);
    }
    assert.ok(!lines.join("").includes(secret.slice(-20)));
  }
  const told = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ token_name: name }) => name !== undefined)
    .map(({ msg, token_name: name, token_role: its, role, by, from }) => [
      ...[msg, name, its, role, by, from],
    ]);
  assert.deepEqual(told, [
    ["named token made", "nightly", "operator", "admin", null, "127.0.0.1"],
    ["named token made", "ada", "admin", "admin", null, "127.0.0.1"],
    ["named token revoked", "nightly", undefined, "admin", "ada", "127.0.0.1"],
  ]);
});

async function openApi() {
  const fixture = await openApiServices();
  const { access, clock, database } = fixture;
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const api = createApi({ ...fixture.services, log: pino(sink) }, { version: "0.0.0" });
  let admin = await access.issueCliToken();
  let keys = 0;
  return { clock, database, lines, create, get, post, restart, [Symbol.asyncDispose]: close };

  /** `key` null: none. */
  function create(payload: object, key: string | null = `key-${++keys}`) {
    const headers = key === null ? {} : { "idempotency-key": key };
    return post("/api/v1/tokens", payload, headers);
  }

  function get(url: string, token = admin) {
    return api.inject({ url, headers: { authorization: `Bearer ${token}` } });
  }

  function post(url: string, payload?: object, more: Record<string, string> = {}) {
    const headers = { authorization: `Bearer ${admin}`, ...more };
    return api.inject({ method: "POST", url, headers, ...(payload && { payload }) });
  }

  /** What a start does: another token for the command line. */
  async function restart(): Promise<void> {
    admin = await access.issueCliToken();
  }

  async function close(): Promise<void> {
    await api.close();
    await fixture[Symbol.asyncDispose]();
  }
}
