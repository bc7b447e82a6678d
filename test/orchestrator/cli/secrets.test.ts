/**
 * Goal: secrets at the command line: a value goes in by standard input and comes out by --reveal
 * alone, and each refusal is one line.
 *
 * Method: `bin/autocode.mjs` is spawned against the real API over a real sealed file.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import { openApiServices } from "../../support/api-services.ts";

const BIN = join(resolve(import.meta.dirname, "../../.."), "bin/autocode.mjs");
const VALUE = "sk-a-value-that-nobody-may-read";

test("secrets at the command line", async (t) => {
  await using fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0.0.0" });
  t.after(() => api.close());
  const url = await api.listen({ port: 0, host: "127.0.0.1" });
  const token = await fixture.access.issueCliToken();

  await t.test("put, ls, get, rm", async () => {
    const put = await autocode(["secret", "put", "provider/openai"], `${VALUE}\n`);
    assert.deepEqual(put, { exit: 0, out: "provider/openai is at version 1\n", err: "" });
    assert.equal((await autocode(["secret", "ls"])).out, "provider/openai\n");
    const shown = await autocode(["secret", "get", "provider/openai"]);
    assert.equal(shown.exit, 0);
    assert.ok(!(shown.out + shown.err).includes(VALUE));
    assert.equal((await autocode(["secret", "get", "provider/openai", "--reveal"])).out, VALUE);
    const late = ["secret", "put", "provider/openai", "--expected-version", "0"];
    const refused = await autocode(late, "x");
    assert.equal(refused.exit, 1);
    assert.match(refused.err, /^autocode: .*is at version 1, written by somebody else/);
    assert.equal((await autocode(["secret", "rm", "provider/openai"])).exit, 0);
    assert.equal((await autocode(["secret", "get", "provider/openai"])).exit, 1);
  });

  await t.test("no value at all, a wrong path, and what the sealed file cannot do", async () => {
    for (const [args, exit, told] of [
      [["secret", "put", "a"], 2, /comes on standard input, and there was none/],
      [["secret", "put", "a", "value"], 2, /unexpected argument "value"/],
      [["secret", "get", "../a", "--reveal"], 2, /lower-case words with slashes/],
      [["secret", "get", "none", "--reveal"], 1, /There is no secret none/],
      [["secret", "token", "a"], 1, /The sealed file issues no scoped tokens/],
    ] as const) {
      const ended = await autocode([...args]);
      assert.match(ended.err, told);
      assert.equal(ended.exit, exit, args.join(" "));
      assert.equal(ended.err.trimEnd().split("\n").length, 1, ended.err);
    }
  });

  await t.test("status, rotate-key, reseal", async () => {
    const before = await autocode(["secret", "status"]);
    assert.match(before.out, /^engine {2}file\nstate {3}ready\ndetail {2}.*\nkey {5}ed25519:/);
    const rotated = await autocode(["secret", "rotate-key"]);
    const [, keyId = ""] = /^signs with (ed25519:\S+)\n$/.exec(rotated.out) ?? [];
    assert.ok((await autocode(["secret", "status"])).out.includes(keyId));
    assert.ok(!before.out.includes(keyId));
    const passphrase = ["secret", "reseal", "--passphrase-stdin"];
    assert.equal((await autocode(passphrase, "correct horse battery staple\n")).exit, 0);
    assert.match((await autocode(passphrase, "short\n")).err, /passphrase/);
    assert.equal((await autocode(["secret", "reseal"])).out, "sealed with a new key file\n");
  });

  function autocode(args: readonly string[], input = "") {
    const { PATH = "", HOME = "" } = process.env;
    const env = { PATH, HOME, NO_COLOR: "1", AUTOCODE_URL: url, AUTOCODE_TOKEN: token };
    const child = spawn(process.execPath, [BIN, ...args], { env });
    const ended = { exit: null as number | null, out: "", err: "" };
    child.stdout.on("data", (bytes: Buffer) => {
      ended.out += bytes;
    });
    child.stderr.on("data", (bytes: Buffer) => {
      ended.err += bytes;
    });
    // A command that reads nothing may end first.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    return new Promise<typeof ended>((done) => {
      child.once("close", (exit) => done({ ...ended, exit }));
    });
  }
});
