/** Goal: what must never be read in a log is not in it, and what helps is. */
import assert from "node:assert/strict";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { DrizzleQueryError } from "drizzle-orm/errors";
import { createLog } from "../../../orchestrator/runtime/log.ts";

test("fields of secrets and prompts are cut out", async () => {
  const line = await logged({ api_key: "KEPT OUT", req: { prompt: "KEPT OUT" }, port: 7 });
  assert.doesNotMatch(line, /KEPT OUT/);
  assert.match(line, /"port":7/);
});

test("a failed statement is told without its parameters, also as a cause", async () => {
  const down = Object.assign(new Error("the database is down"), { code: "08006" });
  const params = [Buffer.from("KEPT OUT"), "KEPT OUT\n    at KEPT OUT"];
  const failed = new DrizzleQueryError("insert into call values ($1, $2)", params, down);
  for (const err of [failed, new Error("not written", { cause: failed })]) {
    const line = await logged({ err });
    assert.doesNotMatch(line, /KEPT OUT|75,69,80,84/);
    assert.match(line, /insert into call/);
    assert.match(line, /the database is down/);
    assert.match(line, /log\.test\.ts/);
  }
});

test("any other error is told as it is", async () => {
  const err = Object.assign(new Error("port in use"), { code: "EADDRINUSE" });
  const line = JSON.parse(await logged({ err }));
  assert.deepEqual(
    [line.err.message, line.err.code, line.err.stack],
    ["port in use", "EADDRINUSE", err.stack],
  );
});

async function logged(fields: object): Promise<string> {
  await using folder = await mkdtempDisposable(join(tmpdir(), "log-"));
  const file = join(folder.path, "log");
  createLog("info", file).info(fields, "told");
  return readFile(file, "utf8");
}
