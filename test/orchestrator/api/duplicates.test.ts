/**
 * Goal (R15): money moves once for one Idempotency-Key, however many send it, to however many
 * orchestrators, whatever is cut off in between; each gets the same answer, for as long as anybody
 * may still be trying.
 *
 * Method: two servers that share a database and nothing else, over the real ledger.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { auditLedger } from "../../support/audit.ts";
import { openRealApi } from "../../support/real-api.ts";

const DAY_MS = 86_400_000;
const TOP_UP = { amount_nanos: "1000000000", currency: "CAD" };

test("R15: duplicates of a top-up", async (t) => {
  await using world = await openRealApi();
  const { database, clock, budgets } = world;
  const servers = [world.open(), world.open()];
  const send = (key: string, body: object = TOP_UP, server = servers[0]) => {
    const headers = { authorization: `Bearer ${world.token}`, "idempotency-key": key };
    const request = { method: "POST", url: "/api/v1/budgets/p/topup", headers, payload: body };
    return server?.inject({ ...request, method: "POST" }) ?? Promise.reject(new Error("no server"));
  };
  const funded = async () => BigInt((await budgets.get("p")).balance.funded_nanos);

  await t.test("a hundred at once, at two orchestrators, move it once", async () => {
    const before = await funded();
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) => send("hundred", TOP_UP, servers[index % 2])),
    );
    assert.equal(await funded(), before + 1_000_000_000n);
    assert.deepEqual([...new Set(answers.map(({ statusCode }) => statusCode))], [200]);
    assert.equal(new Set(answers.map(({ body }) => body)).size, 1, "one answer");
    const [made] = await rows<{ count: number }>(
      database.sql,
      sql`select count(*)::int as count from transfer where reason = 'topup'
        and amount_nanos = 1000000000`,
    );
    assert.equal(made?.count, 1);
  });

  await t.test("another body with the key is refused at either, and moves nothing", async () => {
    const before = await funded();
    const others = [
      { ...TOP_UP, amount_nanos: "1000000001" },
      { ...TOP_UP, currency: "USD" },
      { ...TOP_UP, note: "other" },
    ];
    for (const server of servers) {
      for (const body of others) {
        const answer = await send("hundred", body, server);
        assert.equal(answer.statusCode, 422, answer.body);
        assert.equal(answer.json().type, "/problems/idempotency_mismatch");
      }
    }
    assert.equal(await funded(), before);
  });

  await t.test("a refusal is kept like a success", async () => {
    const wrong = { ...TOP_UP, currency: "USD" };
    const first = await send("wrong", wrong);
    assert.equal(first.statusCode, 400, first.body);
    const second = await send("wrong", wrong, servers[1]);
    assert.deepEqual([second.statusCode, second.body], [first.statusCode, first.body]);
    assert.equal((await send("wrong", TOP_UP)).statusCode, 422);
  });

  await t.test("a defect is kept as well: the 500 does not turn into a charge", async () => {
    const before = await funded();
    let isBroken = true;
    const broken = world.open({
      budgets: {
        ...budgets,
        topUp: (...given) => {
          if (isBroken) throw new Error("a defect that must not be shown");
          return budgets.topUp(...given);
        },
      },
    });
    const first = await send("defect", TOP_UP, broken);
    isBroken = false;
    const second = await send("defect", TOP_UP, broken);
    assert.equal(first.statusCode, 500);
    assert.deepEqual([second.statusCode, second.body], [500, first.body]);
    assert.ok(!first.body.includes("must not be shown"));
    assert.equal(await funded(), before);
  });

  await t.test("an answer that was lost on its way is got by asking again", async () => {
    const before = await funded();
    let isLost = true;
    const losing = world.open({
      budgets: {
        ...budgets,
        topUp: async (...given) => {
          const done = await budgets.topUp(...given);
          if (!isLost) return done;
          throw new Problem("unavailable", "The database went away after the commit");
        },
      },
    });
    assert.equal((await send("lost", TOP_UP, losing)).statusCode, 503);
    isLost = false;
    assert.equal((await send("lost", TOP_UP, losing)).statusCode, 200);
    assert.equal(await funded(), before + 1_000_000_000n);
  });

  await t.test("a key means the same a day later", async () => {
    const before = await funded();
    const first = await send("hundred");
    clock.ms += DAY_MS + 1;
    const headers = { authorization: `Bearer ${world.token}` };
    assert.equal(
      (await servers[0]?.inject({ url: "/api/v1/budgets/p", headers }))?.statusCode,
      200,
    );
    const later = await send("hundred", TOP_UP, servers[1]);
    assert.deepEqual([later.statusCode, later.body], [200, first.body]);
    assert.equal((await send("hundred", { ...TOP_UP, amount_nanos: "5" })).statusCode, 422);
    assert.equal(await funded(), before);
  });

  await auditLedger(database);
});
