/**
 * Goal: the sealed file keeps its promises: nothing readable on disk, a wrong key or a damaged file
 * named and never replaced, whole after a crash at any point, safe between processes.
 *
 * Method: the port's suite, with a key file and with a passphrase; then the files themselves are
 * read, changed and taken away.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Problem } from "../../../orchestrator/problem.ts";
import { systemRandom } from "../../../orchestrator/runtime/random.ts";
import { openFileSecrets } from "../../../orchestrator/secrets/file.ts";
import { type SecretsFixture, testReading, testSecrets } from "./conformance.ts";

const VALUE = "a-value-that-nobody-may-read-0123456789";
const PASSPHRASE = "correct horse battery staple";

testReading("file", async (given) => {
  const fixture = await openFixture(null);
  for (const [path, value] of Object.entries(given)) await fixture.secrets.put(path, value);
  return fixture;
});
testSecrets("file, with a key file", () => openFixture(null));
testSecrets("file, with a passphrase", () => openFixture(PASSPHRASE));

for (const [name, passphrase] of [
  ["a key file", null],
  ["a passphrase", PASSPHRASE],
] as const) {
  test(`with ${name}, nothing on disk can be read, by anybody or without it`, async () => {
    await using folder = await openFolder();
    const secrets = await open(folder.path, passphrase);
    await secrets.put("forge/github/token", VALUE);
    assert.equal((await stat(folder.path)).mode & 0o777, 0o700);
    const files = await readdir(folder.path);
    assert.equal(files.length, passphrase === null ? 2 : 1, files.join());
    for (const file of files) {
      const path = join(folder.path, file);
      assert.equal((await stat(path)).mode & 0o777, 0o600, file);
      const text = await readFile(path, "latin1");
      for (const word of [VALUE, "github", "PRIVATE KEY", "correct horse"]) {
        assert.ok(!text.includes(word), `${word} in ${file}`);
        assert.ok(!text.includes(Buffer.from(word).toString("base64").slice(0, 12)), file);
      }
    }
  });

  test(`with ${name}, a store is the same after a restart`, async () => {
    await using folder = await openFolder();
    const secrets = await open(folder.path, passphrase);
    await secrets.put("a", VALUE);
    const restarted = await open(folder.path, passphrase);
    assert.deepEqual(await restarted.get("a"), { value: VALUE, version: 1 });
    assert.equal(await restarted.publicKey(), await secrets.publicKey());
  });

  test(`with ${name}, a damaged store is refused wherever it is damaged, and left alone`, async () => {
    await using folder = await openFolder();
    const secrets = await open(folder.path, passphrase);
    await secrets.put("a", VALUE);
    const path = await storePath(folder.path);
    const whole = await readFile(path, "utf8");
    const step = passphrase === null ? 7 : 97;
    const damages = Array.from({ length: Math.floor(whole.length / step) }, (_, index) => {
      const at = index * step;
      const other = whole[at] === "A" ? "B" : "A";
      return whole.slice(0, at) + other + whole.slice(at + 1);
    });
    for (const text of ["", "{}", whole.slice(0, -20), ...damages]) {
      await writeFile(path, text);
      await assert.rejects(open(folder.path, passphrase), isSealed(/restore|sealed with|set AUTO/));
      assert.equal(await readFile(path, "utf8"), text);
    }
    await writeFile(path, whole);
    assert.equal((await (await open(folder.path, passphrase)).get("a"))?.value, VALUE);
  });
}

test("a wrong, missing or misplaced key is named, and makes no new store", async () => {
  await using folder = await openFolder();
  await (await open(folder.path, null)).put("a", VALUE);
  const key = join(folder.path, "secrets.key");
  const before = await readdir(folder.path);

  await assert.rejects(open(folder.path, PASSPHRASE), isSealed(/unset it/));
  await chmod(key, 0o644);
  await assert.rejects(open(folder.path, null), isSealed(/chmod 600/));
  await chmod(key, 0o600);
  const right = await readFile(key, "utf8");
  await writeFile(key, `${Buffer.alloc(32, 1).toString("base64")}\n`);
  await assert.rejects(open(folder.path, null), isSealed(/is not the one/));
  await writeFile(key, "short");
  await assert.rejects(open(folder.path, null), isSealed(/is damaged/));
  await rm(key);
  await assert.rejects(open(folder.path, null), isSealed(/cannot be read/));
  await writeFile(key, right, { mode: 0o600 });
  assert.deepEqual((await readdir(folder.path)).sort(), before.sort());
  assert.equal((await (await open(folder.path, null)).get("a"))?.value, VALUE);
});

test("a wrong or missing passphrase is named, and makes no new store", async () => {
  await using folder = await openFolder();
  await (await open(folder.path, PASSPHRASE)).put("a", VALUE);
  for (const wrong of ["", "correct horse battery stapl", `${PASSPHRASE} `]) {
    const message = isSealed(/AUTOCODE_SECRETS_PASSPHRASE is not the one/);
    await assert.rejects(open(folder.path, wrong), message);
  }
  await assert.rejects(open(folder.path, null), isSealed(/set AUTOCODE_SECRETS_PASSPHRASE/));
  assert.equal((await readdir(folder.path)).length, 1);
});

test("an older state under a newer name does not come back", async () => {
  await using folder = await openFolder();
  const secrets = await open(folder.path, null);
  await secrets.put("a", "old");
  const old = await readFile(await storePath(folder.path));
  await secrets.put("a", "new");
  await writeFile(join(folder.path, "secrets.sealed.0000000099"), old);
  await assert.rejects(secrets.get("a"), isSealed(/generation 99, is damaged/));
});

test("what a crash leaves beside the store does no harm", async () => {
  await using folder = await openFolder();
  const secrets = await open(folder.path, null);
  await secrets.put("a", "1");
  const path = await storePath(folder.path);
  const earlier = await readFile(path);
  await secrets.put("a", "2");
  // Died before the link; died between the link and the removal of the generation before.
  await writeFile(join(folder.path, ".secrets.sealed.00ff"), "half");
  await writeFile(path, earlier);
  assert.equal((await secrets.get("a"))?.value, "2");
  assert.deepEqual(await secrets.put("a", "3"), { outcome: "stored", version: 3 });
  assert.equal((await secrets.get("a"))?.value, "3");
  const left = (await readdir(folder.path)).filter((name) => /^secrets\.sealed/.test(name));
  assert.equal(left.length, 1);
});

test("processes that make and write one store at once end with one store", async () => {
  await using folder = await openFolder();
  const program = `
    const { openFileSecrets } = await import(${JSON.stringify(moduleUrl("secrets/file.ts"))});
    const { systemRandom } = await import(${JSON.stringify(moduleUrl("runtime/random.ts"))});
    const options = { dir: process.argv[1], passphrase: null };
    const secrets = await openFileSecrets(options, systemRandom);
    for (let index = 0; index < 5; index++) {
      await secrets.put("of/" + process.argv[2], "value " + index);
      await secrets.put("shared", process.argv[2] + " " + index);
    }
    console.log(await secrets.publicKey());`;
  const run = promisify(execFile);
  const args = (name: string) => ["--input-type=module", "-e", program, folder.path, name];
  const ends = await Promise.all(
    ["a", "b", "c"].map((name) => run(process.execPath, args(name), { encoding: "utf8" })),
  );
  const secrets = await open(folder.path, null);
  for (const { stdout } of ends) assert.equal(stdout.trim(), await secrets.publicKey());
  for (const name of ["a", "b", "c"]) {
    assert.deepEqual(await secrets.get(`of/${name}`), { value: "value 4", version: 5 });
  }
  assert.equal((await secrets.get("shared"))?.version, 15);
});

async function openFixture(passphrase: string | null): Promise<SecretsFixture> {
  const folder = await openFolder();
  const secrets = await open(folder.path, passphrase);
  return {
    secrets,
    again: () => open(folder.path, passphrase),
    seal: async () => {
      // Another's store in its place: the key that we have is not the one that opens it.
      const elsewhere = await mkdtemp(join(tmpdir(), "autocode-secrets-other-"));
      await open(elsewhere, "another passphrase");
      await rename(await storePath(elsewhere), await storePath(folder.path));
      await rm(elsewhere, { recursive: true });
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

function open(dir: string, passphrase: string | null) {
  return openFileSecrets({ dir, passphrase }, systemRandom);
}

async function openFolder() {
  const path = await mkdtemp(join(tmpdir(), "autocode-secrets-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function storePath(dir: string): Promise<string> {
  const [name] = (await readdir(dir)).filter((each) => each.startsWith("secrets.sealed.")).sort();
  return join(dir, name ?? "");
}

function moduleUrl(path: string): string {
  return new URL(`../../../orchestrator/${path}`, import.meta.url).href;
}

function isSealed(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, "secrets_sealed");
    assert.match(error.message, message);
    assert.ok(!error.message.includes(VALUE) && !error.message.includes(PASSPHRASE));
    return true;
  };
}

test("sealed anew with a key or a passphrase, whoever has it open goes on", async () => {
  await using folder = await openFolder();
  const secrets = await open(folder.path, null);
  const other = await open(folder.path, null);
  await secrets.put("a", VALUE);
  const before = await readFile(join(folder.path, "secrets.key"), "utf8");

  await secrets.reseal(null);
  assert.notEqual(await readFile(join(folder.path, "secrets.key"), "utf8"), before);
  for (const each of [secrets, other, await open(folder.path, null)]) {
    assert.equal((await each.get("a"))?.value, VALUE);
    assert.equal((await each.put("a", VALUE)).outcome, "stored");
  }
  await writeFile(join(folder.path, "secrets.key"), before);
  await assert.rejects(open(folder.path, null), isSealed(/is not the one/));

  await secrets.reseal(PASSPHRASE);
  assert.ok(!(await readdir(folder.path)).includes("secrets.key"));
  assert.equal((await secrets.get("a"))?.value, VALUE);
  await assert.rejects(open(folder.path, null), isSealed(/need their passphrase/));
  assert.equal((await (await open(folder.path, PASSPHRASE)).get("a"))?.value, VALUE);
});

test("a passphrase in a file is read again when it was changed", async () => {
  await using folder = await openFolder();
  await using elsewhere = await openFolder();
  const passphraseFile = join(elsewhere.path, "passphrase");
  await writeFile(passphraseFile, `${PASSPHRASE}\n`);
  const options = { dir: folder.path, passphrase: null, passphraseFile };
  const running = await openFileSecrets(options, systemRandom);
  await running.put("a", VALUE);
  await (await open(folder.path, PASSPHRASE)).reseal("another passphrase");
  await assert.rejects(running.get("a"), isSealed(/is not the one/));
  assert.equal((await running.status()).state, "sealed");
  await writeFile(passphraseFile, "another passphrase\n");
  assert.equal((await running.get("a"))?.value, VALUE);
  assert.equal((await running.status()).state, "ready");
});

test("a crash while it is sealed anew leaves a store that opens", async () => {
  await using folder = await openFolder();
  await (await open(folder.path, null)).put("a", VALUE);
  const key = join(folder.path, "secrets.key");
  const next = Buffer.alloc(32, 7).toString("base64");
  // The new key is written first, above the one that the store is still sealed with.
  await writeFile(key, `${next}\n${await readFile(key, "utf8")}`);
  assert.equal((await (await open(folder.path, null)).get("a"))?.value, VALUE);
});
