/**
 * The transit key of a Vault that signs for the installation: ed25519, with versions. Its public
 * halves are remembered, so that a signature is checked without asking, while Vault is sealed too.
 */
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { keyIdOf } from "../journal/chain.ts";
import type { Clock, EpochMs } from "../runtime/clock.ts";
import { type Signature, secretsFault } from "./secrets.ts";
import { type VaultAnswer, VaultFault } from "./vault-client.ts";

export interface VaultKeyOptions {
  mount: string;
  key: string;
}

/** How requests are made: with a token, through the gate. */
export interface VaultAsk {
  read(path: string): Promise<VaultAnswer>;
  write(path: string, body: object): Promise<VaultAnswer>;
}

interface PublicKeys {
  latest: number;
  byVersion: ReadonlyMap<number, string>;
  byId: ReadonlyMap<string, KeyObject>;
}

/** A key that nobody knows is looked up no more often than this: anyone can make one up. */
const LOOK_AGAIN_MS = 5_000;
/** An Ed25519 key in DER, before its 32 bytes: RFC 8410. */
const SPKI_HEAD = Buffer.from("302a300506032b6570032100", "hex");

export function createVaultKeys(ask: VaultAsk, { mount, key }: VaultKeyOptions, clock: Clock) {
  let known: PublicKeys | null = null;
  let lookedAtMs: EpochMs = Number.NEGATIVE_INFINITY;
  return { look, sign, verify: verifySignature, publicKey, publicKeys, rotate };

  async function sign(message: Uint8Array): Promise<Signature> {
    const input = Buffer.from(message).toString("base64");
    const { data } = await asked(() => ask.write(`${mount}/sign/${key}`, { input }));
    const [, version, signature] = /^vault:v(\d+):(.+)$/.exec(String(data?.["signature"])) ?? [];
    if (signature === undefined) throw unusable("it gave no signature of the form vault:v1:…");
    const keys = known?.byVersion.has(Number(version)) === true ? known : await look();
    const keyId = keys.byVersion.get(Number(version));
    if (keyId === undefined) throw unusable(`it has no version ${version}`);
    return { keyId, signature };
  }

  async function verifySignature(message: Uint8Array, given: Signature): Promise<boolean> {
    let found = known?.byId.get(given.keyId);
    if (found === undefined && (known === null || isTimeToLook())) {
      found = (await look()).byId.get(given.keyId);
    }
    if (found === undefined) return false;
    return verify(null, message, found, Buffer.from(given.signature, "base64"));
  }

  /** It is public: the last one that was seen, where none can be asked for now. */
  async function publicKey(): Promise<string> {
    const before = known;
    if (before === null) return latestOf(await look());
    return latestOf(await look().catch(() => before));
  }

  async function publicKeys(): Promise<string[]> {
    const before = known;
    const keys = await (before === null ? look() : look().catch(() => before));
    return [...keys.byId.keys()];
  }

  async function rotate(): Promise<string> {
    await asked(() => ask.write(`${mount}/keys/${key}/rotate`, {}));
    return latestOf(await look());
  }

  async function look(): Promise<PublicKeys> {
    lookedAtMs = clock.now();
    const { data } = await asked(() => ask.read(`${mount}/keys/${key}`));
    if (data?.["type"] !== "ed25519") {
      throw unusable(
        `its type is ${data?.["type"]}, not ed25519: name another in AUTOCODE_VAULT_KEY`,
      );
    }
    const versions = Object.entries(data["keys"] as Record<string, { public_key?: string }>);
    const found = versions.map(([version, { public_key: text }]) => {
      const raw = Buffer.from(text ?? "", "base64");
      const object = createPublicKey({
        key: Buffer.concat([SPKI_HEAD, raw]),
        format: "der",
        type: "spki",
      });
      return { version: Number(version), id: keyIdOf(object), object };
    });
    known = {
      latest: Number(data["latest_version"]),
      byVersion: new Map(found.map(({ version, id }) => [version, id])),
      byId: new Map(found.map(({ id, object }) => [id, object])),
    };
    return known;
  }

  function isTimeToLook(): boolean {
    return Math.abs(clock.now() - lookedAtMs) >= LOOK_AGAIN_MS;
  }

  function latestOf({ latest, byVersion }: PublicKeys): string {
    const id = byVersion.get(latest);
    if (id === undefined) throw unusable(`it has no version ${latest}`);
    return id;
  }

  /** Vault answers 400 or 404 for a key that is not there, by what is asked. */
  async function asked(run: () => Promise<VaultAnswer>): Promise<VaultAnswer> {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof VaultFault)) throw error;
      if (error.kind !== "missing" && error.kind !== "refused") throw error;
      throw unusable(`${error.message}; "autocode vault init" makes it`, error);
    }
  }

  function unusable(what: string, cause?: unknown) {
    return secretsFault("denied", `Vault's key ${mount}/keys/${key} cannot sign: ${what}`, cause);
  }
}
