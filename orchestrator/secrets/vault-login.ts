/**
 * Our token at a Vault: got by a login, renewed at half its time, got anew when it is gone. What
 * a login needs is read from its file each time, so that it is rotated by replacing the file.
 *
 * Invariant: one login or renewal runs at a time, whoever waits for it, and a secret id that was
 * refused is not shown again and again.
 */
import { readFile } from "node:fs/promises";
import type { Problem } from "../problem.ts";
import type { Clock, EpochMs } from "../runtime/clock.ts";
import { secretsFault } from "./secrets.ts";
import { type VaultClient, VaultFault } from "./vault-client.ts";

export type VaultLogin =
  | { kind: "token"; token: string }
  /** One that others keep fresh: Vault Agent's sink, Nomad's `vault_token`. */
  | { kind: "token_file"; file: string }
  | { kind: "approle"; mount: string; roleId: string; secretId: SecretId }
  /** A workload identity: Nomad's or Kubernetes' signed word for what we are. */
  | { kind: "jwt"; mount: string; role: string; file: string };

export type SecretId = { value: string } | { file: string };

export interface VaultTokens {
  /** @throws Problem `secrets_sealed`, with the state that a person must mend. */
  token(): Promise<string>;
  /**
   * After the server refused `token`: whether there is another one now, so that asking again makes
   * sense. False: the token is good, and its policies do not allow what was asked.
   *
   * @throws Problem `secrets_sealed` when the token is gone and there is no new one.
   */
  replace(token: string): Promise<boolean>;
}

/**
 * Vault locks an AppRole for a quarter of an hour after five refused logins, whoever made them: one
 * that was refused is shown again when it is another, or after this.
 */
const SAME_AGAIN_MS = 15 * 60_000;

interface Held {
  token: string;
  renewAtMs: EpochMs;
  endsAtMs: EpochMs;
}

export function createVaultTokens(
  client: VaultClient,
  login: VaultLogin,
  clock: Clock,
): VaultTokens {
  let held: Held | null = null;
  let running: Promise<Held> | null = null;
  let refused: { secretId: string; problem: Problem; untilMs: EpochMs } | null = null;
  return { token, replace };

  async function token(): Promise<string> {
    const now = clock.now();
    if (held !== null && now < held.renewAtMs) return held.token;
    const known = held;
    if (known === null || now >= known.endsAtMs) return (await once(logIn)).token;
    return (await once(() => renew(known))).token;
  }

  async function replace(given: string): Promise<boolean> {
    if (held !== null && held.token !== given) return true;
    if (await isGood(given)) return false;
    held = null;
    const next = await once(logIn);
    return next.token !== given;
  }

  function once(get: () => Promise<Held>): Promise<Held> {
    running ??= get()
      .then((next) => {
        held = next;
        return next;
      })
      .finally(() => {
        running = null;
      });
    return running;
  }

  /** A renewal that fails is no fault while the token lasts; a login then follows. */
  async function renew(known: Held): Promise<Held> {
    try {
      const { auth } = await client.write("auth/token/renew-self", {}, { token: known.token });
      const next = holding(known.token, auth?.lease_duration ?? 0, auth?.renewable ?? false);
      // Near its longest life a token is renewed for ever less.
      if (next.endsAtMs > known.endsAtMs) return next;
    } catch (error) {
      if (!(error instanceof VaultFault)) throw error;
      if (error.kind === "unreachable" || error.kind === "sealed") throw error;
    }
    return logIn();
  }

  async function logIn(): Promise<Held> {
    switch (login.kind) {
      case "token":
        return lookUp(
          login.token,
          "VAULT_TOKEN is expired or revoked: give a new one, and restart",
        );
      case "token_file": {
        const read = await readSecretFile("VAULT_TOKEN_FILE", login.file);
        return lookUp(
          read,
          `the token in ${login.file} is expired or revoked: write a new one there`,
        );
      }
      case "approle": {
        const { mount, roleId, secretId } = login;
        const secret_id =
          "value" in secretId
            ? secretId.value
            : await readSecretFile("VAULT_SECRET_ID_FILE", secretId.file);
        const known = refused;
        if (known?.secretId === secret_id && clock.now() < known.untilMs) throw known.problem;
        return enter(`auth/${mount}/login`, { role_id: roleId, secret_id }, (problem) => {
          refused = { secretId: secret_id, problem, untilMs: clock.now() + SAME_AGAIN_MS };
        });
      }
      case "jwt": {
        const jwt = await readSecretFile("VAULT_JWT_FILE", login.file);
        return enter(`auth/${login.mount}/login`, { role: login.role, jwt });
      }
    }
  }

  /** `onRefused`: the server knows what was shown, and it is no good; 403 may be another's word. */
  async function enter(
    path: string,
    body: object,
    onRefused: (problem: Problem) => void = () => {},
  ): Promise<Held> {
    try {
      const { auth } = await client.write(path, body, {});
      if (auth == null) throw new VaultFault("unreachable", `${path} gave no token`);
      return holding(auth.client_token, auth.lease_duration, auth.renewable);
    } catch (error) {
      if (!(error instanceof VaultFault)) throw error;
      if (error.kind !== "refused" && error.kind !== "forbidden") throw error;
      const problem = secretsFault("expired", howToMend(login, error.message), error);
      if (error.kind === "refused") onRefused(problem);
      throw problem;
    }
  }

  /** A token that was given to us: how long it lasts is the server's to say. */
  async function lookUp(given: string, mend: string): Promise<Held> {
    try {
      const { data } = await client.read("auth/token/lookup-self", { token: given });
      const { ttl, renewable } = data ?? {};
      return holding(given, Number(ttl ?? 0), renewable === true);
    } catch (error) {
      if (!(error instanceof VaultFault) || error.kind !== "forbidden") throw error;
      throw secretsFault("expired", `Vault at ${client.address}: ${mend}`, error);
    }
  }

  async function isGood(given: string): Promise<boolean> {
    try {
      await client.read("auth/token/lookup-self", { token: given });
      return true;
    } catch (error) {
      if (!(error instanceof VaultFault) || error.kind !== "forbidden") throw error;
      return false;
    }
  }

  /** `seconds` 0: it never ends. A file that others keep fresh is looked at again by then. */
  function holding(token: string, seconds: number, isRenewable: boolean): Held {
    const now = clock.now();
    const endsAtMs = seconds === 0 ? Number.POSITIVE_INFINITY : now + seconds * 1000;
    const half = seconds === 0 ? Number.POSITIVE_INFINITY : now + seconds * 500;
    return { token, endsAtMs, renewAtMs: isRenewable ? half : endsAtMs };
  }
}

function howToMend(login: VaultLogin, words: string): string {
  if (login.kind === "jwt") {
    return `Vault refuses the identity in ${login.file} for the role ${login.role}: ${words}`;
  }
  const file = login.kind === "approle" && "file" in login.secretId ? login.secretId.file : null;
  const where =
    file === null ? "set VAULT_SECRET_ID_FILE to a file with it" : `write it to ${file}`;
  return `Vault refuses our AppRole: ${words}; make a new secret id and ${where}`;
}

/** Read anew at each login. @throws Problem `secrets_sealed` when it cannot be had. */
async function readSecretFile(variable: string, file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw secretsFault("denied", `${variable}: ${file} cannot be read (${cause.code})`, cause);
  });
  if (text.trim() !== "") return text.trim();
  throw secretsFault("denied", `${variable}: ${file} is empty`);
}
