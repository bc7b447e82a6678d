/**
 * Goal: a backup that is made while the secrets are sealed anew, written to, or their key is
 * rotated has secrets that open; one that is made while their keeper does not answer is a backup.
 *
 * Method: a real store that is sealed anew all the while, with key files and with passphrases; each
 * backup is read by the archive's own reader, and its secrets are opened where they were put.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { test } from "node:test";
import { readArchive } from "../../../orchestrator/backup/archive.ts";
import type { BackupHead } from "../../../orchestrator/backup/backup.ts";
import { putFile } from "../../../orchestrator/backup/files.ts";
import { createBackups } from "../../../orchestrator/backup/write.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import { createLayout } from "../../../orchestrator/projects/layout.ts";
import { systemClock as clock } from "../../../orchestrator/runtime/clock.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";
import type { Secrets } from "../../../orchestrator/secrets/secrets.ts";
import { openTestDatabase } from "../../support/database.ts";
import { openTestFolder } from "../../support/embedded.ts";

const PASSPHRASE = "correct horse battery staple";
/** Made at least, while the secrets were sealed so often. */
const BACKUPS = 8;
const ROUNDS = 9;
/** How the store may be sealed when it is read: by its key file, or by the passphrase. */
const WAYS = [null, PASSPHRASE];

test("a backup while the secrets are sealed anew has the key that opens them", async () => {
  await using folder = await openTestFolder();
  await using database = await openTestDatabase();
  const layout = createLayout(join(folder.path, "home"));
  const sealed = { dir: layout.secrets, passphrase: null };
  const secrets = await openFileSecrets(sealed, systemRandom);
  await secrets.put("provider/x", "kept");
  const given = { databaseUrl: database.url, layout, clock, version: "0.1.0", secrets };
  const backups = createBackups(given);
  const isDone = { value: false };
  let rounds = 0;
  const changing = (async () => {
    while (!isDone.value) {
      await secrets.reseal(rounds % 3 === 2 ? PASSPHRASE : null);
      if (rounds % 4 === 0) await secrets.rotateKey();
      rounds += 1;
    }
  })();
  try {
    for (let number = 0; number < BACKUPS || rounds < ROUNDS; number++) {
      const into = join(folder.path, `restored-${number}`);
      await unpack(await backups.open(), into);
      const found = await openAnyWay(createLayout(into).secrets);
      assert.equal((await found.get("provider/x"))?.value, "kept");
    }
  } finally {
    isDone.value = true;
    await changing;
  }
});

test("a sealed Vault keeps nobody from a backup, which says whose secrets it lacks", async () => {
  await using folder = await openTestFolder();
  await using database = await openTestDatabase();
  const layout = createLayout(join(folder.path, "home"));
  const secrets = {
    name: "vault",
    publicKey: async (): Promise<string> => {
      throw new Problem("secrets_sealed", "Vault is sealed: vault operator unseal");
    },
  };
  const given = { databaseUrl: database.url, layout, clock, version: "0.1.0", secrets };
  const { head } = await unpack(await createBackups(given).open(), join(folder.path, "restored"));
  assert.deepEqual([head?.secrets, head?.key], ["vault", ""]);
});

/** Puts the files of a backup into a folder; its head. */
async function unpack(backup: Readable, into: string): Promise<{ head: BackupHead | null }> {
  const found: { head: BackupHead | null } = { head: null };
  await readArchive(backup, {
    head: async (head) => {
      found.head = head;
    },
    entry: async (name, bytes) => {
      if (name.startsWith("files/")) await putFile(into, name.slice("files/".length), bytes);
      else await Array.fromAsync(bytes);
    },
  });
  return found;
}

async function openAnyWay(dir: string): Promise<Secrets> {
  for (const passphrase of WAYS) {
    const opened = await openFileSecrets({ dir, passphrase }, systemRandom).catch((error) => {
      if (error instanceof Problem && error.code === "secrets_sealed") return null;
      throw error;
    });
    if (opened !== null && (await opened.status()).state === "ready") return opened;
  }
  throw new Error(`${dir} opens neither by its key file nor by the passphrase`);
}
