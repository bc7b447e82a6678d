/**
 * Goal: an admin keeps secrets over the API and nobody else does; no value is in a list, in the log
 * or in the database.
 *
 * Method: the real routes over a real sealed file and database.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { createApi } from "../../../orchestrator/api/server.ts";
import type { RevealedSecret, SecretsReport } from "../../../orchestrator/contract/secrets.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openApiServices } from "../../support/api-services.ts";

const VALUE = "sk-a-value-that-nobody-may-read-0123456789";

test("secrets over the API", async (t) => {
  await using opened = await openApi();
  const { ask } = opened;

  await t.test("written, listed, revealed, removed", async () => {
    const path = "provider/openai";
    assert.deepEqual(await ask("POST", "secrets", { path, value: VALUE }), [200, { version: 1 }]);
    assert.deepEqual(await ask("GET", "secrets"), [200, { paths: [path] }]);
    const [, revealed] = await ask("POST", "secrets/reveal", { path });
    assert.deepEqual(revealed as RevealedSecret, { value: VALUE, version: 1 });
    const late = { path, value: "x", expected_version: 0 };
    assert.equal((await ask("POST", "secrets", late))[0], 409);
    assert.deepEqual(await ask("POST", "secrets/remove", { path }), [200, { path }]);
    assert.equal((await ask("POST", "secrets/remove", { path }))[0], 404);
    assert.equal((await ask("POST", "secrets/reveal", { path }))[0], 404);
  });

  await t.test("bad input is named", async () => {
    for (const body of [
      { path: "../a", value: "x" },
      { path: "a", value: "" },
      { path: "a", value: "x".repeat(65_537) },
      { path: "a" },
      { path: "a", value: "x", more: 1 },
    ]) {
      const [status, problem] = await ask("POST", "secrets", body);
      assert.equal(status, 400, JSON.stringify(body).slice(0, 80));
      assert.ok(!JSON.stringify(problem).includes("xxxx"));
    }
    const scoped = { paths: ["a"], ttl_ms: 1000, uses: 1, is_wrapped: true, purpose: "test" };
    assert.equal((await ask("POST", "secrets/tokens", scoped))[0], 409);
  });

  await t.test("keys are rotated, and the file is sealed anew", async () => {
    const [, before] = await ask("GET", "secrets/status");
    const [, rotated] = await ask("POST", "secrets/rotate-key");
    const [, after] = await ask("GET", "secrets/status");
    assert.equal((before as SecretsReport).state, "ready");
    assert.equal((after as SecretsReport).key_id, (rotated as { key_id: string }).key_id);
    assert.notEqual((after as SecretsReport).key_id, (before as SecretsReport).key_id);
    assert.equal((await ask("POST", "secrets/reseal", { passphrase: "short" }))[0], 400);
    const passphrase = "correct horse battery staple";
    assert.equal((await ask("POST", "secrets/reseal", { passphrase }))[0], 200);
    assert.equal((await ask("POST", "secrets/reseal", { passphrase: null }))[0], 200);
  });

  await t.test(
    "a viewer sees how they are, an operator no more, and neither a secret",
    async () => {
      for (const role of ["viewer", "operator"] as const) {
        assert.equal((await ask("GET", "secrets/status", undefined, role))[0], 200);
        for (const [method, path, body] of [
          ["GET", "secrets"],
          ["POST", "secrets", { path: "a", value: "x" }],
          ["POST", "secrets/reveal", { path: "a" }],
          ["POST", "secrets/remove", { path: "a" }],
          ["POST", "secrets/rotate-key"],
          ["POST", "secrets/reseal", { passphrase: null }],
        ] as const) {
          assert.equal((await ask(method, path, body, role))[0], 403, `${role} ${path}`);
        }
      }
    },
  );

  await t.test("no value lies in the database", async () => {
    await ask("POST", "secrets", { path: "a/b", value: VALUE });
    await ask("POST", "secrets/reveal", { path: "a/b" });
    const tables = await rows<{ name: string }>(
      opened.database.sql,
      sql`select table_name as name from information_schema.tables where table_schema = 'public'`,
    );
    for (const { name } of tables) {
      const found = await rows(
        opened.database.sql,
        sql`select 1 from ${sql.identifier(name)} as every
          where every::text like ${`%${VALUE}%`} limit 1`,
      );
      assert.deepEqual(found, [], name);
    }
  });
});

async function openApi() {
  const fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0.0.0" });
  const { database } = fixture;
  const tokens: Record<string, string> = { admin: await fixture.access.issueCliToken() };
  for (const role of ["viewer", "operator"] as const) {
    const made = await fixture.access.createToken({ name: role, role, ttl_ms: null });
    tokens[role] = made.token;
  }
  return { database, ask, [Symbol.asyncDispose]: close };

  async function ask(
    method: "GET" | "POST",
    path: string,
    body?: object,
    role = "admin",
  ): Promise<[number, unknown]> {
    const answer = await api.inject({
      method,
      url: `/api/v1/${path}`,
      headers: { authorization: `Bearer ${tokens[role]}` },
      ...(body === undefined ? {} : { payload: body }),
    });
    return [answer.statusCode, answer.json()];
  }

  async function close(): Promise<void> {
    await api.close();
    await fixture[Symbol.asyncDispose]();
  }
}
