/**
 * The secrets port: values that must not be read by who reads our disk or database, and the key
 * that signs the ledger's checkpoints, which never leaves the engine.
 *
 * Every function throws Problem `secrets_sealed` while the engine cannot be opened: a wrong or
 * missing key or passphrase, a sealed Vault. Nothing then falls back to anything.
 */

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

export interface Secrets {
  readonly name: "file" | "vault" | "env";
  /** How it is now, told to people; never throws. */
  status(): Promise<{ state: SecretsState; detail: string }>;
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
  /** Signs with the installation's Ed25519 key. What is signed must begin with what it is for. */
  sign(message: Uint8Array): Promise<Signature>;
  /** Whether the installation's own key made the signature. */
  verify(message: Uint8Array, signature: Signature): Promise<boolean>;
  /** The id of the key that `sign` uses: "ed25519:" and the public key in base64url. */
  publicKey(): Promise<string>;
}

export const SECRET_BYTES_MAX = 65_536;
export const SECRET_VERSIONS_KEPT = 10;
export const SECRET_PATH = /^(?=.{1,200}$)[a-z0-9][a-z0-9_.-]*(\/[a-z0-9][a-z0-9_.-]*)*$/;
