/**
 * The secrets port over one sealed file under the data folder, for one machine: any number of its
 * processes may use it. The key is in a file beside it, readable by its owner alone, or comes from
 * a passphrase.
 *
 * Invariant: a store that is there but cannot be opened is never replaced by an empty one.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { chmod, mkdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { keyIdOf } from "../journal/chain.ts";
import { Problem } from "../problem.ts";
import type { Random } from "../runtime/random.ts";
import { createGenerations, type Generation, linkNew, writeSynced } from "./generations.ts";
import {
  type KeyOrigin,
  keyFromPassphrase,
  keyOriginOf,
  newPassphraseOrigin,
  open,
  type SealingKey,
  seal,
} from "./seal.ts";
import {
  type PutResult,
  SECRET_BYTES_MAX,
  SECRET_PATH,
  SECRET_VERSIONS_KEPT,
  type Secret,
  type Secrets,
  type SecretsState,
  type Signature,
} from "./secrets.ts";

const NAME = "secrets.sealed";
const KEY_FILE = "secrets.key";
const PASSPHRASE_VARIABLE = "AUTOCODE_SECRETS_PASSPHRASE";
/** Rivals that write at the same time; each round one of them succeeds. */
const WRITES_MAX = 100;

type Content = Static<typeof Content>;
const Content = Type.Object({
  signing_key: Type.String(),
  secrets: Type.Record(
    Type.String(),
    Type.Array(Type.Object({ version: Type.Integer(), value: Type.String() })),
  ),
});

export interface FileSecretsOptions {
  /** shared/vault-secrets of the data folder; made when it is not there. */
  dir: string;
  /** Null: the key is in a file, which is made with the store. */
  passphrase: string | null;
}

/**
 * Opens the store, or makes one where none is.
 *
 * @throws Problem `secrets_sealed` when it is there and cannot be opened; the detail says why.
 */
export async function openFileSecrets(
  { dir, passphrase }: FileSecretsOptions,
  random: Random,
): Promise<Secrets> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  const store = createGenerations({ dir, name: NAME }, random);
  const first = (await store.latest()) ?? (await make());
  const key = await keyFor(first);
  const { signing_key: pem } = read(first);
  const privateKey = createPrivateKey(pem);
  const publicKeyObject = createPublicKey(privateKey);
  const keyId = keyIdOf(publicKeyObject);
  return { name: "file", status, get, put, sign: signMessage, verify: verifyMessage, publicKey };

  async function status(): Promise<{ state: SecretsState; detail: string }> {
    try {
      await current();
      return { state: "ready", detail: `sealed file in ${dir}` };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return { state: "sealed", detail: error.message };
    }
  }

  async function get(path: string, version?: number): Promise<Secret | null> {
    checkPath(path);
    const versions = versionsOf((await current()).content, path);
    const found =
      version === undefined ? versions.at(-1) : versions.find((each) => each.version === version);
    return found === undefined ? null : { value: found.value, version: found.version };
  }

  async function put(
    path: string,
    value: string,
    { expectedVersion }: { expectedVersion?: number } = {},
  ): Promise<PutResult> {
    checkPath(path);
    if (Buffer.byteLength(value) > SECRET_BYTES_MAX) {
      throw new Problem("too_large", `The secret ${path} is over ${SECRET_BYTES_MAX} bytes`);
    }
    for (let attempt = 0; attempt < WRITES_MAX; attempt++) {
      const { content, number } = await current();
      const versions = versionsOf(content, path);
      const latest = versions.at(-1)?.version ?? 0;
      if (expectedVersion !== undefined && expectedVersion !== latest) {
        return { outcome: "version_mismatch", version: latest };
      }
      const version = latest + 1;
      const kept = [...versions, { version, value }].slice(-SECRET_VERSIONS_KEPT);
      const next = { ...content, secrets: { ...content.secrets, [path]: kept } };
      if (await add(next, number + 1, key)) return { outcome: "stored", version };
    }
    throw new Problem("unavailable", "Others write to the secrets all the time: try again");
  }

  async function signMessage(message: Uint8Array): Promise<Signature> {
    return { keyId, signature: sign(null, message, privateKey).toString("base64") };
  }

  async function verifyMessage(message: Uint8Array, given: Signature): Promise<boolean> {
    if (given.keyId !== keyId) return false;
    return verify(null, message, publicKeyObject, Buffer.from(given.signature, "base64"));
  }

  async function publicKey(): Promise<string> {
    return keyId;
  }

  async function current(): Promise<{ content: Content; number: number }> {
    const latest = await store.latest();
    if (latest === null) throw sealed(`${dir}: ${NAME} is gone: restore it from a back-up`);
    return { content: read(latest), number: latest.number };
  }

  /** The first generation; another process's, where that was faster. */
  async function make(): Promise<Generation> {
    const made = passphrase === null ? await makeKeyFile() : null;
    const newKey = made ?? (await keyFromPassphrase(passphrase ?? "", newPassphraseOrigin(random)));
    const pair = generateKeyPairSync("ed25519");
    const signingKey = String(pair.privateKey.export({ type: "pkcs8", format: "pem" }));
    await add({ signing_key: signingKey, secrets: {} }, 1, newKey);
    const latest = await store.latest();
    if (latest === null) throw new Error(`${dir}: ${NAME} was written and is not there`);
    return latest;
  }

  async function add(content: Content, number: number, sealingKey: SealingKey): Promise<boolean> {
    const text = seal(JSON.stringify(content), number, sealingKey, random);
    return store.add({ number, text });
  }

  async function keyFor({ text, number }: Generation): Promise<SealingKey> {
    const origin = keyOriginOf(text);
    if (origin === null) throw damaged(number);
    if (origin.from === "passphrase") {
      if (passphrase !== null) return keyFromPassphrase(passphrase, origin);
      throw sealed(`The secrets in ${dir} need their passphrase: set ${PASSPHRASE_VARIABLE}`);
    }
    if (passphrase !== null) {
      throw sealed(
        `${PASSPHRASE_VARIABLE} is set, but the secrets in ${dir} are sealed with ${KEY_FILE}: ` +
          "unset it",
      );
    }
    return readKeyFile(origin);
  }

  async function readKeyFile(origin: KeyOrigin): Promise<SealingKey> {
    const path = join(dir, KEY_FILE);
    let text: string;
    try {
      const { mode } = await stat(path);
      if ((mode & 0o077) !== 0) throw sealed(`${path} is open to others: chmod 600 it`);
      text = await readFile(path, "utf8");
    } catch (cause) {
      if (cause instanceof Problem) throw cause;
      throw sealed(`${path} cannot be read: restore it from a back-up`, cause);
    }
    const bytes = Buffer.from(text.trim(), "base64");
    if (bytes.length === 32) return { bytes, origin };
    throw sealed(`${path} is damaged: restore it from a back-up`);
  }

  async function makeKeyFile(): Promise<SealingKey> {
    const path = join(dir, KEY_FILE);
    const draft = `${path}.${Buffer.from(random.bytes(8)).toString("hex")}`;
    await writeSynced(draft, `${Buffer.from(random.bytes(32)).toString("base64")}\n`);
    // One that is there stays: a store may have been made with it in this instant.
    await linkNew(draft, path);
    await rm(draft);
    return readKeyFile({ from: "file" });
  }

  function read({ text, number }: Generation): Content {
    const opened = open(text, key);
    if (opened.outcome === "wrong_key") {
      const what = passphrase === null ? KEY_FILE : PASSPHRASE_VARIABLE;
      throw sealed(`${what} is not the one that the secrets in ${dir} were sealed with`);
    }
    if (opened.outcome === "damaged" || opened.generation !== number) throw damaged(number);
    const content: unknown = JSON.parse(opened.text);
    if (!Value.Check(Content, content)) throw damaged(number);
    return content;
  }

  function damaged(number: number): Problem {
    return sealed(`${dir}: ${NAME}, generation ${number}, is damaged: restore it from a back-up`);
  }
}

/** Not by the index alone: "constructor" is a path like any other. */
function versionsOf({ secrets }: Content, path: string): readonly Secret[] {
  return Object.hasOwn(secrets, path) ? (secrets[path] ?? []) : [];
}

function sealed(detail: string, cause?: unknown): Problem {
  return new Problem("secrets_sealed", detail, cause === undefined ? {} : { cause });
}

function checkPath(path: string): void {
  if (SECRET_PATH.test(path)) return;
  throw new Problem(
    "invalid_request",
    'A secret\'s path is lower-case words with slashes between them, such as "forge/github/token"',
  );
}
