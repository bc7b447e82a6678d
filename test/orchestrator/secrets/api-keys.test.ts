/**
 * Goal: a provider's key is the environment's, else the secret's, and a rotated one is in force
 * without a restart; sealed secrets change nothing and fall back to nothing.
 *
 * Method: a real sealed file, which is sealed by another's in its place.
 */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createLog } from "../../../orchestrator/runtime/log.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { createApiKeys } from "../../../orchestrator/secrets/api-keys.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";

const log = createLog("silent");

test("provider keys", async (t) => {
  const dir = await mkdtemp(join(tmpdir(), "autocode-secrets-"));
  t.after(() => rm(dir, { recursive: true }));
  const secrets = await openFileSecrets({ dir, passphrase: null }, systemRandom);
  const env: Record<string, string> = { ANTHROPIC_API_KEY: "from the environment" };
  const keys = createApiKeys(secrets, (name) => env[name] ?? null, log);

  await t.test("the secret, where the environment names none", async () => {
    assert.equal(keys.read("OPENAI_API_KEY"), null);
    await secrets.put("provider/openai", "sk-1");
    await secrets.put("provider/anthropic", "from the secrets");
    await secrets.put("provider/my_server", "own");
    await secrets.put("forge/token", "none of it");
    assert.equal(await keys.refresh(), true);
    assert.equal(await keys.refresh(), false);
    assert.equal(keys.read("OPENAI_API_KEY"), "sk-1");
    assert.equal(keys.read("ANTHROPIC_API_KEY"), "from the environment");
    assert.equal(keys.read("MY_SERVER_API_KEY"), "own");
    for (const name of ["FORGE_TOKEN", "OPENAI", "_API_KEY", "openai_API_KEY"]) {
      assert.equal(keys.read(name), null, name);
    }
  });

  await t.test("rotated, and removed", async () => {
    await secrets.put("provider/openai", "sk-2");
    assert.equal(await keys.refresh(), true);
    assert.equal(keys.read("OPENAI_API_KEY"), "sk-2");
    await secrets.remove("provider/my_server");
    assert.equal(await keys.refresh(), true);
    assert.equal(keys.read("MY_SERVER_API_KEY"), null);
  });

  await t.test("sealed: what is known stays, and what is not is not there", async () => {
    const [store = ""] = (await readdir(dir)).filter((name) => name.includes(".sealed."));
    await writeFile(join(dir, store), "sealed by somebody else");
    assert.equal(await keys.refresh(), false);
    assert.equal(keys.read("OPENAI_API_KEY"), "sk-2");
    const late = createApiKeys(secrets, () => null, log);
    assert.equal(await late.refresh(), false);
    assert.equal(late.read("OPENAI_API_KEY"), null);
  });

  await t.test("a gateway without a store has the environment's alone", async () => {
    const bare = createApiKeys(null, (name) => env[name] ?? null, log);
    assert.equal(await bare.refresh(), false);
    assert.equal(bare.read("ANTHROPIC_API_KEY"), "from the environment");
    assert.equal(bare.read("OPENAI_API_KEY"), null);
  });
});
