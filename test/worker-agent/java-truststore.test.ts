/** Goal: what Java reads of a store is what was put into it; nothing else is believed to be one. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { rootCertificates } from "node:tls";
import { javaTrustStore } from "../../worker-agent/java-truststore.ts";
import { openFolder } from "../support/installation.ts";

const PASSWORD = "changeit";
const hasKeytool = spawnSync("keytool", ["-help"]).error === undefined;

test("keytool lists each authority once, by its fingerprint", {
  skip: hasKeytool ? false : "keytool is not here",
}, async () => {
  await using folder = await openFolder("autocode-jks-");
  const authorities = rootCertificates.slice(0, 12);
  const store = join(folder.path, "store");
  const bundle = [...authorities, authorities[0]].join("\n# a remark\n");
  await writeFile(store, javaTrustStore(bundle, PASSWORD));
  const { stdout, status } = keytool("-list", "-keystore", store, "-storepass", PASSWORD);
  assert.equal(status, 0, stdout);
  const listed = [...stdout.matchAll(/SHA-256\): ([0-9A-F:]+)/g)].map(([, found]) => found);
  const expected = authorities.map((pem) => new X509Certificate(pem).fingerprint256);
  assert.deepEqual(listed.sort(), expected.sort());
});

test("a store that was changed, or another password, is refused by Java", {
  skip: hasKeytool ? false : "keytool is not here",
}, async () => {
  await using folder = await openFolder("autocode-jks-");
  const store = join(folder.path, "store");
  const bytes = javaTrustStore(rootCertificates[0] ?? "", PASSWORD);
  await writeFile(store, bytes);
  assert.notEqual(keytool("-list", "-keystore", store, "-storepass", "changed").status, 0);
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 30) ^ 1, bytes.length - 30);
  await writeFile(store, bytes);
  assert.notEqual(keytool("-list", "-keystore", store, "-storepass", PASSWORD).status, 0);
});

test("one bundle makes one store", () => {
  const bundle = rootCertificates.slice(0, 3).join("\n");
  assert.deepEqual(javaTrustStore(bundle, PASSWORD), javaTrustStore(bundle, PASSWORD));
});

function keytool(...args: string[]) {
  const { stdout, stderr, status } = spawnSync("keytool", args, { encoding: "utf8" });
  return { stdout: `${stdout}${stderr}`, status };
}
