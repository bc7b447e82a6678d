/**
 * What every adapter of the secrets port does. Each adapter's test calls `testReading`; one that
 * can be written calls `testSecrets` as well, with a way to open a store of its own, to open it a
 * second time as another process would, and to seal it.
 */
import assert from "node:assert/strict";
import { createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { test } from "node:test";
import { describeKey, keyIdOf } from "../../../orchestrator/journal/chain.ts";
import { Problem } from "../../../orchestrator/problem.ts";
import {
  type ScopedToken,
  SECRET_BYTES_MAX,
  SECRET_VERSIONS_KEPT,
  type Secrets,
} from "../../../orchestrator/secrets/secrets.ts";
import { eventually } from "../../support/eventually.ts";

export interface SecretsFixture extends AsyncDisposable {
  secrets: Secrets;
  /** The same store, through a connection of its own. */
  again(): Promise<Secrets>;
  /** Makes the engine unable to open the store, for those who have it open, too. */
  seal(): Promise<void>;
  /** Reads what a scoped token was made for, as its holder does; where tokens are issued. */
  readScoped?(token: ScopedToken): Promise<string[]>;
}

/** `open`: with these secrets and no other, each at its first version. */
export function testReading(
  name: string,
  open: (
    given: Readonly<Record<string, string>>,
  ) => Promise<{ secrets: Secrets } & AsyncDisposable>,
): void {
  test(`${name}: what it was given is read, listed and counted`, async () => {
    await using opened = await open({ "provider/openai": "sk-1", "forge/host": "t", a: "x" });
    const { secrets } = opened;
    assert.deepEqual(await secrets.list(), ["a", "forge/host", "provider/openai"]);
    assert.deepEqual(await secrets.list("provider"), ["provider/openai"]);
    assert.deepEqual(await secrets.get("provider/openai"), { value: "sk-1", version: 1 });
    assert.deepEqual(await secrets.get("a", 1), { value: "x", version: 1 });
    assert.equal(await secrets.get("a", 2), null);
    assert.equal(await secrets.get("provider"), null);
    for (const path of ["", "/a", "../a", "A", "a b"]) {
      await assert.rejects(secrets.get(path), isProblem("invalid_request"), path);
    }
    assert.equal((await secrets.status()).state, "ready");
  });

  test(`${name}: what it signs holds, and nothing else does`, async () => {
    await using opened = await open({});
    const { secrets } = opened;
    const message = Buffer.from("autocode test 1\n");
    const signed = await secrets.sign(message);
    assert.equal(signed.keyId, await secrets.publicKey());
    assert.equal(await secrets.verify(message, signed), true);
    assert.equal(await secrets.verify(Buffer.from("else"), signed), false);
    const { publicKey } = generateKeyPairSync("ed25519");
    assert.equal(await secrets.verify(message, { ...signed, keyId: keyIdOf(publicKey) }), false);
  });

  test(`${name}: what it cannot do it says, and refuses`, async () => {
    await using opened = await open({ a: "x" });
    const { secrets } = opened;
    const grant = { paths: ["a"], ttlMs: 1_000, uses: 1, isWrapped: false, purpose: "test" };
    const { canWrite, canRotateKey, canIssueScoped } = secrets.can;
    const doing: [boolean, () => Promise<unknown>][] = [
      [canRotateKey, () => secrets.rotateKey()],
      [canIssueScoped, () => secrets.issueScoped(grant)],
      [canWrite, () => secrets.put("b", "y")],
      [canWrite, () => secrets.remove("a")],
    ];
    for (const [can, run] of doing) {
      if (can) await run();
      else await assert.rejects(run(), isProblem("conflict"));
    }
    assert.equal((await secrets.get("b"))?.value ?? null, canWrite ? "y" : null);
  });
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

  test(`${name}: secrets are listed, and forgotten whole`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    assert.deepEqual(await secrets.list(), []);
    for (const path of ["forge/github/token", "forge/gitlab", "a", "forge/github"]) {
      await secrets.put(path, "x");
    }
    const all = ["a", "forge/github", "forge/github/token", "forge/gitlab"];
    assert.deepEqual(await secrets.list(), all);
    assert.deepEqual(await secrets.list("forge"), all.slice(1));
    assert.deepEqual(await secrets.list("forge/github"), ["forge/github/token"]);
    assert.deepEqual(await secrets.list("none"), []);
    assert.equal(await secrets.remove("forge/github"), true);
    assert.equal(await secrets.remove("forge/github"), false);
    assert.equal(await secrets.get("forge/github"), null);
    assert.equal(await secrets.get("forge/github", 1), null);
    assert.deepEqual(await secrets.list(), all.toSpliced(1, 1));
    assert.deepEqual(await secrets.put("forge/github", "y", { expectedVersion: 0 }), stored(1));
    for (const path of ["", "../a"]) {
      await assert.rejects(secrets.remove(path), isProblem("invalid_request"));
    }
  });

  test(`${name}: a rotated key signs anew, and what the former signed still holds`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    const other = await fixture.again();
    const message = Buffer.from("autocode test 1\n");
    const before = await secrets.sign(message);
    const keyId = await secrets.rotateKey();
    assert.notEqual(keyId, before.keyId);
    for (const each of [secrets, other, await fixture.again()]) {
      assert.equal(await each.publicKey(), keyId);
      assert.deepEqual(new Set(await each.publicKeys()), new Set([before.keyId, keyId]));
      const after = await each.sign(message);
      assert.equal(after.keyId, keyId);
      for (const signed of [before, after]) {
        assert.equal(await secrets.verify(message, signed), true);
        assert.equal(await each.verify(message, signed), true);
      }
      const mixed = { keyId, signature: before.signature };
      assert.equal(await each.verify(message, mixed), false);
    }
  });

  test(`${name}: a scoped token reads its secrets and no others, or is refused plainly`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    await secrets.put("trial/a", "of a");
    await secrets.put("trial/b", "of b");
    await secrets.put("other", "not for it");
    const paths = ["trial/a", "trial/b"];
    const grant = { paths, ttlMs: 60_000, uses: 2, isWrapped: false, purpose: "trial_x" };
    const { readScoped } = fixture;
    assert.equal(secrets.can.canIssueScoped, readScoped !== undefined);
    if (readScoped === undefined) {
      await assert.rejects(secrets.issueScoped(grant), isProblem("conflict"));
      return;
    }
    const plain = await secrets.issueScoped(grant);
    assert.deepEqual(await readScoped(plain), ["of a", "of b"]);
    await assert.rejects(readScoped(plain), "it was used as often as it may be");
    const wrapped = await secrets.issueScoped({ ...grant, isWrapped: true });
    assert.deepEqual(await readScoped(wrapped), ["of a", "of b"]);
    await assert.rejects(readScoped(wrapped), "it was unwrapped before");
    const brief = await secrets.issueScoped({ ...grant, ttlMs: 1_000 });
    await eventually(
      () =>
        readScoped(brief).then(
          () => "read",
          () => "refused",
        ),
      (outcome) => outcome === "refused",
    );
    const missing = { ...grant, paths: ["trial/c"] };
    await assert.rejects(secrets.issueScoped(missing), isProblem("not_found"));
  });

  test(`${name}: a sealed store says so, and gives and takes nothing`, async () => {
    await using fixture = await open();
    const { secrets } = fixture;
    await secrets.put("a", "the value of a");
    const message = Buffer.from("autocode test 1\n");
    const signed = await secrets.sign(message);
    assert.equal((await secrets.status()).state, "ready");
    await fixture.seal();
    const isSealed = isProblem("secrets_sealed");
    await assert.rejects(secrets.get("a"), isSealed);
    await assert.rejects(secrets.get("b"), isSealed);
    await assert.rejects(secrets.put("a", "x"), isSealed);
    await assert.rejects(secrets.list(), isSealed);
    await assert.rejects(secrets.remove("a"), isSealed);
    await assert.rejects(secrets.sign(message), isSealed);
    await assert.rejects(secrets.rotateKey(), isSealed);
    assert.equal(await secrets.verify(message, signed), true, "a check needs no secret");
    const { state, detail } = await secrets.status();
    assert.equal(state, "sealed");
    assert.ok(detail.length > 20, detail);
    // A store that is opened while it is sealed refuses at once, or when it is asked.
    await assert.rejects(
      fixture.again().then((again) => again.get("a")),
      isSealed,
    );
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
