/**
 * The secrets port over one sealed file under the data folder, for one machine: any number of its
 * processes may use it. The key is in a file beside it, readable by its owner alone, or comes from
 * a passphrase.
 *
 * Invariant: a store that is there but cannot be opened is never replaced by an empty one.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, stat } from "node:fs/promises";
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
  checkPath,
  checkValue,
  type PutResult,
  type ScopedToken,
  SECRET_VERSIONS_KEPT,
  type Secret,
  type Secrets,
  type SecretsStatus,
  type Signature,
  secretsFault,
  statusOf,
} from "./secrets.ts";

const NAME = "secrets.sealed";
const KEY_FILE = "secrets.key";
const PASSPHRASE_VARIABLE = "AUTOCODE_SECRETS_PASSPHRASE";
/** Rivals that write at the same time; each round one of them succeeds. */
const WRITES_MAX = 100;

type Content = Static<typeof Content>;
const Content = Type.Object({
  signing_key: Type.String(),
  /** Public halves of the keys before it. */
  retired_keys: Type.Optional(Type.Array(Type.String())),
  secrets: Type.Record(
    Type.String(),
    Type.Array(Type.Object({ version: Type.Integer(), value: Type.String() })),
  ),
});

export interface FileSecretsOptions {
  /** shared/vault-secrets of the data folder; made when it is not there. */
  dir: string;
  /** Null: the key is in a file, which is made with the store, or `passphraseFile` has one. */
  passphrase: string | null;
  /** Read again whenever the store does not open with what it held before. */
  passphraseFile?: string | null;
}

export interface FileSecrets extends Secrets {
  /**
   * Seals the store anew: with this passphrase, or with a new key file for null. Whoever has the
   * store open goes on; a new passphrase is asked for at the next start.
   */
  reseal(passphrase: string | null): Promise<void>;
}

/** A generation that was opened, and its keys. */
interface OpenState {
  content: Content;
  privateKey: KeyObject;
  keyId: string;
  /** By their ids: the one that signs, and those before it. */
  publicKeys: ReadonlyMap<string, KeyObject>;
}

/** Whether a store is in this folder. */
export async function holdsFileSecrets(dir: string, random: Random): Promise<boolean> {
  return (await createGenerations({ dir, name: NAME }, random).latest()) !== null;
}

/**
 * Opens the store, or makes one where none is.
 *
 * @throws Problem `secrets_sealed` when it is there and cannot be opened; the detail says why.
 */
export async function openFileSecrets(
  { dir, passphrase: given, passphraseFile = null }: FileSecretsOptions,
  random: Random,
): Promise<FileSecrets> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await chmod(dir, 0o700);
  const store = createGenerations({ dir, name: NAME }, random);
  /** After a change of it, what the environment gave is out of date. */
  let changed: { passphrase: string | null } | null = null;
  const first = (await store.latest()) ?? (await make());
  let key = await keyFor(first);
  /** What was opened last: the next generation is another text. */
  let last: (Generation & { state: OpenState }) | null = null;
  await current();
  return {
    name: "file",
    can: { canWrite: true, canRotateKey: true, canIssueScoped: false },
    ...{ status, get, put, list, remove, publicKey, publicKeys, rotateKey, issueScoped, reseal },
    sign: signMessage,
    verify: verifyMessage,
  };

  function status(): Promise<SecretsStatus> {
    return statusOf(async () => {
      await current();
      return `sealed file in ${dir}`;
    });
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
    checkValue(path, value);
    return change<PutResult>(({ content }) => {
      const versions = versionsOf(content, path);
      const latest = versions.at(-1)?.version ?? 0;
      if (expectedVersion !== undefined && expectedVersion !== latest) {
        return { result: { outcome: "version_mismatch", version: latest } };
      }
      const version = latest + 1;
      const kept = [...versions, { version, value }].slice(-SECRET_VERSIONS_KEPT);
      const next = { ...content, secrets: { ...content.secrets, [path]: kept } };
      return { result: { outcome: "stored", version }, next };
    });
  }

  async function list(folder?: string): Promise<string[]> {
    const paths = Object.keys((await current()).content.secrets);
    return paths.filter((path) => folder === undefined || path.startsWith(`${folder}/`)).sort();
  }

  async function remove(path: string): Promise<boolean> {
    checkPath(path);
    return change(({ content }) => {
      if (!Object.hasOwn(content.secrets, path)) return { result: false };
      const { [path]: _, ...secrets } = content.secrets;
      return { result: true, next: { ...content, secrets } };
    });
  }

  async function signMessage(message: Uint8Array): Promise<Signature> {
    const { keyId, privateKey } = await current();
    return { keyId, signature: sign(null, message, privateKey).toString("base64") };
  }

  async function verifyMessage(message: Uint8Array, made: Signature): Promise<boolean> {
    // Our own keys were opened before: what they signed is checked while the store is sealed, too.
    const known = last?.state.publicKeys.get(made.keyId);
    const found = known ?? (await current()).publicKeys.get(made.keyId);
    if (found === undefined) return false;
    return verify(null, message, found, Buffer.from(made.signature, "base64"));
  }

  async function publicKey(): Promise<string> {
    return (await current()).keyId;
  }

  async function publicKeys(): Promise<string[]> {
    return [...(await current()).publicKeys.keys()];
  }

  async function rotateKey(): Promise<string> {
    const { privateKey } = generateKeyPairSync("ed25519");
    return change(({ content, publicKeys }) => ({
      result: keyIdOf(createPublicKey(privateKey)),
      next: {
        ...content,
        signing_key: pemOf(privateKey),
        retired_keys: [...publicKeys.values()].map((each) =>
          String(each.export({ type: "spki", format: "pem" })),
        ),
      },
    }));
  }

  async function issueScoped(): Promise<ScopedToken> {
    const detail = "The sealed file issues no scoped tokens: it has no server to show them to";
    throw new Problem("conflict", `${detail}; use a Vault (VAULT_ADDR)`);
  }

  async function reseal(passphrase: string | null): Promise<void> {
    const newKey =
      passphrase === null
        ? await addKeyToFile()
        : await keyFromPassphrase(passphrase, newPassphraseOrigin(random));
    await change(({ content }) => ({ result: null, next: content }), newKey);
    key = newKey;
    changed = { passphrase };
    if (passphrase === null) await keepOneKey(newKey);
    else await rm(join(dir, KEY_FILE), { force: true });
  }

  /** Writes what `edit` makes of the state, however many others write at the same time. */
  async function change<Result>(
    edit: (state: OpenState) => { result: Result; next?: Content },
    sealingKey?: SealingKey,
  ): Promise<Result> {
    for (let attempt = 0; attempt < WRITES_MAX; attempt++) {
      const { number, ...state } = await current();
      const { result, next } = edit(state);
      if (next === undefined) return result;
      if (await add(next, number + 1, sealingKey ?? key)) return result;
    }
    throw new Problem("unavailable", "Others write to the secrets all the time: try again");
  }

  async function current(): Promise<OpenState & { number: number }> {
    const latest = await store.latest();
    if (latest === null) throw sealed(`${dir}: ${NAME} is gone: restore it from a back-up`);
    if (last === null || last.text !== latest.text || last.number !== latest.number) {
      last = { ...latest, state: stateOf(await openWithAnyKey(latest)) };
    }
    return { ...last.state, number: latest.number };
  }

  /** Another process may have sealed it anew. */
  async function openWithAnyKey(generation: Generation): Promise<Content> {
    if (open(generation.text, key).outcome === "wrong_key") key = await keyFor(generation);
    return read(generation);
  }

  /** The first generation; another process's, where that was faster. */
  async function make(): Promise<Generation> {
    const passphrase = await passphraseNow();
    const made = passphrase === null ? await makeKeyFile() : null;
    const newKey = made ?? (await keyFromPassphrase(passphrase ?? "", newPassphraseOrigin(random)));
    const { privateKey } = generateKeyPairSync("ed25519");
    await add({ signing_key: pemOf(privateKey), secrets: {} }, 1, newKey);
    const latest = await store.latest();
    if (latest === null) throw new Error(`${dir}: ${NAME} was written and is not there`);
    return latest;
  }

  async function add(content: Content, number: number, sealingKey: SealingKey): Promise<boolean> {
    const text = seal(JSON.stringify(content), number, sealingKey, random);
    return store.add({ number, text });
  }

  async function passphraseNow(): Promise<string | null> {
    if (changed !== null) return changed.passphrase;
    if (passphraseFile === null) return given;
    const text = await readFile(passphraseFile, "utf8").catch((cause: NodeJS.ErrnoException) => {
      throw sealed(`${PASSPHRASE_VARIABLE}_FILE: it cannot be read (${cause.code})`, cause);
    });
    return text.trim();
  }

  async function keyFor(generation: Generation): Promise<SealingKey> {
    const origin = keyOriginOf(generation.text);
    if (origin === null) throw damaged(generation.number);
    const passphrase = await passphraseNow();
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
    const keys = await readKeyFile(origin);
    return (
      keys.find((each) => open(generation.text, each).outcome !== "wrong_key") ?? firstOf(keys)
    );
  }

  /** One key; two while the store is sealed anew, the one to come first. */
  async function readKeyFile(origin: KeyOrigin): Promise<SealingKey[]> {
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
    const lines = text.trim().split("\n");
    const keys = lines.map((line) => ({ bytes: Buffer.from(line, "base64"), origin }));
    if (keys.every(({ bytes }) => bytes.length === 32)) return keys;
    throw sealed(`${path} is damaged: restore it from a back-up`);
  }

  async function makeKeyFile(): Promise<SealingKey> {
    const draft = await draftKeyFile([newKey()]);
    // One that is there stays: a store may have been made with it in this instant.
    await linkNew(draft, join(dir, KEY_FILE));
    await rm(draft);
    return firstOf(await readKeyFile({ from: "file" }));
  }

  /** Beside the ones that are there: a crash leaves a file that opens the store either way. */
  async function addKeyToFile(): Promise<SealingKey> {
    const made = newKey();
    const before = key.origin.from === "file" ? [key] : [];
    await rename(await draftKeyFile([made, ...before]), join(dir, KEY_FILE));
    return made;
  }

  async function keepOneKey(only: SealingKey): Promise<void> {
    await rename(await draftKeyFile([only]), join(dir, KEY_FILE));
  }

  async function draftKeyFile(keys: readonly SealingKey[]): Promise<string> {
    const draft = join(dir, `${KEY_FILE}.${Buffer.from(random.bytes(8)).toString("hex")}`);
    const lines = keys.map(({ bytes }) => `${bytes.toString("base64")}\n`);
    await writeSynced(draft, lines.join(""));
    return draft;
  }

  function newKey(): SealingKey {
    return { bytes: Buffer.from(random.bytes(32)), origin: { from: "file" } };
  }

  function read({ text, number }: Generation): Content {
    const opened = open(text, key);
    if (opened.outcome === "wrong_key") {
      const what = key.origin.from === "file" ? KEY_FILE : PASSPHRASE_VARIABLE;
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

function stateOf(content: Content): OpenState {
  const privateKey = createPrivateKey(content.signing_key);
  const own = createPublicKey(privateKey);
  const retired = (content.retired_keys ?? []).map((pem) => createPublicKey(pem));
  const publicKeys = new Map([...retired, own].map((each) => [keyIdOf(each), each]));
  return { content, privateKey, keyId: keyIdOf(own), publicKeys };
}

function pemOf(privateKey: KeyObject): string {
  return String(privateKey.export({ type: "pkcs8", format: "pem" }));
}

function firstOf([first]: readonly SealingKey[]): SealingKey {
  if (first === undefined) throw new Error("a key file without a key");
  return first;
}

/** Not by the index alone: "constructor" is a path like any other. */
function versionsOf({ secrets }: Content, path: string): readonly Secret[] {
  return Object.hasOwn(secrets, path) ? (secrets[path] ?? []) : [];
}

function sealed(detail: string, cause?: unknown): Problem {
  return secretsFault("sealed", detail, cause);
}
