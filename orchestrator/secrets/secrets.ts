/**
 * The secrets port: values that must not be read by who reads our disk or database, and the key
 * that signs the ledger's checkpoints, which never leaves the engine.
 *
 * Every function but `status` throws Problem `secrets_sealed` while the engine cannot be used: a
 * wrong or missing key or passphrase, a Vault that is sealed, refuses us or does not answer. Its
 * fact `secrets_state` says which. Nothing then falls back to anything.
 */
import { Problem } from "../problem.ts";

export interface Secret {
  value: string;
  /** From 1, one more at each `put`. */
  version: number;
}

export type PutResult =
  | { outcome: "stored"; version: number }
  /** Somebody wrote it first; `version` is what is there now, 0 for nothing. */
  | { outcome: "version_mismatch"; version: number };

export interface Signature {
  keyId: string;
  /** Ed25519, 64 bytes in base64. */
  signature: string;
}

/** `sealed`: to be opened by a person; `denied`, `expired`: our own credentials. */
export type SecretsState = "ready" | "sealed" | "denied" | "expired" | "unreachable";

/** What not every engine can do; the function then throws Problem `conflict`. */
export interface SecretsAbilities {
  /** `put` and `remove`. */
  canWrite: boolean;
  /** `rotateKey`. */
  canRotateKey: boolean;
  /** `issueScoped`. */
  canIssueScoped: boolean;
}

export interface SecretsStatus {
  state: SecretsState;
  detail: string;
}

/** What a scoped token lets its holder read, for how long and how often. */
export interface ScopedGrant {
  paths: readonly string[];
  ttlMs: number;
  /** Reads; each path is one. */
  uses: number;
  /** Told once: what comes back must be unwrapped first, and a second unwrap is refused. */
  isWrapped: boolean;
  /** Written beside the token in the engine, for who looks there: a trial's id. */
  purpose: string;
}

export interface ScopedToken {
  token: string;
  isWrapped: boolean;
  /** Where its holder reads each path, as the engine names it. */
  places: readonly { path: string; place: string }[];
}

export interface Secrets {
  readonly name: "file" | "vault" | "env";
  readonly can: SecretsAbilities;
  /** How it is now, told to people; never throws. */
  status(): Promise<SecretsStatus>;
  /**
   * The latest version of the secret, or `version` while it is kept (the last ten are); null when
   * there is none. `path`: lower-case words with slashes between them, "forge/github/token".
   *
   * @throws Problem `invalid_request` for a path of another form.
   */
  get(path: string, version?: number): Promise<Secret | null>;
  /**
   * Writes the next version. With `expectedVersion` only if that is the latest (0: there is none).
   *
   * @throws Problem `invalid_request` for a path of another form, `too_large` over 64 KiB.
   */
  put(path: string, value: string, options?: { expectedVersion?: number }): Promise<PutResult>;
  /** The paths of all secrets in order, or of those in a folder of theirs: "provider". */
  list(folder?: string): Promise<string[]>;
  /** Forgets the secret with all its versions. Whether there was one. */
  remove(path: string): Promise<boolean>;
  /** Signs with the installation's Ed25519 key. What is signed must begin with what it is for. */
  sign(message: Uint8Array): Promise<Signature>;
  /** Whether the installation's own key made the signature, or one that it was rotated from. */
  verify(message: Uint8Array, signature: Signature): Promise<boolean>;
  /** The id of the key that `sign` uses: "ed25519:" and the public key in base64url. */
  publicKey(): Promise<string>;
  /** The ids of all keys whose signatures `verify` takes: that one, and those before it. */
  publicKeys(): Promise<string[]>;
  /** Makes a new key for `sign`; `verify` knows the former ones. The new one's id. */
  rotateKey(): Promise<string>;
  /**
   * A token for one purpose that reads these secrets, as they are now, and nothing else.
   *
   * @throws Problem `not_found` when there is no such secret.
   */
  issueScoped(grant: ScopedGrant): Promise<ScopedToken>;
}

export const SECRET_BYTES_MAX = 65_536;
export const SECRET_VERSIONS_KEPT = 10;
export const SECRET_PATH = /^(?=.{1,200}$)[a-z0-9][a-z0-9_.-]*(\/[a-z0-9][a-z0-9_.-]*)*$/;

/** @throws Problem `invalid_request`. */
export function checkPath(path: string): void {
  if (SECRET_PATH.test(path)) return;
  throw new Problem(
    "invalid_request",
    'A secret\'s path is lower-case words with slashes between them, such as "forge/github/token"',
  );
}

/** @throws Problem `too_large`. */
export function checkValue(path: string, value: string): void {
  if (Buffer.byteLength(value) <= SECRET_BYTES_MAX) return;
  throw new Problem("too_large", `The secret ${path} is over ${SECRET_BYTES_MAX} bytes`);
}

/** `detail` says what is wrong and what to do. */
export function secretsFault(
  state: Exclude<SecretsState, "ready">,
  detail: string,
  cause?: unknown,
): Problem {
  const facts = { secrets_state: state };
  return new Problem("secrets_sealed", detail, cause === undefined ? { facts } : { facts, cause });
}

/** How an engine is, from what it throws or does not. */
export async function statusOf(look: () => Promise<string>): Promise<SecretsStatus> {
  try {
    return { state: "ready", detail: await look() };
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "secrets_sealed") throw error;
    const state = error.facts["secrets_state"] as SecretsState | undefined;
    return { state: state ?? "sealed", detail: error.message };
  }
}
