/**
 * Goal: the ledger's routes answer what their contract says, and an export costs no more than it
 * may: two at once, nothing held for a reader that has gone.
 *
 * Method: the whole server on a socket over a real ledger, read by clients that leave.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { Value } from "typebox/value";
import { createApi } from "../../../orchestrator/api/server.ts";
import { LedgerReport, LedgerStatus } from "../../../orchestrator/contract/ledger.ts";
import { type ApiFixture, openApiServices } from "../../support/api-services.ts";
import { eventually } from "../../support/eventually.ts";
import { makeHistory, openTestJournal, verifyText } from "../../support/journal.ts";
import { openTestLedger } from "../../support/ledger.ts";

test("the ledger's routes", async (t) => {
  await using fixture = await openApiServices();
  await using world = await openTestLedger({ database: fixture.database });
  await makeHistory(world, openTestJournal(world).journal);
  await using server = await listen(fixture);

  await t.test("how far the journal is", async () => {
    const status = await (await server.get("ledger")).json();
    assert.deepEqual([...Value.Errors(LedgerStatus, status)], []);
    assert.equal((status as LedgerStatus).unsealed, 0);
  });

  await t.test("whether it holds; those who ask together are answered together", async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => server.get("ledger/verify")));
    for (const answer of answers) {
      const report = await answer.json();
      assert.deepEqual([...Value.Errors(LedgerReport, report)], []);
      assert.equal((report as LedgerReport).is_intact, true);
    }
  });

  await t.test("the export", async () => {
    const answer = await server.get("ledger/export");
    assert.equal(answer.headers.get("content-type"), "application/x-ndjson");
    const { fault } = await verifyText(await answer.text());
    assert.equal(fault, null);
  });

  await t.test("a third export at once waits for its turn, and readers may leave", async () => {
    // Enough that it does not fit into the buffers between us.
    await world.database.sql.execute(sql`
      insert into account (id, kind, owner, currency, must_not_exceed, created_at)
      select 'account_01' || lpad(n::text, 24, '0'), 'spend', 'bulk/' || n, 'CAD', false, now()
      from generate_series(1, 60000) as n`);
    const leaving = [1, 2].map(() => new AbortController());
    const open = await Promise.all(
      leaving.map(({ signal }) => server.get("ledger/export", signal)),
    );
    assert.deepEqual(
      open.map(({ status }) => status),
      [200, 200],
    );
    const third = await server.get("ledger/export");
    assert.equal(third.status, 429);
    assert.match(await third.text(), /Two exports are under way/);
    for (const reader of leaving) reader.abort();
    const later = await eventually(
      () => server.get("ledger/export"),
      ({ status }) => status === 200,
    );
    assert.equal((await verifyText(await later.text())).fault, null);
  });
});

async function listen(fixture: ApiFixture) {
  const api = createApi(fixture.services, { version: "0.0.0" });
  const url = await api.listen({ port: 0, host: "127.0.0.1" });
  const headers = { authorization: `Bearer ${await fixture.access.issueCliToken()}` };
  return {
    get: (path: string, signal?: AbortSignal) =>
      fetch(`${url}/api/v1/${path}`, { headers, ...(signal && { signal }) }),
    [Symbol.asyncDispose]: () => api.close(),
  };
}
