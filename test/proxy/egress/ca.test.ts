/**
 * Goal: there is one authority for an installation, whoever makes it, and what it signs is taken by
 * a client that trusts it, for that host alone.
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { checkServerIdentity, connect, createServer } from "node:tls";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { createEnvSecrets } from "../../../orchestrator/secrets/env.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";
import { secretsFault } from "../../../orchestrator/secrets/secrets.ts";
import { AUTHORITY_PATH, type Leaf, openAuthority } from "../../../proxy/egress/ca.ts";
import { openTestFolder } from "../../support/embedded.ts";
import { testSecrets } from "../../support/secrets.ts";

const random = systemRandom;
const DAY_MS = 86_400_000;

test("two orchestrators agree on one authority, and it is there the next time", async () => {
  await using folder = await openTestFolder();
  const open = () => openFileSecrets({ dir: folder.path, passphrase: null }, random);
  const secrets = await open();
  const [one, other] = await Promise.all([
    openAuthority({ secrets, clock: systemClock, random }),
    openAuthority({ secrets, clock: systemClock, random }),
  ]);
  const later = await openAuthority({ secrets: await open(), clock: systemClock, random });
  assert.equal(other.certificatePem, one.certificatePem);
  assert.equal(later.certificatePem, one.certificatePem);
  assert.equal(later.keyPem, one.keyPem);
  const { ca, subject, validFrom, validTo } = new X509Certificate(one.certificatePem);
  assert.equal(ca, true);
  assert.match(subject, /^O=autocode\nCN=autocode egress [0-9a-f]{12}$/);
  const days = (Date.parse(validTo) - Date.parse(validFrom)) / DAY_MS;
  assert.ok(days > 3_650 && days < 3_655, `${days} days`);
});

test("a client takes its leaf for the host it names, and for no other", async () => {
  const authority = await openAuthority({
    secrets: await testSecrets(),
    clock: systemClock,
    random,
  });
  for (const host of ["api.example.org", "127.0.0.1", "::1", `${"a".repeat(60)}.example.org`]) {
    const leaf = await authority.leaf(host);
    assert.equal(await handshake(leaf, host, authority.certificatePem), null, host);
    const refused = await handshake(leaf, "else.example.org", authority.certificatePem);
    assert.equal(refused, "ERR_TLS_CERT_ALTNAME_INVALID", host);
  }
  assert.equal(await authority.leaf("[::1]"), await authority.leaf("::1"));
});

test("a leaf lasts 7 days, is an hour old, and is made again before it ends", async () => {
  const clock = { ms: Date.UTC(2026, 0, 1), now: () => clock.ms };
  await using folder = await openTestFolder();
  const secrets = await openFileSecrets({ dir: folder.path, passphrase: null }, random);
  const authority = await openAuthority({ secrets, clock, random });
  const first = await authority.leaf("a.example.org");
  const { validFrom, validTo } = new X509Certificate(first.pem);
  assert.equal(Date.parse(validFrom), clock.ms - 3_600_000);
  assert.equal(Date.parse(validTo), clock.ms + 7 * DAY_MS);
  clock.ms += 5 * DAY_MS;
  assert.equal(await authority.leaf("a.example.org"), first);
  clock.ms += 2 * DAY_MS;
  assert.notEqual(await authority.leaf("a.example.org"), first);
  clock.ms += 3_660 * DAY_MS;
  await assert.rejects(
    openAuthority({ secrets, clock, random }),
    /egress\/authority is valid from/,
  );
});

test("sealed secrets are a problem, and nothing is made in their place", async () => {
  const secrets = await testSecrets();
  const sealed = {
    ...secrets,
    get: () => Promise.reject(secretsFault("sealed", "The Vault is sealed")),
  };
  await assert.rejects(openAuthority({ secrets: sealed, clock: systemClock, random }), {
    code: "secrets_sealed",
    message: "The Vault is sealed",
  });
});

test("secrets that cannot be written say what to give; what is no authority is told", async () => {
  const clock = systemClock;
  const bare = createEnvSecrets({});
  await assert.rejects(openAuthority({ secrets: bare, clock, random }), {
    code: "conflict",
    message: /hold no egress\/authority. Give it: JSON with certificate_pem and key_pem/,
  });
  const source = await testSecrets();
  await openAuthority({ secrets: source, clock, random });
  const kept = JSON.parse((await source.get(AUTHORITY_PATH))?.value ?? "{}");
  for (const [value, message] of [
    ["no json", /is not JSON with certificate_pem/],
    [JSON.stringify({ ...kept, key_pem: "none" }), /is not EC P-256 in PKCS 8/],
  ] as const) {
    const secrets = createEnvSecrets({ AUTOCODE_SECRET_EGRESS__AUTHORITY: value });
    await assert.rejects(openAuthority({ secrets, clock, random }), {
      code: "invalid_request",
      message,
    });
  }
  const given = createEnvSecrets({ AUTOCODE_SECRET_EGRESS__AUTHORITY: JSON.stringify(kept) });
  const authority = await openAuthority({ secrets: given, clock, random });
  assert.equal(authority.certificatePem, kept.certificate_pem);
});

/** What a client says that expects `host`; null when it is content. */
async function handshake(leaf: Leaf, host: string, ca: string): Promise<string | null> {
  await using server = createServer({ SNICallback: (_, done) => done(null, leaf.context) });
  server.on("tlsClientError", () => undefined);
  server.on("secureConnection", (socket) => socket.on("error", () => undefined).end());
  const listening = once(server.listen(0, "127.0.0.1"), "listening");
  await listening;
  const { port } = server.address() as AddressInfo;
  const { promise, resolve } = Promise.withResolvers<string | null>();
  // The server picks its context by the name that is sent: any name will do.
  const socket = connect({
    ...{ port, host: "127.0.0.1", servername: "any.example.org", ca },
    checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
  });
  socket.on("secureConnect", () => resolve(null));
  socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  const said = await promise;
  socket.destroy();
  return said;
}
