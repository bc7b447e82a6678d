/**
 * The secrets port over a server of the Vault API (tested with OpenBao): values in a KV v2 mount
 * under one prefix, signatures by a transit key that never leaves it.
 *
 * Invariant: nothing is kept here but our token and public keys. While Vault cannot be used, every
 * function but `status` and the check of a signature refuses, in words that say what to do.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "../problem.ts";
import type { Clock } from "../runtime/clock.ts";
import {
  checkPath,
  checkValue,
  type PutResult,
  type ScopedGrant,
  type ScopedToken,
  type Secret,
  type Secrets,
  type SecretsStatus,
  secretsFault,
  statusOf,
} from "./secrets.ts";
import { type VaultClient, VaultFault } from "./vault-client.ts";
import { createGate } from "./vault-gate.ts";
import { createVaultKeys } from "./vault-keys.ts";
import { createVaultTokens, type VaultLogin } from "./vault-login.ts";
import { issueFromCubbyhole } from "./vault-scoped.ts";

export interface VaultSecretsOptions {
  login: VaultLogin;
  /** KV v2. */
  kvMount: string;
  /** Under it; words with slashes between them. */
  prefix: string;
  transitMount: string;
  transitKey: string;
  /** The token role that `issueScoped` makes tokens with. */
  scopedRole: string;
  /** After a fault, the wait before one asker tries again. */
  againMs?: number;
}

const AGAIN_MS = 1_000;
const RETRY_MS = 100;
const WRITES_MAX = 20;
const FOLDERS_MAX = 1_000;

export function createVaultSecrets(
  client: VaultClient,
  options: VaultSecretsOptions,
  clock: Clock,
): Secrets {
  const { login, kvMount, prefix, transitMount, transitKey, againMs = AGAIN_MS } = options;
  const tokens = createVaultTokens(client, login, clock);
  const gate = createGate(clock, { againMs });
  const keys = createVaultKeys(
    {
      read: (path) => ask(path, (token) => client.read(path, { token })),
      write: (path, body) => ask(path, (token) => client.write(path, body, { token })),
    },
    { mount: transitMount, key: transitKey },
    clock,
  );
  return {
    name: "vault",
    can: { canWrite: true, canRotateKey: true, canIssueScoped: true },
    ...{ status, get, put, list, remove, issueScoped },
    sign: keys.sign,
    verify: keys.verify,
    publicKey: keys.publicKey,
    publicKeys: keys.publicKeys,
    rotateKey: keys.rotate,
  };

  /** Asks for what each trial needs: that we may sign. */
  function status(): Promise<SecretsStatus> {
    return statusOf(async () => {
      await keys.look();
      return `Vault at ${client.address}, by ${login.kind}`;
    });
  }

  async function get(path: string, version?: number): Promise<Secret | null> {
    checkPath(path);
    const query = version === undefined ? "" : `?version=${version}`;
    const place = `${kvMount}/data/${prefix}/${path}`;
    const answer = await found(() =>
      ask(place, (token) => client.read(`${place}${query}`, { token })),
    );
    const kept = answer?.data?.["data"] as Record<string, unknown> | null | undefined;
    if (kept == null) return null;
    const { value } = kept;
    if (typeof value !== "string") {
      throw new Problem("conflict", `The secret ${place} has no text "value": write it so`);
    }
    const metadata = answer?.data?.["metadata"] as { version: number };
    return { value, version: metadata.version };
  }

  async function put(
    path: string,
    value: string,
    { expectedVersion }: { expectedVersion?: number } = {},
  ): Promise<PutResult> {
    checkPath(path);
    checkValue(path, value);
    if (expectedVersion !== undefined) return putNext(path, value, expectedVersion);
    for (let attempt = 0; attempt < WRITES_MAX; attempt++) {
      const result = await putNext(path, value, await versionOf(path));
      if (result.outcome === "stored") return result;
    }
    throw new Problem("unavailable", "Others write this secret all the time: try again");
  }

  async function putNext(path: string, value: string, expected: number): Promise<PutResult> {
    const place = `${kvMount}/data/${prefix}/${path}`;
    const body = { data: { value }, options: { cas: expected } };
    try {
      // Not repeated: one that was done, and whose answer was lost, would be taken for another's.
      const { data } = await ask(place, (token) => client.write(place, body, { token }), 1);
      return { outcome: "stored", version: Number(data?.["version"]) };
    } catch (error) {
      if (!(error instanceof VaultFault) || error.kind !== "cas") throw refusedAs(place, error);
      return { outcome: "version_mismatch", version: await versionOf(path) };
    }
  }

  /** The latest version, deleted or not; 0: there never was one. */
  async function versionOf(path: string): Promise<number> {
    const place = `${kvMount}/metadata/${prefix}/${path}`;
    const answer = await found(() => ask(place, (token) => client.read(place, { token })));
    return Number(answer?.data?.["current_version"] ?? 0);
  }

  async function list(folder?: string): Promise<string[]> {
    const paths: string[] = [];
    const folders = [folder === undefined ? "" : `${folder}/`];
    for (let at = 0; at < folders.length; at++) {
      if (at >= FOLDERS_MAX) throw new Problem("too_large", "There are too many secrets to list");
      const inside = folders[at] ?? "";
      const place = `${kvMount}/metadata/${prefix}/${inside}`;
      const names = (await found(() => ask(place, (token) => client.list(place, { token })))) ?? [];
      for (const name of names) (name.endsWith("/") ? folders : paths).push(`${inside}${name}`);
    }
    return paths.sort();
  }

  async function remove(path: string): Promise<boolean> {
    checkPath(path);
    if ((await versionOf(path)) === 0) return false;
    const place = `${kvMount}/metadata/${prefix}/${path}`;
    await ask(place, (token) => client.remove(place, { token }));
    return true;
  }

  async function issueScoped(grant: ScopedGrant): Promise<ScopedToken> {
    const values: { path: string; value: string }[] = [];
    for (const path of grant.paths) {
      const secret = await get(path);
      if (secret === null) throw new Problem("not_found", `There is no secret ${path}`);
      values.push({ path, value: secret.value });
    }
    const place = `auth/token/create/${options.scopedRole}`;
    return found404(place, () =>
      ask(place, (token) => issueFromCubbyhole({ client, token, place, grant, values }), 1),
    );
  }

  /** @throws Problem for what a person must mend; VaultFault for what the caller may expect. */
  function ask<Answer>(
    place: string,
    run: (token: string) => Promise<Answer>,
    attempts = 2,
  ): Promise<Answer> {
    return gate.pass(async () => {
      for (let attempt = 1; ; attempt++) {
        try {
          return await withToken(place, run);
        } catch (error) {
          if (!isCutOff(error) || attempt >= attempts) throw told(error);
          await sleep(RETRY_MS);
        }
      }
    });
  }

  async function withToken<Answer>(
    place: string,
    run: (token: string) => Promise<Answer>,
  ): Promise<Answer> {
    const token = await tokens.token();
    try {
      return await run(token);
    } catch (error) {
      if (!(error instanceof VaultFault) || error.kind !== "forbidden") throw error;
      if (await tokens.replace(token)) return run(await tokens.token()).catch(denied);
      return denied(error);
    }

    function denied(error: unknown): never {
      if (!(error instanceof VaultFault) || error.kind !== "forbidden") throw error;
      const what = `Vault denies us ${place}: ${error.message}`;
      throw secretsFault("denied", `${what}; its policy for us lacks it`, error);
    }
  }

  function told(error: unknown): unknown {
    if (!(error instanceof VaultFault)) return error;
    const where = `Vault at ${client.address}`;
    switch (error.kind) {
      case "sealed":
        return secretsFault(
          "sealed",
          `${where} is sealed: unseal it, and what waits goes on by itself`,
          error,
        );
      case "unreachable":
        return secretsFault("unreachable", `${where} cannot be reached: ${error.message}`, error);
      case "forbidden":
        return secretsFault("denied", `${where} denies us: ${error.message}`, error);
      case "unprepared":
        return secretsFault(
          "denied",
          `${where} is not set up: ${error.message} "autocode vault init" does it`,
          error,
        );
      default:
        return error;
    }
  }
}

/** Null for what is not there, and for what was deleted. */
async function found<Answer>(run: () => Promise<Answer>): Promise<Answer | null> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof VaultFault && error.kind === "missing") return null;
    throw refusedAs("it", error);
  }
}

async function found404<Answer>(place: string, run: () => Promise<Answer>): Promise<Answer> {
  try {
    return await run();
  } catch (error) {
    throw refusedAs(place, error);
  }
}

function refusedAs(place: string, error: unknown): unknown {
  if (!(error instanceof VaultFault)) return error;
  return new Problem("conflict", `Vault refuses ${place}: ${error.message}`, { cause: error });
}

/** Cut off before an answer: asking once more is likely to help, and a second wait is short. */
function isCutOff(error: unknown): boolean {
  return (
    error instanceof VaultFault && error.kind === "unreachable" && !/no answer/.test(error.message)
  );
}
