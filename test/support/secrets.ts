/** A sealed file of the process's own, opened once: for tests that need signatures, not a store. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemRandom } from "../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../orchestrator/secrets/file.ts";
import type { Secrets } from "../../orchestrator/secrets/secrets.ts";

let opened: Promise<Secrets> | null = null;

export function testSecrets(): Promise<Secrets> {
  opened ??= open();
  return opened;
}

async function open(): Promise<Secrets> {
  const dir = mkdtempSync(join(tmpdir(), "autocode-secrets-"));
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  return openFileSecrets({ dir, passphrase: null }, systemRandom);
}
