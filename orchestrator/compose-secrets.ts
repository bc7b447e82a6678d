/** Which engine is behind the secrets port: a sealed file, a Vault, or the environment. */
import { readFile } from "node:fs/promises";
import type { Config } from "./config.ts";
import type { VaultConfig } from "./config-engines.ts";
import type { Finding } from "./contract/system.ts";
import type { Journal } from "./ledger/journal.ts";
import { Problem } from "./problem.ts";
import { createLayout } from "./projects/layout.ts";
import type { BackgroundTask } from "./runtime/background.ts";
import { systemClock as clock } from "./runtime/clock.ts";
import type { Log } from "./runtime/log.ts";
import { systemRandom as random } from "./runtime/random.ts";
import { type ApiKeys, createApiKeys } from "./secrets/api-keys.ts";
import { createEnvSecrets } from "./secrets/env.ts";
import { holdsFileSecrets, openFileSecrets } from "./secrets/file.ts";
import type { Secrets, SecretsState } from "./secrets/secrets.ts";
import { createVaultSecrets } from "./secrets/vault.ts";
import { createVaultClient } from "./secrets/vault-client.ts";
import { createSecretsWatch, type SecretsWatch } from "./secrets/watch.ts";

export interface OpenedSecrets extends AsyncDisposable {
  secrets: Secrets;
  /** The same for all who share one store. */
  identity: string;
  /** Seals the store anew; null where its engine does that itself. */
  reseal: ((passphrase: string | null) => Promise<void>) | null;
  watch: SecretsWatch;
  apiKeys: ApiKeys;
  /** What `autocode doctor` says. */
  describe(): Promise<Finding>;
  /** A line of `/readyz`: null when they can be opened. */
  fault(): Promise<string | null>;
}

type SecretsSettings = Pick<Config, "home" | "secrets" | "readApiKey">;

const REFRESH_MS = 10_000;
const NEXT_STEP: Readonly<Record<Exclude<SecretsState, "ready">, string>> = {
  sealed: "unseal it; what waits goes on by itself",
  denied: "give its role the policy that autocode vault init writes",
  expired: "renew our login, as it says",
  unreachable: "start it, or set VAULT_ADDR to where it is",
};

/**
 * A Vault that cannot be used now is no fault: what needs a secret waits for it.
 *
 * @throws Problem `secrets_sealed` when the sealed file is there and cannot be opened.
 */
export async function openSecrets(config: SecretsSettings, log: Log): Promise<OpenedSecrets> {
  const { secrets, identity, reseal, close } = await openEngine(config);
  const watch = createSecretsWatch(secrets, log);
  const apiKeys = createApiKeys(secrets, config.readApiKey, log);
  await Promise.all([watch.last(), apiKeys.refresh()]);
  return {
    ...{ secrets, identity, reseal, watch, apiKeys, describe, fault },
    [Symbol.asyncDispose]: close,
  };

  async function describe(): Promise<Finding> {
    const { state, detail } = await watch.last();
    const why = config.secrets.why;
    if (state === "ready") {
      return { part: "secrets", status: "ok", detail: `${detail}; ${why}`, next_step: null };
    }
    const told = `${state.toUpperCase()}: ${detail}; ${why}`;
    return { part: "secrets", status: "warn", detail: told, next_step: NEXT_STEP[state] };
  }

  async function fault(): Promise<string | null> {
    const { state, detail } = await watch.last();
    return state === "ready" ? null : `${state}: ${detail}`;
  }
}

/** Of a gateway's own process: it signs nothing, and makes no store where there is none. */
export async function openApiKeys(
  config: SecretsSettings,
  log: Log,
): Promise<ApiKeys & AsyncDisposable & { secrets: Secrets | null }> {
  const { home, secrets: wanted, readApiKey } = config;
  const isThere =
    wanted.engine !== "file" || (await holdsFileSecrets(createLayout(home).secrets, random));
  const opened = isThere ? await openEngine(config) : null;
  const apiKeys = createApiKeys(opened?.secrets ?? null, readApiKey, log);
  await apiKeys.refresh();
  return {
    ...apiKeys,
    secrets: opened?.secrets ?? null,
    [Symbol.asyncDispose]: async () => opened?.close(),
  };
}

/** Makes rotated keys known; `onChange` is told once they are. */
export function refreshTask(apiKeys: ApiKeys, onChange: () => void): BackgroundTask {
  return {
    name: "read_provider_keys",
    periodMs: REFRESH_MS,
    activate: () => changedKeys(apiKeys, onChange),
  };
}

/** What an admin wrote is in force at once here, and elsewhere with the next look. */
export async function changedKeys(apiKeys: ApiKeys, onChange: () => void): Promise<void> {
  if (await apiKeys.refresh()) onChange();
}

/** Signs the journal's end; while it cannot be signed, the chain itself goes on. */
export function sealTask(journal: Pick<Journal, "activate">): BackgroundTask {
  return {
    name: "seal_journal",
    periodMs: 1_000,
    activate: async () => {
      try {
        return await journal.activate();
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== "secrets_sealed") throw error;
        return { waits_for: "secrets" };
      }
    },
  };
}

type Engine = Pick<OpenedSecrets, "secrets" | "identity" | "reseal"> & {
  close(): Promise<void>;
};

async function openEngine({ home, secrets: wanted }: SecretsSettings): Promise<Engine> {
  const done = async () => {};
  if (wanted.engine === "env") {
    return { secrets: createEnvSecrets(wanted.env), identity: "env", reseal: null, close: done };
  }
  if (wanted.vault !== null) return openVault(wanted.vault);
  const { passphrase, passphraseFile } = wanted;
  const dir = createLayout(home).secrets;
  const secrets = await openFileSecrets({ dir, passphrase, passphraseFile }, random);
  return { secrets, identity: "file", reseal: secrets.reseal, close: done };
}

async function openVault(vault: VaultConfig): Promise<Engine> {
  const { address, namespace, caFile, timeoutMs, kvMount, prefix, transitMount } = vault;
  const ca = caFile === null ? null : await readFile(caFile, "utf8");
  const client = createVaultClient({ address, namespace, ca, timeoutMs });
  const secrets = createVaultSecrets(client, vault, clock);
  const places = [address, namespace ?? "", kvMount, prefix, transitMount, vault.transitKey];
  return { secrets, identity: places.join(" "), reseal: null, close: client.close };
}
