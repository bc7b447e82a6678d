/** Goal: the environment is read whole: defaults, all faults at once, and no secret told. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, readConfig } from "../../orchestrator/config.ts";

const CWD = "/nowhere";
const HOME = { AUTOCODE_HOME: "data" };

test("an empty environment is an installation on loopback with the scripted model alone", () => {
  const config = readConfig(HOME, CWD);

  assert.equal(config.home, "/nowhere/data");
  assert.equal(config.host, "127.0.0.1");
  assert.equal(config.port, 7700);
  assert.equal(config.databaseUrl, null);
  assert.equal(config.isFirstRunExample, true);
  assert.ok(config.slots >= 2);
  assert.deepEqual(config.providers, []);
  assert.ok(Object.isFrozen(config));
});

test("an ecosystem's own variables switch to the real engines", () => {
  const env = {
    ...HOME,
    DATABASE_URL: "postgres://me@db/autocode",
    OPENAI_API_KEY: "sk-1",
    ANTHROPIC_BASE_URL: "http://127.0.0.1:9/anthropic",
    VLLM_BASE_URL: "http://gpu:8000/v1",
    VLLM_THINKING_BASE_URL: "http://other:8000/v1",
  };
  const config = readConfig(env, CWD);

  assert.equal(config.databaseUrl, env.DATABASE_URL);
  assert.deepEqual(config.providers, [
    { name: "openai", baseUrl: "https://api.openai.com/v1", apiKey: "sk-1" },
    { name: "anthropic", baseUrl: "http://127.0.0.1:9/anthropic", apiKey: null },
    { name: "vllm", baseUrl: "http://gpu:8000/v1", apiKey: null },
    { name: "vllm-thinking", baseUrl: "http://other:8000/v1", apiKey: null },
  ]);
});

test("Nomad's address chooses Nomad, and AUTOCODE_SCHEDULER chooses for itself", () => {
  assert.equal(readConfig(HOME, CWD).scheduler, "local");
  assert.equal(readConfig(HOME, CWD).nomad, null);
  const env = { ...HOME, NOMAD_ADDR: "https://nomad:4646/", NOMAD_NAMESPACE: "trials" };
  const config = readConfig(env, CWD);
  assert.equal(config.scheduler, "nomad");
  assert.deepEqual(config.nomad, {
    address: "https://nomad:4646",
    token: null,
    namespace: "trials",
    region: null,
    caFile: null,
    certFile: null,
    keyFile: null,
    tlsServerName: null,
    job: "autocode-trial",
    why: "NOMAD_ADDR is set",
  });
  assert.equal(readConfig({ ...env, AUTOCODE_SCHEDULER: "local" }, CWD).nomad, null);
  const chosen = readConfig({ ...HOME, AUTOCODE_SCHEDULER: "nomad" }, CWD);
  assert.equal(chosen.nomad?.address, "http://127.0.0.1:4646");
});

test("what is wrong with Nomad's variables is told by their names", () => {
  const env = {
    ...HOME,
    NOMAD_ADDR: "nomad.example:4646",
    NOMAD_CLIENT_CERT: "client.pem",
    AUTOCODE_NOMAD_JOB: "Trial Job",
  };
  assert.throws(
    () => readConfig(env, CWD),
    /NOMAD_ADDR: must be an address.*|AUTOCODE_NOMAD_JOB: "Trial Job".*NOMAD_CLIENT_KEY: set both/,
  );
  const unknown = { ...HOME, AUTOCODE_SCHEDULER: "slurm" };
  assert.throws(() => readConfig(unknown, CWD), /AUTOCODE_SCHEDULER: "slurm" must be local, fleet/);
});

test("a key's limits are off but for its calls at once, and each can be set", () => {
  const limits = (env: Record<string, string>) => {
    const config = readConfig({ ...HOME, ...env }, CWD);
    const { keyRequestsPerMinute, keyTokensPerMinute, keyCallsAtOnce } = config;
    return [keyRequestsPerMinute, keyTokensPerMinute, keyCallsAtOnce];
  };
  assert.deepEqual(limits({}), [0, 0, 32]);
  const set = {
    AUTOCODE_KEY_REQUESTS_PER_MINUTE: "60",
    AUTOCODE_KEY_TOKENS_PER_MINUTE: "100000",
    AUTOCODE_KEY_CALLS_AT_ONCE: "4",
  };
  assert.deepEqual(limits(set), [60, 100_000, 4]);
});

test("every fault is told at once, and an address is not repeated: it may hold a password", () => {
  const env = {
    ...HOME,
    AUTOCODE_PORT: "70000",
    AUTOCODE_SLOTS: "many",
    AUTOCODE_LOG_LEVEL: "loud",
    AUTOCODE_EXAMPLE: "no",
    DATABASE_URL: "mysql://me:hunter2@db/autocode",
  };

  assert.throws(
    () => readConfig(env, CWD),
    (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      const { message } = error;
      for (const name of Object.keys(env).slice(1)) assert.match(message, new RegExp(`${name}:`));
      assert.doesNotMatch(message, /hunter2|\n/);
      return true;
    },
  );
});

test("a worker gets what its tools need, and no secret", () => {
  const env = {
    ...HOME,
    PATH: "/usr/bin",
    HTTPS_PROXY: "http://127.0.0.1:3128",
    npm_config_registry: "http://127.0.0.1:4873",
    npm_config__authToken: "hidden",
    npm_config_key: "hidden",
    NPM_CONFIG_OTP: "hidden",
    UV_INDEX_OURS_PASSWORD: "hidden",
    ANTHROPIC_API_KEY: "hidden",
    PIP_INDEX_URL: "http://127.0.0.1:3141",
    OPENAI_API_KEY: "hidden",
    DATABASE_URL: "postgres://me:hidden@db/autocode",
    AWS_SECRET_ACCESS_KEY: "hidden",
  };
  const { workerEnv } = readConfig(env, CWD);

  assert.deepEqual(
    Object.keys(workerEnv).sort(),
    ["HTTPS_PROXY", "PATH", "PIP_INDEX_URL", "npm_config_registry"].sort(),
  );
  assert.ok(!Object.values(workerEnv).some((value) => value.includes("hidden")));
});

test("a project's file can name keys alone, not any variable", () => {
  const { readApiKey } = readConfig({ ...HOME, MY_API_KEY: "k", DATABASE_PASSWORD: "p" }, CWD);

  assert.equal(readApiKey("MY_API_KEY"), "k");
  assert.equal(readApiKey("OTHER_API_KEY"), null);
  assert.equal(readApiKey("DATABASE_PASSWORD"), null);
});

test("a Vault's address chooses Vault, with one way to log in", () => {
  const plain = readConfig(HOME, CWD).secrets;
  assert.deepEqual([plain.engine, plain.why, plain.vault], ["file", "VAULT_ADDR is not set", null]);
  const env = {
    ...HOME,
    VAULT_ADDR: "https://vault:8200/",
    VAULT_ROLE_ID: "role",
    VAULT_SECRET_ID_FILE: "/etc/autocode/secret-id",
    // Nomad sets it beside a workload identity; the AppRole was asked for.
    VAULT_TOKEN: "s.x",
  };
  const { engine, why, vault } = readConfig(env, CWD).secrets;
  assert.deepEqual([engine, why], ["vault", "VAULT_ADDR is set"]);
  assert.deepEqual(vault, {
    address: "https://vault:8200",
    namespace: null,
    caFile: null,
    timeoutMs: 5_000,
    login: {
      kind: "approle",
      mount: "approle",
      roleId: "role",
      secretId: { file: "/etc/autocode/secret-id" },
    },
    kvMount: "secret",
    prefix: "autocode",
    transitMount: "transit",
    transitKey: "autocode",
    scopedRole: "autocode-scoped",
  });
  const said = readConfig({ ...env, AUTOCODE_SECRETS: "file" }, CWD).secrets;
  assert.deepEqual([said.engine, said.vault], ["file", null]);
  const jwt = { ...HOME, VAULT_ADDR: "http://v", VAULT_JWT_FILE: "/j", VAULT_AUTH_ROLE: "r" };
  assert.deepEqual(readConfig(jwt, CWD).secrets.vault?.login, {
    kind: "jwt",
    mount: "jwt-nomad",
    role: "r",
    file: "/j",
  });
});

test("faults of a Vault's variables are told all at once, and no secret is", () => {
  const env = {
    ...HOME,
    VAULT_ADDR: "vault:8200",
    VAULT_ROLE_ID: "role",
    VAULT_SECRET_ID: "the-secret-id",
    VAULT_SECRET_ID_FILE: "/file",
    VAULT_SKIP_VERIFY: "1",
    AUTOCODE_VAULT_KV: "../sys",
    AUTOCODE_VAULT_TIMEOUT_MS: "0",
    AUTOCODE_SECRETS_PASSPHRASE: "the-passphrase",
    AUTOCODE_SECRETS_PASSPHRASE_FILE: "/file",
  };
  assert.throws(
    () => readConfig(env, CWD),
    ({ message }: Error) => {
      for (const name of [
        "VAULT_ADDR: must be",
        "one of them",
        "VAULT_SKIP_VERIFY: certificates are always checked",
        "AUTOCODE_VAULT_KV",
        "AUTOCODE_VAULT_TIMEOUT_MS",
        "AUTOCODE_SECRETS_PASSPHRASE and",
      ]) {
        assert.ok(message.includes(name), `${name} in: ${message}`);
      }
      return !/the-secret-id|the-passphrase/.test(message);
    },
  );
  const bare = { ...HOME, VAULT_ADDR: "http://vault:8200" };
  assert.throws(() => readConfig(bare, CWD), /VAULT_ADDR: say how to log in/);
});

test("secrets of the environment are kept to themselves", () => {
  const env = {
    ...HOME,
    AUTOCODE_SECRETS: "env",
    AUTOCODE_SECRET_A__B: "x",
    AUTOCODE_SIGNING_KEY: "k",
  };
  const { secrets, workerEnv } = readConfig(env, CWD);
  assert.deepEqual(secrets.env, { AUTOCODE_SECRET_A__B: "x", AUTOCODE_SIGNING_KEY: "k" });
  assert.deepEqual(workerEnv, {});
  assert.deepEqual(readConfig({ ...env, AUTOCODE_SECRETS: "file" }, CWD).secrets.env, {});
});

test("a proxy has memory for messages that are not whole, or does not start", () => {
  const env = { ...HOME, AUTOCODE_EGRESS_HELD_BYTES: "0" };
  assert.throws(
    () => readConfig(env, CWD),
    /AUTOCODE_EGRESS_HELD_BYTES: "0" must be a whole number from 1048576 to/,
  );
});
