/**
 * Goal: over TLS a Nomad is asked that has the certificate it should have, and knows us by ours.
 *
 * Method: an authority, a server and a client of our own making, by openssl.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { test } from "node:test";
import { openSchedulerFolder } from "../../support/local-scheduler.ts";
import { nomadClient } from "../../support/nomad.ts";
import { openNomadStub } from "../../support/nomad-stub/stub.ts";

const SERVER_NAME = "server.global.nomad";
const NONE = { ca: null, cert: null, key: null, serverName: null };
const skip = whyNoOpenssl();

test("certificates are checked on both ends, by the name that is told", { skip }, async () => {
  await using pki = await makeCertificates();
  const [ca, wrong, server, client] = await Promise.all(
    ["ca", "wrong-ca", "server", "client"].map((name) => pki.read(name)),
  );
  assert.ok(ca && wrong && server && client);
  await using folder = await openSchedulerFolder();
  await using local = await folder.open();
  const tls = { key: server.key, cert: server.cert, ca: ca.cert };
  await using stub = await openNomadStub({ local, tls });
  const mine = { cert: client.cert, key: client.key };
  const good = { ca: ca.cert, ...mine, serverName: SERVER_NAME };

  assert.deepEqual(await ask(stub.address, good), []);
  const refusals = [
    [NONE, /did not answer .*(SELF_SIGNED|UNABLE_TO_VERIFY|self-signed)/],
    [{ ...good, ca: wrong.cert }, /did not answer .*(SELF_SIGNED|UNABLE_TO|signature|self-signed)/],
    [{ ...good, serverName: "other.example" }, /did not answer .*ERR_TLS_CERT_ALTNAME_INVALID/],
    [{ ...good, cert: null, key: null }, /did not answer .*(ERR_SSL|SOCKET|ECONNRESET)/],
  ] as const;
  for (const [given, message] of refusals) {
    await assert.rejects(ask(stub.address, given), { code: "unavailable", message });
  }
});

async function ask(
  address: string,
  tls: Readonly<Record<"ca" | "cert" | "key" | "serverName", string | null>>,
): Promise<unknown[]> {
  const client = nomadClient(address, { tls });
  try {
    return await client.jobs({ prefix: "none" });
  } finally {
    await client.close();
  }
}

async function makeCertificates() {
  const dir = await mkdtemp(join(tmpdir(), "autocode-tls-"));
  const run = (...args: string[]) => execFileSync("openssl", args, { cwd: dir, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  for (const name of ["ca", "wrong-ca"]) {
    const files = ["-keyout", `${name}.key`, "-out", `${name}.pem`];
    run("req", "-x509", ...key, "-subj", `/CN=${name}`, ...files);
  }
  for (const name of ["server", "client"]) {
    const files = ["-keyout", `${name}.key`, "-out", `${name}.pem`];
    const names = ["-addext", `subjectAltName=DNS:${name}.global.nomad`];
    const by = ["-CA", "ca.pem", "-CAkey", "ca.key"];
    run("req", "-x509", ...key, "-subj", `/CN=${name}`, ...names, ...by, ...files);
  }
  return {
    read: async (name: string) => ({
      key: await readFile(join(dir, `${name}.key`), "utf8"),
      cert: await readFile(join(dir, `${name}.pem`), "utf8"),
    }),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true }),
  };
}

function whyNoOpenssl(): string | false {
  try {
    execFileSync("openssl", ["version"], { stdio: "pipe" });
    return false;
  } catch {
    assert.notEqual(env["AUTOCODE_REQUIRE_ENGINES"], "all", "required, but there is no openssl");
    return "there is no openssl on the PATH";
  }
}
