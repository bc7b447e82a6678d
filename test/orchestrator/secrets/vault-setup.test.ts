/**
 * Goal: a Vault that `vault init` made ready is enough for an orchestrator and for a gateway, and
 * gives neither more than it needs; doing it twice changes nothing.
 *
 * Method: a new OpenBao; our policies and roles from their files; logins by AppRole and by a
 * workload identity that is signed here, as Nomad signs it, with its keys served by a listener.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemClock } from "../../../orchestrator/runtime/clock.ts";
import { createVaultSecrets } from "../../../orchestrator/secrets/vault.ts";
import { createVaultClient } from "../../../orchestrator/secrets/vault-client.ts";
import type { VaultLogin } from "../../../orchestrator/secrets/vault-login.ts";
import { eventually } from "../../support/eventually.ts";
import { openbaoSkip, openDev, ROOT_TOKEN } from "../../support/openbao.ts";

const CLI = join(import.meta.dirname, "../../../orchestrator/cli/main.ts");

test("vault init", { skip: openbaoSkip }, async (t) => {
  await using bao = await openDev();
  await using jwks = await serveKeys();
  const folder = await mkdtemp(join(tmpdir(), "autocode-vault-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "etc", "secret-id");

  await t.test("a dry run says what would be made, and makes nothing", async () => {
    const { exit, out } = await init(["--dry-run"]);
    assert.equal(exit, 0);
    assert.match(out, /would make +mount transit\//);
    assert.match(out, /is there +mount secret\//);
    await assert.rejects(bao.ask("GET", "transit/keys/autocode"));
  });

  await t.test("what is missing is made, and the secret id is written for us alone", async () => {
    const { exit, out, err } = await init([
      ...["--secret-id-file", file],
      ...["--jwks-url", jwks.url],
    ]);
    assert.deepEqual([exit, err], [0, ""]);
    assert.match(out, /made +policy autocode-orchestrator/);
    assert.match(out, /VAULT_ROLE_ID=\S+\n/);
    assert.equal((await stat(join(folder, "etc"))).mode & 0o777, 0o700);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.ok(!out.includes((await readFile(file, "utf8")).trim()));
  });

  await t.test("a file that cannot be written is told before a secret id is made", async () => {
    const path = "auth/approle/role/autocode-orchestrator/secret-id";
    const before = (await bao.ask("LIST", path))["data"]["keys"];
    for (const [bad, told] of [
      [join(file, "below"), /--secret-id-file: .*below cannot be written.*(ENOTDIR|EEXIST)/],
      [folder, /cannot be written, so that nothing was made: it is a folder/],
    ] as const) {
      const { exit, err } = await init(["--secret-id-file", bad]);
      assert.equal(exit, 1);
      assert.match(err, told);
    }
    assert.deepEqual((await bao.ask("LIST", path))["data"]["keys"], before);
    assert.deepEqual(await readdir(join(folder, "etc")), ["secret-id"]);
  });

  await t.test("twice changes nothing, and replaces no key", async () => {
    const before = await bao.ask("GET", "transit/keys/autocode");
    const { out } = await init(["--jwks-url", jwks.url]);
    assert.ok(!/^(made|changed)/m.test(out), out);
    assert.deepEqual((await bao.ask("GET", "transit/keys/autocode"))["data"], before["data"]);
  });

  await t.test("an orchestrator by AppRole does all it must, and nothing else", async () => {
    const { data } = await bao.ask("GET", "auth/approle/role/autocode-orchestrator/role-id");
    const login: VaultLogin = {
      kind: "approle",
      mount: "approle",
      roleId: data["role_id"],
      secretId: { file },
    };
    const secrets = open(login);
    assert.equal((await secrets.status()).state, "ready");
    await secrets.put("provider/openai", "sk-1");
    assert.equal((await secrets.get("provider/openai"))?.value, "sk-1");
    await secrets.put("trial/a", "x");
    assert.deepEqual(await secrets.list(), ["provider/openai", "trial/a"]);
    const message = Buffer.from("autocode test 1\n");
    const signed = await secrets.sign(message);
    await secrets.rotateKey();
    assert.equal(await secrets.verify(message, signed), true);
    assert.equal(await secrets.remove("trial/a"), true);
    const grant = { ttlMs: 60_000, uses: 1, isWrapped: true, purpose: "trial_x" };
    const issued = await secrets.issueScoped({ paths: ["provider/openai"], ...grant });
    const { token } = (await bao.ask("POST", "sys/wrapping/unwrap", {}, issued.token))["data"];
    const place = issued.places[0]?.place ?? "";
    assert.equal((await bao.ask("GET", place, undefined, token))["data"]["value"], "sk-1");
    await assert.rejects(bao.ask("GET", place, undefined, token), /permission denied/);

    const own = await tokenOf("approle", { role_id: data["role_id"], secret_id: await secretId() });
    for (const [method, path] of [
      ["GET", "secret/data/other"],
      ["POST", "secret/data/other/autocode"],
      ["GET", "transit/export/signing-key/autocode"],
      ["DELETE", "transit/keys/autocode"],
      ["POST", "transit/keys/autocode/config"],
      ["GET", "sys/policies/acl/autocode-orchestrator"],
      ["POST", "sys/policies/acl/autocode-orchestrator"],
      ["POST", "auth/token/create"],
      ["POST", "auth/approle/role/autocode-orchestrator/secret-id"],
      ["PUT", "sys/seal"],
    ] as const) {
      const denied = bao.ask(method, path, method === "GET" ? undefined : {}, own);
      await assert.rejects(denied, /403/, `${method} ${path}`);
    }
  });

  await t.test("a gateway reads providers' keys, and can do nothing else", async () => {
    const jwt = await jwks.identity({ nomad_job_id: "autocode-proxy", nomad_task: "gateway" });
    const secrets = await openJwt("autocode-proxy", jwt);
    assert.deepEqual(await secrets.list("provider"), ["provider/openai"]);
    assert.equal((await secrets.get("provider/openai"))?.value, "sk-1");
    await assert.rejects(secrets.list(), isDenied);
    await assert.rejects(secrets.get("forge/token"), isDenied);
    await assert.rejects(secrets.put("provider/openai", "sk-2"), isDenied);
    await assert.rejects(secrets.sign(Buffer.from("x")), isDenied);
  });

  await t.test("a workload identity: its own job's role, audience and time alone", async () => {
    const claims = { nomad_job_id: "autocode-orchestrator", nomad_task: "orchestrator" };
    const secrets = await openJwt("autocode-orchestrator", await jwks.identity(claims));
    assert.equal((await secrets.status()).state, "ready");
    for (const [wrong, told] of [
      [{ nomad_job_id: "another" }, /claim "nomad_job_id"/],
      [{ aud: "another" }, /audience/],
      [{ exp: Math.floor(Date.now() / 1000) - 600 }, /expired/],
    ] as const) {
      const jwt = await jwks.identity({ ...claims, ...wrong });
      const refused = await openJwt("autocode-orchestrator", jwt);
      const { state, detail } = await refused.status();
      assert.equal(state, "expired", detail);
      assert.match(detail, /refuses the identity in/);
      assert.match(detail, told);
    }
  });

  await t.test("an identity that is renewed in its file is read at the next login", async () => {
    const claims = { nomad_job_id: "autocode-orchestrator", nomad_task: "orchestrator" };
    const path = join(folder, "identity.jwt");
    await writeFile(path, "not.a.jwt");
    const secrets = open({
      kind: "jwt",
      mount: "jwt-nomad",
      role: "autocode-orchestrator",
      file: path,
    });
    assert.equal((await secrets.status()).state, "expired");
    await writeFile(path, await jwks.identity(claims));
    await eventually(
      () => secrets.status(),
      ({ state }) => state === "ready",
    );
  });

  await t.test("bad input is told in one line", async () => {
    for (const [env, exit, told] of [
      [{ VAULT_ADDR: "" }, 2, /VAULT_ADDR is not set/],
      [{ VAULT_ADDR: "vault:8200" }, 2, /VAULT_ADDR: it must be http/],
      [{ VAULT_TOKEN: "" }, 2, /VAULT_TOKEN is not set/],
      [{ VAULT_TOKEN: "wrong" }, 4, /denies this: permission denied.*an operator's/],
      [{ VAULT_ADDR: "http://127.0.0.1:1" }, 5, /cannot be reached: .*ECONNREFUSED/],
      [{ AUTOCODE_VAULT_TRANSIT: "secret" }, 1, /secret\/ is kv of version 2 already/],
    ] as const) {
      const { exit: ended, err } = await init([], env);
      assert.deepEqual([ended, err.split("\n").length], [exit, 2], err);
      assert.match(err, told);
    }
  });

  await t.test("other places than the usual ones", async () => {
    const env = { AUTOCODE_VAULT_KV: "kv", AUTOCODE_VAULT_PREFIX: "a/b", AUTOCODE_VAULT_KEY: "k" };
    assert.equal((await init([], env)).exit, 0);
    const { data } = await bao.ask("GET", "sys/policies/acl/autocode-orchestrator");
    assert.match(data["policy"], /"kv\/data\/a\/b\/\*"/);
    assert.match(data["policy"], /"transit\/keys\/k\/rotate"/);
    assert.ok(!data["policy"].includes("autocode/"));
  });

  function init(args: readonly string[], more: Record<string, string> = {}) {
    const env = {
      PATH: process.env["PATH"],
      VAULT_ADDR: bao.url,
      VAULT_TOKEN: ROOT_TOKEN,
      ...more,
    };
    return new Promise<{ exit: number; out: string; err: string }>((resolve) => {
      execFile(process.execPath, [CLI, "vault", "init", ...args], { env }, (error, out, err) => {
        resolve({ exit: Number(error?.code ?? 0), out, err });
      });
    });
  }

  function open(login: VaultLogin) {
    const address = { address: bao.url, namespace: null, ca: null, timeoutMs: 5_000 };
    const places = { kvMount: "secret", prefix: "autocode", transitMount: "transit" };
    const more = { transitKey: "autocode", scopedRole: "autocode-scoped", againMs: 50 };
    return createVaultSecrets(
      createVaultClient(address),
      { login, ...places, ...more },
      systemClock,
    );
  }

  async function openJwt(role: string, jwt: string) {
    const path = join(folder, `${role}.jwt`);
    await writeFile(path, jwt);
    return open({ kind: "jwt", mount: "jwt-nomad", role, file: path });
  }

  async function secretId(): Promise<string> {
    const path = "auth/approle/role/autocode-orchestrator/secret-id";
    return (await bao.ask("POST", path, {}))["data"]["secret_id"];
  }

  async function tokenOf(mount: string, body: object): Promise<string> {
    return (await bao.ask("POST", `auth/${mount}/login`, body))["auth"]["client_token"];
  }
});

/** A server's keys, and identities signed with them as Nomad's are. */
async function serveKeys() {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: "one", alg: "RS256", use: "sig" };
  const server = createServer((_, reply) => {
    reply.setHeader("content-type", "application/json").end(JSON.stringify({ keys: [jwk] }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/.well-known/jwks.json`;
  return {
    url,
    identity: async (claims: object) => {
      const now = Math.floor(Date.now() / 1000);
      const usual = {
        aud: "vault.io",
        iat: now,
        nbf: now,
        exp: now + 600,
        nomad_namespace: "default",
      };
      const named = { ...usual, sub: "global:default:job", ...claims };
      const parts = [{ alg: "RS256", typ: "JWT", kid: "one" }, named].map((part) =>
        Buffer.from(JSON.stringify(part)).toString("base64url"),
      );
      const signature = sign("sha256", Buffer.from(parts.join(".")), privateKey);
      return `${parts.join(".")}.${signature.toString("base64url")}`;
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function isDenied(error: unknown): boolean {
  assert.ok(error instanceof Problem, String(error));
  assert.equal(error.facts["secrets_state"], "denied", error.message);
  return true;
}
