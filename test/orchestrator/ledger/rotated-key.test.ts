/**
 * Goal: what was signed before the key was rotated still holds, for the server and for who checks
 * an export with both keys; with one of them the other's signatures are another's.
 *
 * Method: a real ledger's history under a real sealed file, whose key is rotated on the way.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { createJournal } from "../../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../../orchestrator/ledger/journal-export.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";
import { makeHistory, verifyText } from "../../support/journal.ts";
import { openTestLedger } from "../../support/ledger.ts";

test("a rotated key: the journal verifies over both", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "autocode-secrets-"));
  t.after(() => rm(dir, { recursive: true }));
  const secrets = await openFileSecrets({ dir, passphrase: null }, systemRandom);
  await using world = await openTestLedger();
  const { database, clock } = world;
  const journal = createJournal(database, clock, secrets);
  const ledgerExport = createLedgerExport(database, clock, journal, secrets);

  const first = await secrets.publicKey();
  await makeHistory(world, journal);
  const second = await secrets.rotateKey();
  await makeHistory(world, journal);

  const report = await ledgerExport.verify();
  assert.deepEqual([report.is_intact, report.fault], [true, null]);
  const exported = await text(await ledgerExport.open());
  const checked = (trustedKeyIds: string[]) => verifyText(exported, { trustedKeyIds });
  assert.equal((await checked([first, second])).is_intact, true);
  for (const one of [first, second]) {
    const { is_intact: isIntact, fault } = await checked([one]);
    assert.equal(isIntact, false);
    assert.match(fault?.detail ?? "", /another key than yours/);
  }
});
