/**
 * Goal: secrets of the environment are read as any other.
 *
 * Method: the part of the port's suite that writes nothing; then the names of variables.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { createEnvSecrets } from "../../../orchestrator/secrets/env.ts";
import { testReading } from "./conformance.ts";

const { privateKey } = generateKeyPairSync("ed25519");
const PEM = String(privateKey.export({ type: "pkcs8", format: "pem" }));
testReading("env", async (given) => {
  const named = Object.entries(given).map(([path, value]) => {
    const name = path.toUpperCase().replaceAll("/", "__");
    return [`AUTOCODE_SECRET_${name}`, value];
  });
  const env = { ...Object.fromEntries(named), AUTOCODE_SIGNING_KEY: PEM };
  return { secrets: createEnvSecrets(env), [Symbol.asyncDispose]: async () => {} };
});

const ENV = {
  AUTOCODE_SECRET_PROVIDER__OPENAI: "sk-1",
  AUTOCODE_SECRET_FORGE__MY_HOST__TOKEN: "t",
  AUTOCODE_SECRET_EMPTY: "",
  AUTOCODE_SIGNING_KEY: PEM,
  OTHER: "no secret",
};

test("paths are variables, and all are listed", async () => {
  const secrets = createEnvSecrets(ENV);
  assert.deepEqual(await secrets.list(), ["forge/my_host/token", "provider/openai"]);
  assert.deepEqual(await secrets.get("provider/openai"), { value: "sk-1", version: 1 });
  assert.equal((await secrets.get("forge/my-host/token"))?.value, "t");
  assert.equal((await secrets.get("forge/my.host/token", 1))?.value, "t");
  assert.equal(await secrets.get("provider/openai", 2), null);
  assert.equal(await secrets.get("other"), null);
  await assert.rejects(secrets.get("../a"), { code: "invalid_request" });
  assert.equal((await secrets.status()).state, "ready");
});

test("it signs with the key that it was given, in PEM or base64", async () => {
  const message = Buffer.from("autocode test 1\n");
  const pem = createEnvSecrets(ENV);
  const der = privateKey.export({ type: "pkcs8", format: "der" }).toString("base64");
  const base64 = createEnvSecrets({ AUTOCODE_SIGNING_KEY: der });
  assert.equal(await base64.publicKey(), await pem.publicKey());
  assert.equal(await base64.verify(message, await pem.sign(message)), true);
  assert.equal(await base64.verify(Buffer.from("else"), await pem.sign(message)), false);
});

test("without a key, or with another kind, nothing is signed, and it says so", async () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  for (const [key, told] of [
    [undefined, /AUTOCODE_SIGNING_KEY is not set/],
    ["rubbish", /is no Ed25519 key/],
    [String(rsa.export({ type: "pkcs8", format: "pem" })), /is no Ed25519 key/],
  ] as const) {
    const secrets = createEnvSecrets({ AUTOCODE_SIGNING_KEY: key });
    await assert.rejects(secrets.sign(Buffer.from("x")), { code: "secrets_sealed" });
    const { state, detail } = await secrets.status();
    assert.equal(state, "denied");
    assert.match(detail, told);
    assert.ok(key === undefined || !detail.includes(key.slice(0, 7)));
  }
});
