/**
 * What every adapter of the secrets port does. Each adapter's test calls this with a way to open a
 * store of its own, to open it a second time as another process would, and to seal it.
 */
import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { test } from "node:test";
import { describeKey } from "../../../orchestrator/journal/chain.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import {
  SECRET_BYTES_MAX,
  SECRET_VERSIONS_KEPT,
  type Secrets,
} from "../../../orchestrator/secrets/secrets.ts";

export interface SecretsFixture extends AsyncDisposable {
  secrets: Secrets;
  /** The same store, through a connection of its own. */
  again(): Promise<Secrets>;
  /** Makes the engine unable to open the store, for those who have it open, too. */
  seal(): Promise<void>;
}

export function testSecrets(name: string, open: () => Promise<SecretsFixture>): void {
  test(`${name}: a secret is read as it was written, by version`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    assert.equal(await secrets.get("forge/github/token"), null);
    const text = 'é\u0000\n"\\ 🔑';
    assert.deepEqual(await secrets.put("forge/github/token", text), stored(1));
    assert.deepEqual(await secrets.put("forge/github/token", "second"), stored(2));
    assert.deepEqual(await secrets.get("forge/github/token"), { value: "second", version: 2 });
    assert.deepEqual(await secrets.get("forge/github/token", 1), { value: text, version: 1 });
    assert.equal(await secrets.get("forge/github/token", 3), null);
    assert.equal(await secrets.get("forge/github"), null);
    // Words that every object knows are no secrets.
    for (const path of ["constructor", "constructor/prototype"]) {
      assert.equal(await secrets.get(path), null);
      assert.deepEqual(await secrets.put(path, path), stored(1));
      assert.deepEqual(await secrets.get(path), { value: path, version: 1 });
    }
  });

  test(`${name}: only so many versions are kept`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    for (let version = 1; version <= SECRET_VERSIONS_KEPT + 2; version++) {
      assert.deepEqual(await secrets.put("a", String(version)), stored(version));
    }
    assert.equal(await secrets.get("a", 2), null);
    assert.deepEqual(await secrets.get("a", 3), { value: "3", version: 3 });
  });

  test(`${name}: a version that was expected decides who writes`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    const first = { expectedVersion: 0 };
    assert.deepEqual(await secrets.put("a", "1", first), stored(1));
    assert.deepEqual(await secrets.put("a", "2", first), mismatch(1));
    assert.deepEqual(await secrets.put("a", "2", { expectedVersion: 1 }), stored(2));
    assert.deepEqual(await secrets.put("b", "2", { expectedVersion: 1 }), mismatch(0));

    const other = await fixture.again();
    const rivals = [secrets, other, secrets, other].map((each, index) =>
      each.put("race", String(index), first),
    );
    const outcomes = (await Promise.all(rivals)).map(({ outcome }) => outcome).sort();
    assert.deepEqual(outcomes, ["stored", ...Array(3).fill("version_mismatch")]);
  });

  test(`${name}: two that write at once lose nothing`, async () => {
    await using fixture = await open();
    const stores = [fixture.secrets, await fixture.again()];
    const all = Array.from({ length: 12 }, (_, index) => index);
    await Promise.all(all.map((index) => stores[index % 2]?.put(`own/${index}`, `value ${index}`)));
    await Promise.all(all.map((index) => stores[index % 2]?.put("shared", String(index))));
    for (const store of stores) {
      for (const index of all) {
        const secret = { value: `value ${index}`, version: 1 };
        assert.deepEqual(await store.get(`own/${index}`), secret);
      }
      assert.equal((await store.get("shared"))?.version, all.length);
    }
  });

  test(`${name}: a path or value that does not fit is refused`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    for (const path of [
      "",
      "/a",
      "a/",
      "a//b",
      "../a",
      "A",
      "a b",
      "é",
      "a\u0000",
      "x".repeat(201),
    ]) {
      await assert.rejects(secrets.get(path), isProblem("invalid_request"), path);
      await assert.rejects(secrets.put(path, "x"), isProblem("invalid_request"), path);
    }
    const most = "x".repeat(SECRET_BYTES_MAX);
    assert.deepEqual(await secrets.put("most", most), stored(1));
    await assert.rejects(secrets.put("more", `${most}x`), isProblem("too_large"));
    assert.equal(await secrets.get("more"), null);
  });

  test(`${name}: what it signs is checked with its public key alone`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    const message = Buffer.from("autocode test 1\nsomething\n");
    const signed = await secrets.sign(message);
    const keyId = await secrets.publicKey();
    assert.equal(signed.keyId, keyId);
    const key = createPublicKey(describeKey(keyId).public_key);
    const bytes = Buffer.from(signed.signature, "base64");
    assert.equal(bytes.length, 64);
    assert.equal(verify(null, message, key, bytes), true);
    assert.equal(await secrets.verify(message, signed), true);
    assert.equal(await secrets.verify(Buffer.from("else"), signed), false);
    // Another last digit than its own, whatever that is.
    const last = keyId.endsWith("0") ? "1" : "0";
    const others = { keyId: `${keyId.slice(0, -1)}${last}`, signature: signed.signature };
    assert.equal(await secrets.verify(message, others), false);

    const other = await fixture.again();
    assert.equal(await other.publicKey(), keyId, "the key is the store's, not the process's");
    assert.equal(await other.verify(message, signed), true);
  });

  test(`${name}: a sealed store says so, and gives and takes nothing`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    await secrets.put("a", "the value of a");
    await fixture.seal();
    const isSealed = isProblem("secrets_sealed");
    await assert.rejects(secrets.get("a"), isSealed);
    await assert.rejects(secrets.get("b"), isSealed);
    await assert.rejects(secrets.put("a", "x"), isSealed);
    await assert.rejects(fixture.again(), isSealed);
  });
}

function stored(version: number) {
  return { outcome: "stored", version };
}

function mismatch(version: number) {
  return { outcome: "version_mismatch", version };
}

function isProblem(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}
