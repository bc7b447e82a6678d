/**
 * Goal: the secrets port behaves over a real server of the Vault API as over the sealed file, and
 * each way in which a Vault is not to be used is told in words that say what to do.
 *
 * Method: OpenBao in development mode, and with raft where it is sealed and unsealed; a prefix and
 * a key of its own for each test; a listener that answers late, wrongly or not at all.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import type { ScopedToken } from "../../../orchestrator/secrets/secrets.ts";
import { createVaultSecrets } from "../../../orchestrator/secrets/vault.ts";
import { createVaultClient } from "../../../orchestrator/secrets/vault-client.ts";
import type { VaultLogin } from "../../../orchestrator/secrets/vault-login.ts";
import { eventually } from "../../support/eventually.ts";
import { type Openbao, openbaoSkip, openDev, openRaft, ROOT_TOKEN } from "../../support/openbao.ts";
import { type SecretsFixture, testReading, testSecrets } from "./conformance.ts";

const AGAIN_MS = 50;

if (openbaoSkip === false) {
  // Sealing is for the whole server: the raft one is unsealed again after each test.
  const bao = await openRaft();
  after(() => bao[Symbol.asyncDispose]());
  await prepare(bao);
  testReading("vault", async (given) => {
    const fixture = await openFixture(bao);
    for (const [path, value] of Object.entries(given)) await fixture.secrets.put(path, value);
    return fixture;
  });
  testSecrets("vault", () => openFixture(bao));
} else test("vault: the port's suite", { skip: openbaoSkip }, () => {});

test("vault, in development mode", { skip: openbaoSkip }, async (t) => {
  await using bao = await openDev();
  await prepare(bao);
  const folder = await mkdtemp(join(tmpdir(), "autocode-vault-"));
  t.after(() => rm(folder, { recursive: true }));

  await t.test(
    "values lie where an operator writes them with the server's own command",
    async () => {
      const { secrets, prefix } = await openOwn(bao);
      await bao.ask("POST", `secret/data/${prefix}/provider/openai`, { data: { value: "sk-1" } });
      assert.deepEqual(await secrets.get("provider/openai"), { value: "sk-1", version: 1 });
      await bao.ask("POST", `secret/data/${prefix}/provider/openai`, { data: { key: "sk-2" } });
      await assert.rejects(secrets.get("provider/openai"), /has no text "value"/);
      await bao.ask("DELETE", `secret/data/${prefix}/provider/openai`);
      assert.equal(await secrets.get("provider/openai"), null);
      assert.deepEqual(await secrets.put("provider/openai", "sk-3", { expectedVersion: 0 }), {
        outcome: "version_mismatch",
        version: 2,
      });
    },
  );

  await t.test("a mount that asks for check-and-set is written all the same", async () => {
    const { secrets } = await openOwn(bao);
    await bao.ask("POST", "secret/config", { cas_required: true });
    assert.equal((await secrets.put("a", "1")).outcome, "stored");
    assert.equal((await secrets.put("a", "2")).outcome, "stored");
    await bao.ask("POST", "secret/config", { cas_required: false });
  });

  await t.test(
    "AppRole: a single-use secret id, a token renewed, one ended, a file replaced",
    async () => {
      await policy(
        bao,
        "app",
        `path "secret/*" { capabilities = ["read", "create", "update"] }
      path "transit/*" { capabilities = ["read", "update"] }`,
      );
      const role = {
        token_policies: "app",
        token_ttl: "2s",
        token_max_ttl: "60s",
        secret_id_num_uses: 1,
      };
      await bao.ask("POST", "sys/auth/approle", { type: "approle" });
      await bao.ask("POST", "auth/approle/role/app", role);
      const { data } = await bao.ask("GET", "auth/approle/role/app/role-id");
      const file = join(folder, "secret-id");
      await writeFile(file, `${await secretId(bao)}\n`);
      const { secrets } = await openOwn(bao, {
        kind: "approle",
        mount: "approle",
        roleId: data["role_id"],
        secretId: { file },
      });
      await secrets.put("a", "1");
      // Twice the token's life: its one secret id is used up, so only renewals keep it.
      const untilMs = performance.now() + 4_500;
      await eventually(
        async () => (await secrets.get("a"))?.value === "1" && performance.now() > untilMs,
        (isDone) => isDone,
      );
      await revokeAll(bao);
      await assert.rejects(secrets.get("a"), state("expired", /AppRole: invalid.*write it to/));
      // Vault locks a role after five refused logins: the same secret id is not shown again.
      for (let look = 0; look < 10; look++) {
        await sleep(AGAIN_MS + 10);
        assert.equal((await secrets.status()).state, "expired");
      }
      await writeFile(file, await secretId(bao));
      await eventually(
        () => secrets.status(),
        ({ state: now }) => now === "ready",
      );
      assert.equal((await secrets.get("a"))?.value, "1");
    },
  );

  await t.test("a policy that denies: that path alone, and the rest goes on", async () => {
    const { prefix } = await openOwn(bao);
    await policy(
      bao,
      "part",
      `path "secret/data/${prefix}/open/*" { capabilities = ["read"] }
      path "transit/keys/autocode" { capabilities = ["read"] }`,
    );
    const { auth } = await bao.ask("POST", "auth/token/create", { policies: ["part"] });
    const { secrets } = await openOwn(bao, { kind: "token", token: auth["client_token"] }, prefix);
    const told = /denies us secret\/data\/.*\/closed: permission denied; its policy/;
    await assert.rejects(secrets.get("closed"), state("denied", told));
    assert.equal(await secrets.get("open/a"), null);
    assert.equal((await secrets.status()).state, "ready");
    await assert.rejects(secrets.sign(Buffer.from("x")), state("denied", /transit\/sign/));
  });

  await t.test("a wrong token, and one that ends midway", async () => {
    const wrong = await openOwn(bao, { kind: "token", token: "s.none" });
    await assert.rejects(wrong.secrets.get("a"), state("expired", /VAULT_TOKEN is expired or/));
    const { auth } = await bao.ask("POST", "auth/token/create", { policies: ["root"], ttl: "60s" });
    const { secrets } = await openOwn(bao, { kind: "token", token: auth["client_token"] });
    assert.equal(await secrets.get("a"), null);
    await bao.ask("POST", "auth/token/revoke", { token: auth["client_token"] });
    await assert.rejects(secrets.get("a"), state("expired", /VAULT_TOKEN/));
    // A file is read again.
    const file = join(folder, "token");
    await writeFile(file, "s.none");
    const kept = await openOwn(bao, { kind: "token_file", file });
    await assert.rejects(kept.secrets.get("a"), state("expired", /write a new one there/));
    await writeFile(file, ROOT_TOKEN);
    await eventually(
      () => kept.secrets.status(),
      ({ state: now }) => now === "ready",
    );
  });

  await t.test("a Vault that was not set up, or whose key is of another kind", async () => {
    const options = { kvMount: "none", transitMount: "none" };
    const { secrets } = await openOwn(bao, undefined, undefined, options);
    await assert.rejects(secrets.get("a"), state("denied", /"autocode vault init" does it/));
    assert.match((await secrets.status()).detail, /autocode vault init/);
    const missing = await openOwn(bao, undefined, undefined, { transitKey: "none" });
    await assert.rejects(missing.secrets.sign(Buffer.from("x")), state("denied", /vault init/));
    await bao.ask("POST", "transit/keys/other", { type: "aes256-gcm96" });
    const other = await openOwn(bao, undefined, undefined, { transitKey: "other" });
    await assert.rejects(other.secrets.publicKey(), state("denied", /aes256-gcm96, not ed25519/));
  });
});

test("vault: nobody there, somebody else, and one that is slow", {
  skip: openbaoSkip,
}, async (t) => {
  await t.test("nobody", async () => {
    const secrets = createOn("http://127.0.0.1:1");
    await assert.rejects(secrets.get("a"), state("unreachable", /ECONNREFUSED/));
    assert.equal((await secrets.status()).state, "unreachable");
  });

  await t.test("another program that answers 404 is not a Vault without the secret", async () => {
    for (const [status, body] of [
      [404, "not found"],
      [404, '{"error":"x"}'],
      [200, "<html>"],
      [502, "bad gateway"],
    ] as const) {
      await using server = await listen((_, reply) => reply.writeHead(status).end(body));
      const told = /what answers there is no Vault/;
      await assert.rejects(createOn(server.url).get("a"), state("unreachable", told), body);
    }
  });

  await t.test(
    "a slow one holds one asker at a time, and each no longer than its time",
    async () => {
      let asked = 0;
      await using server = await listen(() => {
        asked += 1;
      });
      const secrets = createOn(server.url, 300);
      await assert.rejects(secrets.get("a"), state("unreachable", /no answer within 300 ms/));
      const startMs = performance.now();
      const before = asked;
      const all = Array.from({ length: 50 }, () => secrets.get("a"));
      const results = await Promise.allSettled(all);
      assert.ok(results.every(({ status }) => status === "rejected"));
      assert.ok(asked - before <= 1, `${asked - before} asked`);
      // One after the other they would take 15 s.
      assert.ok(performance.now() - startMs < 8_000);
    },
  );
});

async function openFixture(bao: Openbao): Promise<SecretsFixture> {
  const { secrets, prefix, transitKey } = await openOwn(bao, undefined, undefined, {
    transitKey: await newKey(bao),
  });
  return {
    secrets,
    again: async () => (await openOwn(bao, undefined, prefix, { transitKey })).secrets,
    seal: () => bao.seal(),
    readScoped: (token) => readScoped(bao, token),
    [Symbol.asyncDispose]: () => bao.unseal(),
  };
}

async function readScoped(bao: Openbao, scoped: ScopedToken): Promise<string[]> {
  let { token } = scoped;
  if (scoped.isWrapped) {
    const unwrapped = await bao.ask("POST", "sys/wrapping/unwrap", {}, token);
    token = unwrapped["data"]["token"];
  }
  const values: string[] = [];
  await assert.rejects(bao.ask("GET", "cubbyhole/other", undefined, "s.none"));
  for (const { place } of scoped.places) {
    values.push((await bao.ask("GET", place, undefined, token))["data"]["value"]);
  }
  return values;
}

/** What `autocode vault init` makes, as far as these tests need it. */
async function prepare(bao: Openbao): Promise<void> {
  await bao.ask("POST", "sys/mounts/transit", { type: "transit" });
  await bao.ask("POST", "transit/keys/autocode", { type: "ed25519" });
  await policy(bao, "autocode-scoped", 'path "cubbyhole/*" { capabilities = ["read"] }');
  const role = { allowed_policies: ["autocode-scoped"], orphan: true, renewable: false };
  await bao.ask("POST", "auth/token/roles/autocode-scoped", role);
}

async function newKey(bao: Openbao): Promise<string> {
  const key = `key-${randomBytes(6).toString("hex")}`;
  await bao.ask("POST", `transit/keys/${key}`, { type: "ed25519" });
  return key;
}

async function openOwn(
  bao: Openbao,
  login: VaultLogin = { kind: "token", token: bao.token },
  prefix = `p-${randomBytes(6).toString("hex")}`,
  more: { kvMount?: string; transitMount?: string; transitKey?: string } = {},
) {
  const secrets = createOn(bao.url, 5_000, { login, prefix, ...more });
  return { secrets, prefix, transitKey: more.transitKey ?? "autocode" };
}

function createOn(address: string, timeoutMs = 5_000, more: object = {}) {
  const client = createVaultClient({ address, namespace: null, ca: null, timeoutMs });
  const options = {
    login: { kind: "token", token: "s.x" } as VaultLogin,
    kvMount: "secret",
    prefix: "autocode",
    transitMount: "transit",
    transitKey: "autocode",
    scopedRole: "autocode-scoped",
    againMs: AGAIN_MS,
  };
  return createVaultSecrets(client, { ...options, ...more }, systemClock);
}

async function policy(bao: Openbao, name: string, text: string): Promise<void> {
  await bao.ask("PUT", `sys/policies/acl/${name}`, { policy: text });
}

async function secretId(bao: Openbao): Promise<string> {
  return (await bao.ask("POST", "auth/approle/role/app/secret-id"))["data"]["secret_id"];
}

/** Every token of the AppRole mount, as an operator does it after a leak. */
async function revokeAll(bao: Openbao): Promise<void> {
  await bao.ask("PUT", "sys/leases/revoke-prefix/auth/approle");
}

async function listen(answer: Parameters<typeof createServer>[1] & object) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function state(expected: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, "secrets_sealed", error.message);
    assert.equal(error.facts["secrets_state"], expected, error.message);
    assert.match(error.message, message);
    return true;
  };
}
