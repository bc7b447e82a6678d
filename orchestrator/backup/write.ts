/** Makes backups of the running installation. */
import { Readable } from "node:stream";
import pg from "pg";
import { Problem } from "../problem.ts";
import type { Layout } from "../projects/layout.ts";
import { type Clock, rfc3339 } from "../runtime/clock.ts";
import { type ArchiveWriter, writeArchive } from "./archive.ts";
import {
  BACKUP_FORMAT,
  BACKUP_LOCK,
  type BackupHead,
  type BackupManifest,
  type Backups,
} from "./backup.ts";
import { listFiles, openFile, readSecretFiles } from "./files.ts";
import { copyOut, listSequences, listTables } from "./tables.ts";

export interface BackupSource {
  /** A connection of its own is made to it: COPY is no statement of the pool's. */
  databaseUrl: string;
  layout: Layout;
  clock: Clock;
  version: string;
  secrets: { name: string; publicKey(): Promise<string> };
}

/** Rows that say nothing on another database: who runs, and who leads. */
const NOT_COPIED = new Set(["orchestrator", "duty"]);
const PART_BYTES = 4 * 1024 * 1024;
const FILES_TRIES = 3;
const NEWLINE = 10;

export function createBackups(source: BackupSource): Backups {
  let isUnderWay = false;
  return { open };

  async function open(): Promise<Readable> {
    if (isUnderWay) {
      throw new Problem("rate_limited", "A backup is under way: try again when it is done");
    }
    isUnderWay = true;
    // A Vault that is sealed keeps nobody from a backup.
    const key = await source.secrets.publicKey().catch(() => "");
    const out = writeArchive((archive) => write(source, archive, key));
    out.once("close", () => {
      isUnderWay = false;
    });
    return out;
  }
}

async function write(source: BackupSource, archive: ArchiveWriter, key: string): Promise<void> {
  const client = new pg.Client({
    connectionString: source.databaseUrl,
    application_name: "autocode backup",
    // Its reader may be slow; whoever leaves it ends the connection.
    idle_in_transaction_session_timeout: 0,
  });
  client.on("error", () => {});
  await client.connect();
  try {
    // Before the snapshot: what a row of it names is not removed until we are done.
    await client.query("select pg_advisory_lock_shared($1)", [BACKUP_LOCK]);
    await client.query("begin isolation level repeatable read, read only");
    const head = await readHead(source, client, key);
    await archive.addText("head.json", JSON.stringify(head));
    for (const table of head.tables) await addTable(archive, client, table);
    const named = await namedFiles(source.layout, client);
    const sequences = await listSequences(client);
    await client.query("commit");
    const copied = await addFiles(archive, source.layout.home);
    const missing = [...named].filter((path) => !copied.has(path));
    const manifest: BackupManifest = { entries: archive.entries(), sequences, missing };
    await archive.addText("manifest.json", JSON.stringify(manifest));
  } finally {
    await client.end();
  }
}

async function readHead(
  { clock, version, secrets }: BackupSource,
  client: pg.Client,
  key: string,
): Promise<BackupHead> {
  const { rows: migrations } = await client.query<BackupHead["migrations"][number]>(
    "select version, name, sha256 from migration order by version",
  );
  const { rows } = await client.query<{ server_version: string }>("show server_version");
  const tables = (await listTables(client)).filter(
    ({ name }) => name !== "migration" && !NOT_COPIED.has(name),
  );
  return {
    format: BACKUP_FORMAT,
    created_at: rfc3339(clock.now()),
    version,
    postgres: rows[0]?.server_version ?? "",
    secrets: secrets.name,
    key,
    migrations,
    tables,
  };
}

/** In parts, since an entry says its length before its bytes; each ends with a row. */
async function addTable(
  archive: ArchiveWriter,
  client: pg.Client,
  table: BackupHead["tables"][number],
): Promise<void> {
  let part = 0;
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of copyOut(client, table)) {
    held.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes >= PART_BYTES) await addPart();
  }
  await addPart();

  async function addPart(): Promise<void> {
    const bytes = Buffer.concat(held);
    // A line end inside a value is written as \n in COPY's text.
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    held = [bytes.subarray(end)];
    heldBytes = bytes.length - end;
    if (end === 0) return;
    const name = `database/${table.name}.${String(++part).padStart(6, "0")}`;
    await archive.add(name, end, Readable.from([bytes.subarray(0, end)]));
  }
}

/** The files that the snapshot's rows name. */
async function namedFiles(layout: Layout, client: pg.Client): Promise<Set<string>> {
  const paths = new Set<string>();
  const note = (path: string) => paths.add(path.slice(layout.home.length + 1));
  const tasks = await client.query<{ project_id: string; id: string; has_hidden_tests: boolean }>(
    "select project_id, id, has_hidden_tests from task",
  );
  for (const { project_id: project, id, has_hidden_tests: hasTests } of tasks.rows) {
    const { source, tests } = layout.task(project, id);
    note(source);
    if (hasTests) note(tests);
  }
  const artefacts = await client.query<{
    project_id: string;
    trial_id: string;
    allocation_id: string;
    name: string;
  }>(
    `select project_id, trial_id, artefact.allocation_id, artefact.name
      from artefact join trial on trial.id = trial_id`,
  );
  for (const { project_id: project, trial_id: trial, allocation_id, name } of artefacts.rows) {
    note(layout.artefact(project, trial, allocation_id, name));
  }
  const blobs = await client.query<{ project_id: string; sha256: string }>(
    "select distinct project_id, sha256 from checkpoint_blob",
  );
  for (const { project_id: project, sha256 } of blobs.rows) {
    note(`${layout.project(project).checkpoints}/blobs/${sha256.slice(0, 2)}/${sha256}`);
  }
  return paths;
}

/** For what went while others were copied its successor is looked for. */
async function addFiles(archive: ArchiveWriter, home: string): Promise<Set<string>> {
  const copied = new Set<string>();
  for (let tried = 1; ; tried++) {
    let isWhole = true;
    for await (const path of listFiles(home)) {
      if (copied.has(path)) continue;
      const file = await openFile(home, path);
      if (file === null) {
        isWhole = false;
        continue;
      }
      await archive.add(`files/${path}`, file.byteCount, file.bytes);
      copied.add(path);
    }
    if (isWhole || tried === FILES_TRIES) break;
  }
  for (const [path, bytes] of await readSecretFiles(home)) {
    await archive.add(`files/${path}`, bytes.length, Readable.from([bytes]));
    copied.add(path);
  }
  return copied;
}
