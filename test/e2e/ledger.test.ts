/**
 * Goal: a person exports the ledger, checks it on a machine that has nothing of ours running, and
 * is told what somebody changed, in the file or in the database.
 *
 * Method: the commands against a real installation on a database that the test can reach behind the
 * installation's back.
 */
import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { sql } from "drizzle-orm";
import type { LedgerReport, LedgerStatus } from "../../orchestrator/contract/ledger.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { openTestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import {
  cleanEnvironment,
  makeProject,
  openFolder,
  runToEnd,
  startInstallation,
} from "../support/installation.ts";

const BIN = join(import.meta.dirname, "../../bin/autocode.mjs");

test("the ledger is exported, checked anywhere, and no change of it goes unseen", async (t) => {
  await using database = await openTestDatabase();
  const passphrase = "only the installation knows it";
  await using installation = await startInstallation({
    agents: false,
    env: { DATABASE_URL: database.url, AUTOCODE_SECRETS_PASSPHRASE: passphrase },
  });
  const { cli, json, folder } = installation;
  await makeProject(installation, "books");
  for (const amount of ["1.25", "3", "0.000000001"]) {
    assert.equal((await cli("budget", "topup", "books", amount)).exit, 0);
  }

  await t.test("it is sealed and signed by itself", async () => {
    const look = () => json<LedgerStatus>("ledger", "key");
    const { sealed, checkpoints } = await eventually(look, ({ unsealed }) => unsealed === 0);
    assert.ok(sealed >= 4 && checkpoints >= 1, `${sealed} sealed, ${checkpoints} checkpoints`);
  });

  const file = join(folder, "ledger.ndjson");
  const { key } = await json<LedgerStatus>("ledger", "key");
  await t.test("an export to a file, and one to a pipe", async () => {
    const { exit, out, err } = await cli("ledger", "export", "--output", file);
    assert.equal(exit, 0, err);
    assert.ok(out.includes(file) && out.includes(key.fingerprint), out);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const piped = await cli("ledger", "export");
    assert.equal(piped.exit, 0, piped.err);
    const withoutTime = (text: string) => text.split("\n").slice(1, -2);
    assert.deepEqual(withoutTime(piped.out), withoutTime(await readFile(file, "utf8")));
  });

  await t.test("the server checks its own", async () => {
    const report = await json<LedgerReport>("ledger", "verify");
    assert.deepEqual([report.is_intact, report.is_key_trusted, report.fault], [true, true, null]);
    assert.ok(report.sealed >= 4);
    const doctor = await cli("doctor");
    assert.ok(doctor.out.includes(key.fingerprint), doctor.out);
  });

  await using elsewhere = await openFolder();
  const env = { ...cleanEnvironment(), AUTOCODE_HOME: elsewhere.path, NO_COLOR: "1" };
  const offline = (...args: string[]) =>
    runToEnd(process.execPath, [BIN, "ledger", "verify", ...args], { cwd: elsewhere.path, env });

  await t.test("offline, the export is intact, with the key and without", async () => {
    const plain = await offline(file);
    assert.deepEqual([plain.exit, plain.out.split("\n")[0]], [0, "intact"], plain.err);
    assert.match(plain.err, /agrees with itself.*ledger key/s);
    const pem = join(elsewhere.path, "key.pem");
    await writeFile(pem, key.public_key);
    for (const named of [key.fingerprint, pem]) {
      const { exit, out, err } = await offline(file, "--public-key", named, "--json");
      assert.equal(exit, 0, err);
      assert.equal(err, "");
      assert.equal((JSON.parse(out) as LedgerReport).is_key_trusted, true);
    }
    const other = `SHA256:${"A".repeat(43)}`;
    const wrong = await offline(file, "--public-key", other);
    assert.equal(wrong.exit, 1);
    assert.match(wrong.out, /^BAD SIGNATURE at line 1: /);
    assert.equal((await offline(file, "--public-key", "nowhere.pem")).exit, 2);
    assert.equal((await offline("nowhere.ndjson")).exit, 2);
  });

  await t.test("offline, a changed file is named by its line", async () => {
    const changed = join(elsewhere.path, "changed.ndjson");
    const text = await readFile(file, "utf8");
    const line = text.split("\n").findIndex((each) => each.includes('"amount_nanos":"1250000000"'));
    await writeFile(changed, text.replace('"amount_nanos":"1250000000"', '"amount_nanos":"9"'));
    const { exit, out } = await offline(changed);
    assert.equal(exit, 1);
    assert.match(out, new RegExp(`^CHANGED at position \\d+, transfer_\\w+, line ${line + 1}: `));
    const cut = join(elsewhere.path, "cut.ndjson");
    await writeFile(cut, text.slice(0, text.lastIndexOf('{"type":"end"')));
    assert.match((await offline(cut)).out, /^CUT OFF at line/);
  });

  await t.test("a change in the database is named, by the server and in its exports", async () => {
    const tampered = await rows<{ id: string }>(
      database.sql,
      sql`update transfer set reason = 'gift' where amount_nanos = 3000000000 returning id`,
    );
    assert.equal(tampered.length, 1);
    const here = await cli("ledger", "verify");
    assert.equal(here.exit, 1);
    assert.match(here.out, new RegExp(`^CHANGED at position \\d+, ${tampered[0]?.id}`));
    const later = join(folder, "later.ndjson");
    assert.equal((await cli("ledger", "export", "-o", later)).exit, 0);
    const { exit, out } = await offline(later, "--public-key", key.fingerprint, "--json");
    assert.equal(exit, 1);
    const { fault } = JSON.parse(out) as LedgerReport;
    assert.deepEqual([fault?.what, fault?.transfer_id], ["changed", tampered[0]?.id]);
  });

  await t.test("no secret is in a log or an argument", async () => {
    assert.ok(!installation.output().includes(passphrase));
    const log = await readFile(join(installation.home, "shared/logs/orchestrator.log"), "utf8");
    assert.ok(!log.includes(passphrase) && !log.includes("PRIVATE KEY"));
  });
});
