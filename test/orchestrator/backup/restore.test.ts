/**
 * Goal: what is restored is what was there at the backup's moment, row by row and byte by byte; and
 * a backup that is not whole, or not ours, changes nothing.
 *
 * Method: a real database with money, trials, checkpoints that name each other in a circle and
 * files that rows name; its backup restored into an empty database and folder, and then broken in
 * every way that a file breaks.
 */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { sql } from "drizzle-orm";
import { readArchive, writeArchive } from "../../../orchestrator/backup/archive.ts";
import { type BackupHead, RESTORING_MARK } from "../../../orchestrator/backup/backup.ts";
import { type RestoreTarget, restore } from "../../../orchestrator/backup/restore.ts";
import { createBackups } from "../../../orchestrator/backup/write.ts";
import type { Database } from "../../../orchestrator/db/database.ts";
import { migrate } from "../../../orchestrator/db/migrate.ts";
import { openPostgresDatabase } from "../../../orchestrator/db/postgres.ts";
import { rows } from "../../../orchestrator/db/rows.ts";
import { createJournal } from "../../../orchestrator/ledger/journal.ts";
import { createLedgerExport } from "../../../orchestrator/ledger/journal-export.ts";
import { createLedger } from "../../../orchestrator/ledger/postgres.ts";
import { createLayout } from "../../../orchestrator/projects/layout.ts";
import { systemClock as clock } from "../../../orchestrator/runtime/clock.ts";
import { createIds } from "../../../orchestrator/runtime/ids.ts";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { createPostgresTraffic } from "../../../orchestrator/traffic/postgres.ts";
import { openPayer } from "../../chaos/payer.ts";
import { newSigner, signer } from "../../simulation/ledger-run.ts";
import { auditLedger } from "../../support/audit.ts";
import { openEmptyDatabase, openTestDatabase, type TestDatabase } from "../../support/database.ts";
import { openTestFolder } from "../../support/embedded.ts";
import { flowRecord } from "../../support/flow-records.ts";

const log = createLog("silent");
const ids = createIds(clock, systemRandom);

test("every row and file is there again, and the ledger goes on where it was", async () => {
  await using source = await openSource();
  const bytes = await source.backup();
  await using target = await openTarget();
  const restored = await target.restore(bytes);
  assert.equal(restored.requeued, 1);
  assert.equal(restored.replaced, null);
  assert.deepEqual(restored.missing, [source.lostPath]);
  for (const table of await tablesOf(source.database)) {
    if (["migration", "trial", "allocation"].includes(table)) continue;
    assert.deepEqual(
      await contentOf(target.database, table),
      await contentOf(source.database, table),
    );
  }
  assert.deepEqual(await filesOf(target.home), await filesOf(source.home));
  // Days of traffic are partitions, which no migration makes.
  const traffic = createPostgresTraffic(target.database, { clock, log });
  await traffic.append([flowRecord(ids, clock.now())]);
  assert.equal((await Array.fromAsync(traffic.scan({}))).length, 3);
  // What ran is over, and costs its trial no try.
  const [trial] = await rows(
    target.database.sql,
    sql`select state, tries, lease_until,
        (select bool_and(ended_at is not null) from allocation) as is_ended
      from trial`,
  );
  assert.deepEqual(trial, { state: "running", tries: 1, lease_until: null, is_ended: true });
  await auditLedger(target.database);
  // The next transfer's number is beyond all that were.
  const ledger = createLedger(target.database, clock);
  const id = ids.next("transfer");
  const asked = { id, ...source.path, amountNanos: 5n, timeoutMs: 60_000 };
  assert.equal((await ledger.reserve(asked)).outcome, "reserved");
  const [last] = await rows<{ id: string }>(
    target.database.sql,
    sql`select id from transfer order by seq desc limit 1`,
  );
  assert.equal(last?.id, id);
  const journal = createJournal(target.database, clock, signer);
  const report = await createLedgerExport(target.database, clock, journal, signer).verify();
  assert.equal(report.fault, null);
});

test("a full place is refused; by force it is replaced, its files moved aside", async () => {
  await using source = await openSource();
  const bytes = await source.backup();
  await using target = await openTarget();
  await target.restore(bytes);
  const before = await contentOf(target.database, "transfer");
  await assert.rejects(target.restore(bytes), { code: "conflict", message: /not empty .*--force/ });
  assert.deepEqual(await contentOf(target.database, "transfer"), before);
  const { replaced } = await target.restore(bytes, { isForced: true });
  assert.ok(replaced !== null);
  assert.deepEqual(await filesOf(replaced), await filesOf(source.home));
  assert.deepEqual(await filesOf(target.home), await filesOf(source.home));
  assert.deepEqual(await contentOf(target.database, "transfer"), before);
  // A restore that was killed between its renames may be done again without force.
  await writeFile(join(target.home, RESTORING_MARK), "");
  await target.restore(bytes);
  assert.ok(!(await readdir(target.home)).includes(RESTORING_MARK));
});

test("what is cut, changed, or made by another version is refused, and changes nothing", async () => {
  await using source = await openSource();
  const bytes = await source.backup();
  await using target = await openTarget();
  const tar = zstdDecompressSync(bytes);
  const manifestAt = tar.lastIndexOf("manifest.json");
  const changed = Buffer.from(tar);
  const content = tar.indexOf("the bundle's bytes");
  assert.ok(content > 0 && manifestAt > content);
  changed[content] = 0x54;
  const head = (change: (head: BackupHead) => unknown) => withHead(bytes, change);
  const cases: [what: string, bytes: Buffer, message: RegExp][] = [
    ["cut in its compression", bytes.subarray(0, bytes.length - 10), /cut off|damaged/],
    ["cut before its manifest", zstdCompressSync(tar.subarray(0, manifestAt)), /cut off/],
    ["a byte of a file", zstdCompressSync(changed), /source.bundle is not as it was/],
    ["no archive", Buffer.from("not an archive at all"), /damaged or cut off/],
    [
      "another format",
      await head((is) => ({ ...is, format: "autocode-backup/9" })),
      /format autocode-backup\/9/,
    ],
    [
      "a newer autocode",
      await head((is) => ({
        ...is,
        version: "9.0.0",
        migrations: [...is.migrations, { version: 999, name: "0999_x", sha256: "0".repeat(64) }],
      })),
      /newer autocode \(9\.0\.0, migration 0999_x\)/,
    ],
    [
      "another code's migration",
      await head((is) => ({
        ...is,
        migrations: is.migrations.map((each) => ({ ...each, sha256: "0".repeat(64) })),
      })),
      /0001_ledger is not ours/,
    ],
  ];
  for (const [what, broken, message] of cases) {
    await assert.rejects(target.restore(broken), (error: Error) => {
      assert.match(error.message, message, what);
      return error.name === "Problem";
    });
    assert.deepEqual(await readdir(target.home), [], what);
    assert.deepEqual(await schemas(target.database), ["public"], what);
    assert.deepEqual(await tablesOf(target.database), [], what);
  }
});

test("where other secrets are, a signed ledger is another's: the refusal names both", async () => {
  await using source = await openSource();
  const bytes = await source.backup();
  await using target = await openTarget({ secretsEngine: "vault", ownSigner: newSigner() });
  await assert.rejects(target.restore(bytes), {
    code: "conflict",
    message: /another key than yours\).* Its secrets are in file, and here they are in vault: give/,
  });
  assert.deepEqual(await tablesOf(target.database), []);
});

test("a ledger that was tampered with is not restored", async () => {
  await using source = await openSource();
  await source.database.sql.execute(sql`
    update transfer set note = 'changed by hand'
    where id = (select transfer_id from journal_entry order by position limit 1)`);
  const bytes = await source.backup();
  await using target = await openTarget();
  await assert.rejects(target.restore(bytes), {
    code: "conflict",
    message: /ledger is not intact/,
  });
  assert.deepEqual(await readdir(target.home), []);
  assert.deepEqual(await tablesOf(target.database), []);
});

test("a COMMIT whose answer is lost: files and tables are of the same time, or none starts", async (t) => {
  await using source = await openSource();
  const bytes = await source.backup();

  await t.test("it was done: so is the restore", async () => {
    await using target = await openTarget();
    await using relay = await openRelay(target.database.url, { isForwarded: true });
    await target.restore(bytes, { databaseUrl: relay.url });
    assert.deepEqual(await filesOf(target.home), await filesOf(source.home));
    assert.ok(!(await readdir(target.home)).includes(RESTORING_MARK));
  });

  await t.test("it was not done: what was there is there", async () => {
    await using target = await openTarget();
    await using relay = await openRelay(target.database.url, { isForwarded: false });
    const settings = join(target.home, "shared/configs/settings.yaml");
    await mkdir(dirname(settings), { recursive: true });
    await writeFile(settings, "old");
    await assert.rejects(target.restore(bytes, { databaseUrl: relay.url }), /terminated/);
    assert.equal(await readFile(settings, "utf8"), "old");
    assert.deepEqual(await tablesOf(target.database), []);
    assert.ok(!(await readdir(target.home)).includes(RESTORING_MARK));
    // After a restore that was cut off, the mark outlives one that fails.
    await writeFile(join(target.home, RESTORING_MARK), "");
    await assert.rejects(target.restore(bytes, { databaseUrl: relay.url }), /terminated/);
    assert.ok((await readdir(target.home)).includes(RESTORING_MARK));
  });

  await t.test(
    "nobody can say: the new files and the mark stay, until it is done again",
    async () => {
      await using target = await openTarget();
      const fate = { isForwarded: true, isGone: true };
      await using relay = await openRelay(target.database.url, fate);
      await assert.rejects(target.restore(bytes, { databaseUrl: relay.url }), {
        code: "unavailable",
        message: /does not say whether .* Run `autocode restore` again/,
      });
      assert.deepEqual(await filesOf(target.home), await filesOf(source.home));
      assert.ok((await readdir(target.home)).includes(RESTORING_MARK));
      await target.restore(bytes);
      assert.deepEqual(await filesOf(target.home), await filesOf(source.home));
      assert.ok(!(await readdir(target.home)).includes(RESTORING_MARK));
    },
  );
});

test("a path that leads out of the folder is refused", async () => {
  await using source = await openSource();
  const bytes = await source.backup();
  let head: BackupHead | null = null;
  await readArchive(Readable.from([bytes]), {
    head: async (found) => {
      head = found;
    },
    entry: async (_name, content) => {
      for await (const _ of content);
    },
  });
  const evil = await collect(
    writeArchive(async (archive) => {
      await archive.addText("head.json", JSON.stringify(head));
      await archive.addText("files/projects/../../evil", "x");
      const manifest = { entries: archive.entries(), sequences: [], missing: [] };
      await archive.addText("manifest.json", JSON.stringify(manifest));
    }),
  );
  await using target = await openTarget();
  await assert.rejects(target.restore(evil), { message: /evil is no file of ours/ });
  assert.deepEqual(await readdir(target.home), []);
});

test("one backup at a time; a reader that leaves ends it", async () => {
  await using source = await openSource();
  const backups = source.backups;
  const first = await backups.open();
  await assert.rejects(backups.open(), { code: "rate_limited" });
  first.destroy();
  await new Promise((resolve) => first.once("close", resolve));
  const bytes = await collect(await backups.open());
  assert.ok(bytes.length > 1_000);
});

async function openSource() {
  const folder = await openTestFolder();
  const home = join(folder.path, "home");
  const database = await openTestDatabase();
  const layout = createLayout(home);
  const payer = await openPayer(database, 1_000_000n);
  const { trialId, projectId } = payer.grant;
  const ledger = createLedger(database, clock);
  const path = { budget: payer.budget, within: [payer.project], spend: payer.spend };
  for (let count = 0; count < 20; count++) {
    const id = ids.next("transfer");
    await ledger.reserve({ id, ...path, amountNanos: 100n, timeoutMs: 3_600_000 });
    if (count % 3 === 0) continue;
    await ledger.settle({ id: ids.next("transfer"), pendingId: id, amountNanos: 60n });
  }
  const [task] = await rows<{ id: string }>(database.sql, sql`select id from task`);
  const { source } = layout.task(projectId, task?.id ?? "");
  const allocation = ids.next("allocation");
  const [one, two] = [ids.next("checkpoint"), ids.next("checkpoint")];
  const hash = "ab".repeat(32);
  const text = "A tab\t, a line\nand a \\ in it: \u00e9\u{1f600}";
  const insert = sql`insert into checkpoint (id, trial_id, allocation_id, parent_id, cause, resume,
    manifest_sha256, file_count, byte_count, new_byte_count, created_at)`;
  for (const statement of [
    sql`insert into allocation (id, trial_id, purpose, fence, scheduler, heartbeat_at, created_at)
      values (${allocation}, ${trialId}, 'agent', 1, 'local', now(), now())`,
    sql`update trial set allocation_id = ${allocation}, tries = 2, reason = ${text},
      lease_until = now() + interval '1 hour' where id = ${trialId}`,
    sql`${insert} values (${one}, ${trialId}, ${allocation}, null, 'phase', '{}', ${hash}, 1, 1, 1, now())`,
    sql`${insert} values (${two}, ${trialId}, ${allocation}, ${one}, 'phase', '{}', ${hash}, 1, 1, 1, now())`,
    sql`update trial set forked_from = ${two} where id = ${trialId}`,
    sql`insert into checkpoint_blob (checkpoint_id, project_id, sha256)
      values (${one}, ${projectId}, ${hash})`,
    sql`insert into artefact (trial_id, allocation_id, name, byte_count, updated_at)
      values (${trialId}, ${allocation}, 'lost.txt', 1, now())`,
  ]) {
    await database.sql.execute(statement);
  }
  const flows = [0, 3].map((days) => flowRecord(ids, clock.now() - days * 86_400_000));
  await createPostgresTraffic(database, { clock, log }).append(flows);
  const blob = join(layout.project(projectId).checkpoints, "blobs/ab", hash);
  const files: [string, string][] = [
    [source, "the bundle's bytes"],
    [blob, "a content"],
    [join(layout.configs, "settings.yaml"), "a: 1"],
    [join(layout.secrets, "secrets.key"), "key"],
    [join(layout.project(projectId).workerArtifacts, "empty.txt"), ""],
  ];
  const left: [string, string][] = [
    [layout.endpoint, "{}"],
    [join(home, "shared/configs/endpoint-1.json"), "{}"],
    [join(layout.project(projectId).tasks, ".making-x/source.bundle"), "half"],
    [join(layout.logs, "orchestrator.log"), "log"],
  ];
  for (const [file, content] of [...files, ...left]) {
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  const journal = createJournal(database, clock, signer);
  await createLedgerExport(database, clock, journal, signer).verify();
  const lost = layout.artefact(projectId, trialId, allocation, "lost.txt");
  const secrets = { name: "file", publicKey: signer.publicKey };
  const { url: databaseUrl } = database;
  const backups = createBackups({ databaseUrl, layout, clock, version: "0.1.0", secrets });
  return {
    home,
    database,
    path,
    backups,
    lostPath: lost.slice(home.length + 1),
    backup: async () => collect(await backups.open()),
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function openTarget({ secretsEngine = "file", ownSigner = signer } = {}) {
  const folder = await openTestFolder();
  const home = join(folder.path, "home");
  await mkdir(home);
  const database = await openEmptyDatabase();
  const verifyLedger: RestoreTarget["verifyLedger"] = async (url) => {
    await using db = await openPostgresDatabase({ url, log });
    const journal = createJournal(db, clock, ownSigner);
    return await createLedgerExport(db, clock, journal, ownSigner).verify();
  };
  return {
    home,
    database,
    restore: async (bytes: Buffer, { isForced = false, databaseUrl = database.url } = {}) => {
      const result = await restore({
        ...{ home, databaseUrl, clock, log, secretsEngine, isForced, verifyLedger },
        open: () => Readable.from([bytes]),
        onProgress: () => {},
      });
      assert.deepEqual(await migrate(database), []);
      return result;
    },
    [Symbol.asyncDispose]: async () => {
      await database[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/**
 * A line to the database that is cut at the COMMIT by which the restored tables take their place:
 * before the database has it, or after it has done it. When it `isGone`, it is never back.
 */
async function openRelay(
  databaseUrl: string,
  { isForwarded, isGone = false }: { isForwarded: boolean; isGone?: boolean },
) {
  const { hostname, port } = new URL(databaseUrl);
  let isDown = false;
  const server = createServer((client) => {
    if (isDown) return client.destroy();
    const database = connect(Number(port), hostname);
    const cut = () => {
      client.destroy();
      database.destroy();
    };
    for (const socket of [client, database]) socket.on("error", cut).on("close", cut);
    let isTaking = false;
    database.pipe(client);
    client.on("data", (bytes) => {
      const text = bytes.toString("latin1");
      isTaking ||= text.includes('drop schema "autocode_restore"');
      if (!isTaking || !text.includes("commit\0")) return database.write(bytes);
      isDown = isGone;
      if (!isForwarded) return cut();
      database.unpipe(client).once("data", cut).resume();
      return database.write(bytes);
    });
    return undefined;
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const url = new URL(databaseUrl);
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  return {
    url: url.href,
    [Symbol.asyncDispose]: async () => {
      await new Promise((closed) => server.close(closed));
    },
  };
}

/** The archive with another head, its manifest made to fit. */
async function withHead(bytes: Buffer, change: (head: BackupHead) => unknown): Promise<Buffer> {
  return collect(
    writeArchive(async (archive) => {
      const manifest = await readArchive(Readable.from([bytes]), {
        head: (head) => archive.addText("head.json", JSON.stringify(change(head))),
        entry: async (name, content) => {
          const all = await collect(content);
          await archive.add(name, all.length, Readable.from([all]));
        },
      });
      const entries = archive.entries();
      await archive.addText("manifest.json", JSON.stringify({ ...manifest, entries }));
    }),
  );
}

async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function schemas(db: Database): Promise<string[]> {
  const found = await rows<{ name: string }>(
    db.sql,
    sql`select nspname as name from pg_namespace
      where nspname !~ '^pg_' and nspname <> 'information_schema'`,
  );
  return found.map(({ name }) => name);
}

async function tablesOf(db: Database): Promise<string[]> {
  const found = await rows<{ name: string }>(
    db.sql,
    sql`select relname as name from pg_class
      where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
      order by relname`,
  );
  return found.map(({ name }) => name);
}

async function contentOf(db: TestDatabase, table: string): Promise<unknown[]> {
  return rows(
    db.sql,
    sql`select to_jsonb(each) as row from ${sql.identifier(table)} as each
      order by to_jsonb(each)::text collate "C"`,
  );
}

/** What a backup must have, by its path, with its bytes. */
async function filesOf(home: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const root of ["projects", "shared/configs", "shared/vault-secrets"]) {
    for (const entry of await readdir(join(home, root), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (!entry.isFile() || /endpoint|[.]making-/.test(path)) continue;
      found[path.slice(home.length)] = await readFile(path, "utf8");
    }
  }
  return found;
}
