/**
 * The secrets port over the environment, for a place that hands secrets to a process there (a
 * container's platform): read once at the start, never written.
 *
 * `AUTOCODE_SECRET_` and the path in capitals, with two underscores for a slash and one for a dot
 * or dash: "provider/openai" is `AUTOCODE_SECRET_PROVIDER__OPENAI`. `AUTOCODE_SIGNING_KEY` is an
 * Ed25519 key, PKCS 8 in PEM or its base64 alone.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { keyIdOf } from "../journal/chain.ts";
import { Problem } from "../problem.ts";
import {
  checkPath,
  checkValue,
  type PutResult,
  type ScopedToken,
  SECRET_PATH,
  type Secret,
  type Secrets,
  type SecretsStatus,
  type Signature,
  secretsFault,
  statusOf,
} from "./secrets.ts";

const PREFIX = "AUTOCODE_SECRET_";
const SIGNING_KEY = "AUTOCODE_SIGNING_KEY";

export function createEnvSecrets(env: Readonly<Record<string, string | undefined>>): Secrets {
  const values = new Map<string, string>();
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || value === undefined || value === "") continue;
    const path = name.slice(PREFIX.length).toLowerCase().replaceAll("__", "/");
    if (SECRET_PATH.test(path)) values.set(path, value);
  }
  return {
    name: "env",
    can: { canWrite: false, canRotateKey: false, canIssueScoped: false },
    ...{
      status,
      get,
      put,
      list,
      remove,
      verify: verifyMessage,
      publicKey,
      publicKeys,
      rotateKey,
      issueScoped,
    },
    sign: async (message) => {
      const { keyId, privateKey } = signingKey();
      return { keyId, signature: sign(null, message, privateKey).toString("base64") };
    },
  };

  function status(): Promise<SecretsStatus> {
    return statusOf(async () => {
      signingKey();
      return `${values.size} secrets of the environment`;
    });
  }

  async function get(path: string, version?: number): Promise<Secret | null> {
    checkPath(path);
    const value = values.get(path.replaceAll(/[.-]/g, "_"));
    if (value === undefined || (version ?? 1) !== 1) return null;
    return { value, version: 1 };
  }

  async function put(path: string, value: string): Promise<PutResult> {
    checkPath(path);
    checkValue(path, value);
    throw readOnly();
  }

  async function list(folder?: string): Promise<string[]> {
    const paths = [...values.keys()];
    return paths.filter((path) => folder === undefined || path.startsWith(`${folder}/`)).sort();
  }

  async function remove(path: string): Promise<boolean> {
    checkPath(path);
    throw readOnly();
  }

  async function verifyMessage(message: Uint8Array, made: Signature): Promise<boolean> {
    const { keyId, privateKey } = signingKey();
    if (made.keyId !== keyId) return false;
    const signature = Buffer.from(made.signature, "base64");
    return verify(null, message, createPublicKey(privateKey), signature);
  }

  async function publicKey(): Promise<string> {
    return signingKey().keyId;
  }

  async function publicKeys(): Promise<string[]> {
    return [signingKey().keyId];
  }

  async function rotateKey(): Promise<string> {
    throw readOnly();
  }

  async function issueScoped(): Promise<ScopedToken> {
    throw new Problem("conflict", "Secrets of the environment issue no scoped tokens: use a Vault");
  }

  function signingKey(): { keyId: string; privateKey: KeyObject } {
    const text = env[SIGNING_KEY];
    if (text === undefined || text === "") {
      throw secretsFault("denied", `${SIGNING_KEY} is not set: nothing can be signed`);
    }
    try {
      const isPem = text.includes("PRIVATE KEY");
      const privateKey = isPem
        ? createPrivateKey(text)
        : createPrivateKey({ key: Buffer.from(text, "base64"), format: "der", type: "pkcs8" });
      if (privateKey.asymmetricKeyType !== "ed25519") throw new TypeError("not ed25519");
      return { keyId: keyIdOf(createPublicKey(privateKey)), privateKey };
    } catch {
      // What OpenSSL says of it could hold a part of it.
      throw secretsFault("denied", `${SIGNING_KEY} is no Ed25519 key: PKCS 8, in PEM or base64`);
    }
  }
}

function readOnly(): Problem {
  const detail = "Secrets of the environment are only read: change them where they are set";
  return new Problem("conflict", `${detail}, and restart`);
}
