/**
 * A Java key store of certificates alone, in the format that every Java reads (JKS, version 2).
 * Written here and not by `keytool`: a Java started for each trial costs more than all else that
 * its trust takes, and an image whose Java has no `keytool` is served too.
 *
 * Source: `engineStore` of OpenJDK's sun.security.provider.JavaKeyStore.
 */
import { createHash } from "node:crypto";

const MAGIC = 0xfeedfeed;
const VERSION = 2;
const TRUSTED_CERTIFICATE = 2;
/** Its authors' salt; with the password it makes the store's checksum. */
const SALT = "Mighty Aphrodite";
const PEM = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/** @param bundle PEM of every authority; one that is there twice is kept once. */
export function javaTrustStore(bundle: string, password: string): Buffer {
  const certificates = new Map<string, Buffer>();
  for (const [, base64 = ""] of bundle.matchAll(PEM)) {
    const der = Buffer.from(base64, "base64");
    certificates.set(createHash("sha256").update(der).digest("hex"), der);
  }
  const head = Buffer.concat([int(MAGIC), int(VERSION), int(certificates.size)]);
  const entries = [...certificates].map(([alias, der]) =>
    // When it was made is nobody's matter, and would make two stores of one bundle differ.
    Buffer.concat([
      int(TRUSTED_CERTIFICATE),
      text(alias),
      Buffer.alloc(8),
      text("X.509"),
      blob(der),
    ]),
  );
  const store = Buffer.concat([head, ...entries]);
  const secret = Buffer.from(password, "utf16le").swap16();
  const checksum = createHash("sha1").update(secret).update(SALT).update(store).digest();
  return Buffer.concat([store, checksum]);
}

function int(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32BE(value);
  return buffer;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "utf8");
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function blob(bytes: Buffer): Buffer {
  return Buffer.concat([int(bytes.length), bytes]);
}
