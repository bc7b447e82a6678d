/** A certificate authority for one test, and certificates of it; nothing of it touches a disk. */
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import {
  BasicConstraintsExtension,
  cryptoProvider,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** The same thing; the library is typed after browsers. */
const webCrypto = webcrypto as unknown as Crypto;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 86_400_000;

/** Both in PEM. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

export interface TestAuthority extends Issued {
  /** A server's certificate for these names and IPv4 addresses. */
  issue(...names: string[]): Promise<Issued>;
}

export async function createTestAuthority(name = "Autocode test authority") {
  cryptoProvider.set(webCrypto);
  const validity = {
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 30 * DAY_MS),
  };
  const keys = await generate();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    ...{ serialNumber: "01", name: `CN=${name}`, keys, signingAlgorithm: ALGORITHM },
    ...validity,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  let serial = 1;
  return { cert: certificate.toString("pem"), key: await pemOf(keys.privateKey), issue };

  async function issue(...names: string[]): Promise<Issued> {
    const own = await generate();
    serial += 1;
    const issued = await X509CertificateGenerator.create({
      ...{ serialNumber: serial.toString(16).padStart(2, "0"), subject: `CN=${names[0]}` },
      ...{ issuer: certificate.subject, signingKey: keys.privateKey, publicKey: own.publicKey },
      ...validity,
      signingAlgorithm: ALGORITHM,
      extensions: [
        new SubjectAlternativeNameExtension(
          names.map((value) => ({
            type: /^[0-9.]+$/.test(value) ? ("ip" as const) : ("dns" as const),
            value,
          })),
        ),
      ],
    });
    return { cert: issued.toString("pem"), key: await pemOf(own.privateKey) };
  }
}

function generate(): Promise<CryptoKeyPair> {
  return webCrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

async function pemOf(key: CryptoKey): Promise<string> {
  const der = Buffer.from(await webCrypto.subtle.exportKey("pkcs8", key));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`;
}
