/**
 * Goal: an admin makes a token at the command line, a job asks with it, and once it is revoked or
 * expired the job's one line says so.
 *
 * Method: `bin/autocode.mjs` is spawned against the real API.
 */
import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { createApi } from "../../../orchestrator/api/server.ts";
import { openApiServices } from "../../support/api-services.ts";
import { runToEnd } from "../../support/installation.ts";

const BIN = join(resolve(import.meta.dirname, "../../.."), "bin/autocode.mjs");
const DAY_MS = 86_400_000;

test("named tokens at the command line", async (t) => {
  await using fixture = await openApiServices();
  const { clock } = fixture;
  const api = createApi(fixture.services, { version: "0.0.0" });
  t.after(() => api.close());
  const url = await api.listen({ port: 0, host: "127.0.0.1" });
  const admin = await fixture.access.issueCliToken();
  let token = "";

  await t.test("create prints the token alone, and beside it what it is", async () => {
    const args = ["token", "create", "nomad", "--role", "operator", "--expires", "30d"];
    const made = await autocode(args);
    assert.deepEqual([made.exit, made.out.length > 40], [0, true], made.err);
    token = made.out.trim();
    assert.match(token, /^autocode_named_\S{43}$/);
    const until = new Date(clock.ms + 30 * DAY_MS).toISOString();
    assert.equal(made.err, `nomad has the role operator; good until ${until}\n`);
    const json = await autocode(["token", "create", "reader", "--expires", "never", "--json"]);
    const { role, expires_at: expiresAt } = JSON.parse(json.out);
    assert.deepEqual([role, expiresAt], ["viewer", null]);
    const usual = JSON.parse((await autocode(["token", "create", "usual", "--json"])).out);
    assert.equal(Date.parse(usual.expires_at), clock.ms + 90 * DAY_MS);
  });

  await t.test("a job asks with it, for what its role may", async () => {
    assert.equal((await autocode(["experiment", "ls"], token)).exit, 0);
    const refused = await autocode(["token", "ls"], token);
    assert.equal(refused.exit, 4);
    assert.match(refused.err, /^autocode: This needs the role admin, and yours is operator\n$/);
  });

  await t.test("ls shows each with its last use and its end, and no secret", async () => {
    const listed = await autocode(["token", "ls"]);
    const [now, monthEnd] = [0, 30 * DAY_MS].map((ms) => minute(clock.ms + ms));
    const lines = listed.out.trimEnd().split("\n");
    assert.match(lines[0] ?? "", /^name +role +created +last used +expires$/);
    assert.deepEqual(
      lines.slice(1).map((line) => line.split(/ {2,}/)),
      [
        ["nomad", "operator", now, now, monthEnd],
        ["reader", "viewer", now, "never", "never"],
        ["usual", "viewer", now, "never", minute(clock.ms + 90 * DAY_MS)],
      ],
    );
    const { tokens } = JSON.parse((await autocode(["token", "ls", "--json"])).out);
    assert.equal(tokens.length, 3);
    assert.ok(!listed.out.includes(token.slice(-20)));
  });

  await t.test("one that expired says so to its job, and in the list", async () => {
    clock.ms += 31 * DAY_MS;
    const ended = await autocode(["experiment", "ls"], token);
    assert.equal(ended.exit, 4);
    assert.match(ended.err, /^autocode: The token "nomad" expired at .*autocode token create/);
    assert.match((await autocode(["token", "ls"])).out, /^nomad .* EXPIRED$/m);
  });

  await t.test("one that was revoked says so, and its name is free", async () => {
    const gone = await autocode(["token", "revoke", "nomad"]);
    assert.deepEqual(gone, { exit: 0, out: "nomad is revoked\n", err: "" });
    const ended = await autocode(["experiment", "ls"], token);
    assert.equal(ended.exit, 4);
    assert.match(ended.err, /^autocode: The token "nomad" was revoked at /);
    assert.equal((await autocode(["token", "create", "nomad"])).exit, 0);
  });

  await t.test("bad input is one line that names it", async () => {
    for (const [args, exit, told] of [
      [["create"], 2, /missing <name>/],
      [["create", "a", "--role", "root"], 2, /--role: "root" must be viewer, operator, admin/],
      [["create", "a", "--expires", "soon"], 2, /--expires: "soon" is no time such as 30m/],
      [["create", "a", "--expires", "3651d"], 2, /--expires: "3651d" .* of at most 3650d/],
      [["create", "A"], 2, /body\.name: must match/],
      [["create", "reader"], 1, /there is a token "reader": revoke it first/],
      [["revoke", "nobody"], 1, /There is no token "nobody"/],
    ] as const) {
      const ended = await autocode(["token", ...args]);
      assert.match(ended.err, told);
      assert.deepEqual([ended.exit, ended.out], [exit, ""], args.join(" "));
      assert.equal(ended.err.trimEnd().split("\n").length, 1, ended.err);
    }
  });

  function autocode(args: readonly string[], as = admin) {
    const { PATH = "", HOME = "" } = process.env;
    const env = { PATH, HOME, NO_COLOR: "1", AUTOCODE_URL: url, AUTOCODE_TOKEN: as };
    return runToEnd(process.execPath, [BIN, ...args], { env });
  }
});

function minute(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")}Z`;
}
