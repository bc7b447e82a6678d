/**
 * Goal: an egress proxy of its own process knows nobody that the database does not, and what it
 * recorded is in the store once it has stopped.
 *
 * Method: `proxy/egress/main.ts` as a process, on a database of the test's own.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { request } from "node:http";
import { join } from "node:path";
import test from "node:test";
import { sql } from "drizzle-orm";
import { rows } from "../../../orchestrator/db/rows.ts";
import { openEmptyDatabase } from "../../support/database.ts";
import { eventually } from "../../support/eventually.ts";
import { cleanEnvironment, openFolder, ROOT, runToEnd } from "../../support/installation.ts";

const MAIN = join(ROOT, "proxy/egress/main.ts");
const READY = /egress \(embedded\) at (http\S+)\n/;

test("a proxy of its own: strangers are refused, on record, and it ends in order", async () => {
  await using folder = await openFolder("autocode-egress-");
  await using database = await openEmptyDatabase();
  const env = { ...cleanEnvironment(), AUTOCODE_HOME: folder.path, DATABASE_URL: database.url };
  const child = spawn(process.execPath, [MAIN], { env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      output += bytes;
    });
  }
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null;
  try {
    await eventually(() => READY.test(output) || hasEnded(), Boolean, 60_000);
    const [, url = ""] = READY.exec(output) ?? [];
    assert.notEqual(url, "", output);
    assert.equal(await statusOf(url, undefined), 407);
    const credentials = Buffer.from("allocation_01j9zq2e5m0000000000000000:guess");
    assert.equal(await statusOf(url, `Basic ${credentials.toString("base64")}`), 407);
    child.kill("SIGTERM");
    await eventually(hasEnded, Boolean, 30_000);
    assert.equal(child.exitCode, 0, output);
  } finally {
    child.kill("SIGKILL");
  }
  const found = await rows<{ host: string; reason: string }>(
    database.sql,
    sql`select host, reason from flow order by started_at`,
  );
  assert.deepEqual(found, [
    { host: "nobody.example", reason: "no_session" },
    { host: "nobody.example", reason: "no_session" },
  ]);
  const [source] = await rows<{ is_whole: boolean; is_closed: boolean }>(
    database.sql,
    sql`select stored = '{[1,3)}'::int8multirange as is_whole, closed_at is not null as is_closed
      from traffic_source`,
  );
  assert.deepEqual(source, { is_whole: true, is_closed: true });
});

test("without a database it says what to set", async () => {
  await using folder = await openFolder("autocode-egress-");
  const env = { ...cleanEnvironment(), AUTOCODE_HOME: folder.path };
  const { exit, err } = await runToEnd(process.execPath, [MAIN], { env });
  assert.equal(exit, 2);
  assert.match(err, /DATABASE_URL: an egress proxy of its own process needs/);
});

/** Of a request for http://nobody.example/ through the proxy. */
function statusOf(proxy: string, authorization: string | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(proxy, {
      path: "http://nobody.example/",
      headers: {
        host: "nobody.example",
        ...(authorization === undefined ? {} : { "proxy-authorization": authorization }),
      },
    });
    asked.on("error", reject);
    asked.on("response", (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.end();
  });
}
