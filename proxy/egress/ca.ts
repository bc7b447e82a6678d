/**
 * The authority that the egress proxies sign with: made once for an installation, kept among its
 * secrets, so that every orchestrator and both engines present certificates of the same one.
 *
 * Its key never lies on a disk in clear: it is read from the secrets port at the start, and while
 * that is sealed there is no authority and no proxy that opens TLS.
 */
import "reflect-metadata";
import { createHash, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  cryptoProvider,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { Problem } from "../../orchestrator/problem.ts";
import type { Clock } from "../../orchestrator/runtime/clock.ts";
import type { Random } from "../../orchestrator/runtime/random.ts";
import type { Secrets } from "../../orchestrator/secrets/secrets.ts";

/** Where the authority lies: JSON of `certificate_pem` and `key_pem`. */
export const AUTHORITY_PATH = "egress/authority";

const DAY_MS = 86_400_000;
const AUTHORITY_MS = 3_652 * DAY_MS;
const LEAF_MS = 7 * DAY_MS;
/** A worker's clock may be behind. */
const BACKDATED_MS = 3_600_000;
/** A leaf is made again a day before it ends: a connection may last that long. */
const LEAF_RENEWED_MS = DAY_MS;
const LEAVES_MAX = 1_000;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** The same thing; the library is typed after browsers. */
const webCrypto = webcrypto as unknown as Crypto;

export interface Leaf {
  readonly context: SecureContext;
  /** The leaf's certificate, then the authority's. */
  readonly pem: string;
}

export interface Authority {
  /** What workers are given to trust. */
  readonly certificatePem: string;
  /** PKCS 8: for an engine that signs by itself. A secret. */
  readonly keyPem: string;
  /** A certificate for this host or address, 7 days, from memory where it was made before. */
  leaf(host: string): Promise<Leaf>;
}

interface Kept {
  certificatePem: string;
  keyPem: string;
}

/**
 * The installation's authority; made, if there is none. Two orchestrators that make it at once
 * agree: the first one's is kept.
 *
 * @throws Problem `secrets_sealed`; `conflict` where secrets cannot be written and none was given;
 *   `invalid_request` when what lies there is no authority, or has ended.
 */
export async function openAuthority(deps: {
  secrets: Secrets;
  clock: Clock;
  random: Random;
}): Promise<Authority> {
  const { secrets, clock, random } = deps;
  cryptoProvider.set(webCrypto);
  const { certificatePem, keyPem } = await readOrMake();
  const certificate = new X509Certificate(certificatePem);
  const key = await importKey(keyPem);
  await check();
  // One key for all leaves: who has one of them has this process's memory, and all of them.
  const pair = await generate();
  const leafKeyPem = await exportKey(pair.privateKey);
  const authorityKeyId = await AuthorityKeyIdentifierExtension.create(certificate);
  const subjectKeyId = await SubjectKeyIdentifierExtension.create(pair.publicKey);
  const leaves = new Map<string, { leaf: Promise<Leaf>; untilMs: number }>();
  return { certificatePem, keyPem, leaf };

  async function readOrMake(): Promise<Kept> {
    const found = await secrets.get(AUTHORITY_PATH);
    if (found !== null) return read(found.value);
    if (!secrets.can.canWrite) {
      throw new Problem(
        "conflict",
        `The secrets cannot be written here, and hold no ${AUTHORITY_PATH}. Give it: JSON with ` +
          "certificate_pem and key_pem (EC P-256, PKCS 8) of an authority",
      );
    }
    const made = await makeAuthority({ clock, random }, await secrets.publicKey());
    const value = JSON.stringify({ certificate_pem: made.certificatePem, key_pem: made.keyPem });
    const stored = await secrets.put(AUTHORITY_PATH, value, { expectedVersion: 0 });
    if (stored.outcome === "stored") return made;
    const theirs = await secrets.get(AUTHORITY_PATH);
    if (theirs === null) throw new Error("an authority was written by somebody and is not there");
    return read(theirs.value);
  }

  async function check(): Promise<void> {
    const now = clock.now();
    const isNow = certificate.notBefore.getTime() <= now && now < certificate.notAfter.getTime();
    if (!isNow) {
      throw invalid(
        `is valid from ${certificate.notBefore.toISOString()} to ` +
          `${certificate.notAfter.toISOString()}, not now. Remove it, and a new one is made`,
      );
    }
    const probe = Buffer.from(AUTHORITY_PATH);
    const signature = await webCrypto.subtle.sign(ALGORITHM, key, probe);
    const publicKey = await certificate.publicKey.export();
    if (await webCrypto.subtle.verify(ALGORITHM, publicKey, signature, probe)) return;
    throw invalid("has a key that is not its certificate's");
  }

  function leaf(host: string): Promise<Leaf> {
    const name = host.startsWith("[") ? host.slice(1, -1) : host;
    const known = leaves.get(name);
    const now = clock.now();
    if (known !== undefined) {
      leaves.delete(name);
      if (known.untilMs > now) {
        leaves.set(name, known);
        return known.leaf;
      }
    }
    const made = makeLeaf(name, now);
    leaves.set(name, { leaf: made, untilMs: now + LEAF_MS - LEAF_RENEWED_MS });
    made.catch(() => leaves.delete(name));
    const [oldest] = leaves.keys();
    if (leaves.size > LEAVES_MAX && oldest !== undefined) leaves.delete(oldest);
    return made;
  }

  async function makeLeaf(name: string, now: number): Promise<Leaf> {
    const names = [{ type: isIP(name) === 0 ? "dns" : "ip", value: name } as const];
    const made = await X509CertificateGenerator.create({
      serialNumber: serialNumber(random),
      // A common name has at most 64 characters; clients read the alternative names.
      subject: [{ CN: [name.length <= 64 ? name : "egress"] }],
      issuer: certificate.subjectName.toJSON(),
      notBefore: new Date(Math.max(now - BACKDATED_MS, certificate.notBefore.getTime())),
      notAfter: new Date(Math.min(now + LEAF_MS, certificate.notAfter.getTime())),
      publicKey: pair.publicKey,
      signingKey: key,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension(names),
        authorityKeyId,
        subjectKeyId,
      ],
    });
    const pem = `${made.toString("pem")}\n${certificatePem}`;
    return { context: createSecureContext({ cert: pem, key: leafKeyPem }), pem };
  }
}

/** `installation`: the id of its signing key; part of the authority's name, shortened. */
async function makeAuthority(
  { clock, random }: { clock: Clock; random: Random },
  installation: string,
): Promise<Kept> {
  const pair = await generate();
  const now = clock.now();
  const name = createHash("sha256").update(installation).digest("hex").slice(0, 12);
  const made = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(random),
    name: [{ O: ["autocode"] }, { CN: [`autocode egress ${name}`] }],
    notBefore: new Date(now - BACKDATED_MS),
    notAfter: new Date(now + AUTHORITY_MS),
    keys: pair,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(pair.publicKey),
    ],
  });
  return {
    certificatePem: `${made.toString("pem")}\n`,
    keyPem: await exportKey(pair.privateKey),
  };
}

/** @throws Problem `invalid_request`. */
function read(value: string): Kept {
  try {
    const { certificate_pem: certificatePem, key_pem: keyPem } = JSON.parse(value);
    if (typeof certificatePem === "string" && typeof keyPem === "string") {
      return { certificatePem, keyPem };
    }
  } catch {
    // Told below: what it holds is not repeated.
  }
  throw invalid("is not JSON with certificate_pem and key_pem");
}

function invalid(what: string): Problem {
  return new Problem("invalid_request", `The secret ${AUTHORITY_PATH} ${what}`);
}

function generate(): Promise<CryptoKeyPair> {
  return webCrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

async function exportKey(key: CryptoKey): Promise<string> {
  const der = await webCrypto.subtle.exportKey("pkcs8", key);
  return `${PemConverter.encode(der, "PRIVATE KEY")}\n`;
}

async function importKey(pem: string): Promise<CryptoKey> {
  try {
    const der = PemConverter.decodeFirst(pem);
    return await webCrypto.subtle.importKey("pkcs8", der, ALGORITHM, true, ["sign"]);
  } catch {
    throw invalid("has a key that is not EC P-256 in PKCS 8");
  }
}

/** 127 bits in hexadecimal: positive, as RFC 5280 wants it. */
function serialNumber(random: Random): string {
  const bytes = Buffer.from(random.bytes(16));
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}
