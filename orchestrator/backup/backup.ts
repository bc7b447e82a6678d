/**
 * The backup port: a whole installation in one stream.
 *
 * A tar, compressed with Zstandard, in this order:
 *
 *     head.json                  BackupHead: whose it is, and what must read it
 *     database/<table>.<part>    COPY's text of one snapshot of all tables, in parts
 *     files/<path>               the data folder: bundles, artefacts, checkpoints, sealed secrets
 *     manifest.json              BackupManifest: the hash and size of every entry before it
 *
 * The snapshot comes first. A file is written before the row that names it, and what is removed
 * waits for the backup's end (`BACKUP_LOCK`): so every file that a row of the snapshot names is
 * still there when its turn comes.
 *
 * Invariant: a backup without a manifest that fits is no backup; nothing of it is restored.
 */
import type { Readable } from "node:stream";
import { type Static, Type } from "typebox";

export const BACKUP_FORMAT = "autocode-backup/1";

/** A number of its own: held in common while files are copied, alone by whoever removes some. */
export const BACKUP_LOCK = 7_205_760;

export type BackupHead = Static<typeof BackupHead>;
export const BackupHead = Type.Object({
  format: Type.Literal(BACKUP_FORMAT),
  created_at: Type.String(),
  version: Type.String(),
  postgres: Type.String(),
  /** What keeps the secrets: of a Vault's there is nothing in here. */
  secrets: Type.String(),
  /** Signs the ledger's checkpoints; empty when its keeper did not answer. */
  key: Type.String(),
  migrations: Type.Array(
    Type.Object({ version: Type.Integer(), name: Type.String(), sha256: Type.String() }),
  ),
  tables: Type.Array(
    Type.Object({
      name: Type.String({ pattern: "^[a-z_][a-z0-9_]*$" }),
      columns: Type.Array(Type.String({ pattern: "^[a-z_][a-z0-9_]*$" })),
    }),
  ),
});

export type BackupManifest = Static<typeof BackupManifest>;
export const BackupManifest = Type.Object({
  entries: Type.Array(
    Type.Object({
      name: Type.String(),
      byte_count: Type.Integer({ minimum: 0 }),
      sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }),
    }),
  ),
  /** The last number of each identity column, read after the snapshot: never too low. */
  sequences: Type.Array(
    Type.Object({ table: Type.String(), column: Type.String(), last: Type.String() }),
  ),
  /** Files that rows name and this installation had lost before. */
  missing: Type.Array(Type.String()),
});

export interface Backups {
  /**
   * The backup's bytes; the stream fails when it cannot be completed.
   *
   * @throws Problem `rate_limited` while another is under way.
   */
  open(): Promise<Readable>;
}

/** A file of the data folder while a restored installation takes its place. */
export const RESTORING_MARK = "restoring";

/** What of the data folder is in a backup: all below these. */
export const BACKUP_ROOTS = ["projects", "shared/configs", "shared/vault-secrets"] as const;

/** Of the roots the one whose files belong to each other: what is sealed, and its key. */
export const SECRETS_ROOT = "shared/vault-secrets" satisfies (typeof BACKUP_ROOTS)[number];

/** Where a process listens, drafts, and snapshots that are being made. */
export const NOT_IN_BACKUP =
  /(^|\/)(endpoint(-\d+)?\.json|\.[^/]*|[^/]*\.(making|bare)-[^/]*)(\/|$)/;
