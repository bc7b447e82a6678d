/** Goal (R15): one effect and one answer for one key, whatever is repeated, raced or cut off. */
import assert from "node:assert/strict";
import test from "node:test";
import { sql } from "drizzle-orm";
import { type Answer, createIdempotency } from "../../../orchestrator/api/idempotency.ts";
import { createApi } from "../../../orchestrator/api/server.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { openApiServices } from "../../support/api-services.ts";

const TRIAL = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };
const REQUEST = { key: "k", route: "POST /x", body: { a: 1 }, isRepeatable: false };

test("over HTTP", async (t) => {
  await using fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0.0.0" });
  const authorization = `Bearer ${await fixture.access.issueCliToken()}`;
  const post = (payload: object, key?: string, url = "/api/v1/trials") =>
    api.inject({
      method: "POST",
      url,
      payload,
      headers: { authorization, ...(key !== undefined && { "idempotency-key": key }) },
    });

  await t.test("a POST that makes or moves something needs a key", async () => {
    const matrix = { agents: ["aider"], pairs: ["scripted"], tasks: ["fix-add"] };
    const cases: [string, object][] = [
      ["/api/v1/trials", TRIAL],
      [
        "/api/v1/experiments",
        { project: "demo", name: "matrix", ...matrix, attempts: 1, assignment: "all" },
      ],
      ["/api/v1/budgets/demo/topup", { amount_nanos: "1", currency: "CAD" }],
    ];
    for (const [url, body] of cases) {
      const response = await post(body, undefined, url);
      assert.equal(response.statusCode, 400);
      assert.match(response.json().detail, /^headers: missing field idempotency-key/);
    }
    assert.deepEqual(fixture.effects, {});
  });

  await t.test("a hundred at once have one effect and one answer", async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => post(TRIAL, "same")));
    assert.equal(fixture.effects["trial"], 1);
    assert.equal(new Set(answers.map(({ body }) => body)).size, 1);
    assert.ok(answers.every(({ statusCode }) => statusCode === 201));
  });

  await t.test("a repeat gets the stored answer, another body 422", async () => {
    const first = await post(TRIAL, "again");
    const second = await post(TRIAL, "again");
    assert.equal(second.body, first.body);
    assert.equal((await post({ ...TRIAL, seed: 9 }, "again")).statusCode, 422);
  });

  await t.test("a failure is kept as well, a 500 too", async () => {
    const failed = await post({ ...TRIAL, agent: "broken" }, "fails");
    const again = await post({ ...TRIAL, agent: "broken" }, "fails");
    assert.equal(failed.statusCode, 500);
    assert.equal(again.body, failed.body);
  });

  await t.test("one key on two routes is two requests", async () => {
    const topUp = { amount_nanos: "1", currency: "CAD" };
    const answer = await post(topUp, "same", "/api/v1/budgets/demo/topup");
    assert.equal(answer.statusCode, 200);
    assert.equal(fixture.effects["topup"], 1);
  });
});

test("the store", async (t) => {
  await using fixture = await openApiServices();
  const { database, clock } = fixture;
  const one = createIdempotency(database, clock);
  const other = createIdempotency(database, clock);
  const answer: Answer = { status: 201, body: '{"b":1,"a":2}' };

  await t.test("keeps the bytes, in their order", async () => {
    await one.once(REQUEST, async () => answer);
    const replay = await other.once(REQUEST, async () => assert.fail("a second effect"));
    assert.deepEqual(replay, answer);
  });

  await t.test("another process waits for the answer of the first", async () => {
    const request = { ...REQUEST, key: "two processes" };
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const { promise: finished, resolve: finish } = Promise.withResolvers<Answer>();
    const first = one.once(request, () => {
      start();
      return finished;
    });
    await started;
    const second = other.once(request, async () => assert.fail("a second effect"));
    finish(answer);
    assert.deepEqual(await first, await second);
  });

  await t.test("a transient fault frees the key", async () => {
    const request = { ...REQUEST, key: "transient" };
    const away = new Problem("unavailable", "The scheduler did not answer");
    await assert.rejects(
      one.once(request, () => Promise.reject(away)),
      away,
    );
    assert.deepEqual(await one.once(request, async () => answer), answer);
  });

  await t.test("a request cut off is not run again, unless its effect is idempotent", async () => {
    await database.sql.execute(sql`
      insert into idempotency (key, route, request_sha256, status, response, created_at)
      select 'cut off', route, request_sha256, 0, 'null', created_at
      from idempotency where key = 'k'`);
    const request = { ...REQUEST, key: "cut off" };
    await assert.rejects(
      one.once(request, async () => assert.fail("a second effect")),
      (error) => error instanceof Problem && error.code === "conflict",
    );
    const repeated = await one.once({ ...request, isRepeatable: true }, async () => answer);
    assert.deepEqual(repeated, answer);
  });
});
