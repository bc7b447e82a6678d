/**
 * Goal: replays, cassettes, alarms and reconciliations are served as the contract says, and refused
 * by name; the commands over them say what they did.
 *
 * Method: the real API over services in memory; `bin/autocode.mjs` as a process of its own.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "node:test";
import { Value } from "typebox/value";
import { createApi } from "../../../orchestrator/api/server.ts";
import {
  ReconciliationReport,
  UnmatchedCall,
  UnmatchedCallList,
} from "../../../orchestrator/contract/accounting.ts";
import { Cassette } from "../../../orchestrator/contract/cassettes.ts";
import { Trial } from "../../../orchestrator/contract/trials.ts";
import { UNMATCHED } from "../../support/accounting.ts";
import { openApiServices } from "../../support/api-services.ts";
import { cleanEnvironment, runToEnd } from "../../support/installation.ts";

const BIN = resolve(import.meta.dirname, "../../../bin/autocode.mjs");
const TRIAL = { project: "demo", agent: "aider", pair: "scripted", task: "fix-add" };

async function open() {
  const fixture = await openApiServices();
  const api = createApi(fixture.services, { version: "0" });
  const url = await api.listen({ port: 0, host: "127.0.0.1" });
  const folder = await mkdtemp(join(tmpdir(), "autocode-replays-"));
  const token = await fixture.access.issueCliToken();
  const headers = { authorization: `Bearer ${token}` };
  let calls = 0;
  return {
    ...{ fixture, folder, call, autocode },
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await rm(folder, { recursive: true });
      await fixture[Symbol.asyncDispose]();
    },
  };

  async function call(method: "GET" | "POST", path: string, body?: object) {
    const sent = body === undefined ? {} : { body: JSON.stringify(body) };
    const type = body === undefined ? {} : { "content-type": "application/json" };
    const key = { "idempotency-key": `call-${++calls}` };
    const options = { method, headers: { ...headers, ...type, ...key }, ...sent };
    const response = await fetch(`${url}/api/v1/${path}`, options);
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    return { status: response.status, body: isJson ? (JSON.parse(text) as unknown) : text };
  }

  function autocode(...args: string[]) {
    const env = { ...cleanEnvironment(), NO_COLOR: "1", AUTOCODE_HOME: folder };
    const where = { AUTOCODE_URL: url, AUTOCODE_TOKEN: token };
    return runToEnd(process.execPath, [BIN, ...args], { cwd: folder, env: { ...env, ...where } });
  }
}

test("replays and alarms over the API", async (t) => {
  await using world = await open();
  const { call, autocode, folder } = world;
  const { id } = (await call("POST", "trials", TRIAL)).body as Trial;

  await t.test("a replay is made of a trial, and names it", async () => {
    const { status, body } = await call("POST", `trials/${id}/replay`);
    assert.equal(status, 201);
    assert.ok(Value.Check(Trial, body));
    assert.deepEqual([body.replay_of, body.agent], [id, "aider"]);
    assert.equal((await call("POST", "trials/none/replay")).status, 404);
  });

  await t.test("its cassette is JSON, its script YAML", async () => {
    const { body } = await call("GET", `trials/${id}/cassette`);
    assert.ok(Value.Check(Cassette, body));
    assert.equal((await call("GET", `trials/${id}/script`)).body, "match: fix-add\nsteps: []\n");
    const files = ["--export-cassette", "c.json", "--export-script", "s.yaml"];
    const { exit, err } = await autocode("trial", "replay", id, ...files);
    assert.equal(exit, 0, err);
    assert.deepEqual(JSON.parse(await readFile(join(folder, "c.json"), "utf8")), body);
    assert.match(await readFile(join(folder, "s.yaml"), "utf8"), /^match: fix-add$/m);
    const nowhere = await autocode("trial", "replay", id, "--export-cassette", "no/such/c.json");
    assert.equal(nowhere.exit, 2);
    assert.match(nowhere.err, /no\/such\/c\.json cannot be written \(ENOENT\)/);
  });

  await t.test("a cassette is brought back; what is none is told why", async () => {
    const told = async (...args: string[]) => {
      const { exit, err } = await autocode("trial", "replay", ...args);
      return `${exit} ${err}`;
    };
    const made = await autocode(
      ...["trial", "replay", "--cassette", "c.json", "--project", "demo", "--detach", "--json"],
    );
    assert.equal(made.exit, 0, made.err);
    const trial = JSON.parse(made.out) as Trial;
    assert.equal(trial.replay_of, trial.id);
    assert.match(made.err, new RegExp(`recorded as ${id}, verdict `));
    const of = ["--project", "demo", "--cassette"];
    assert.match(await told(...of, "gone.json"), /^2 .*gone\.json cannot be read \(ENOENT\)/);
    await writeFile(join(folder, "no.json"), "{");
    assert.match(await told(...of, "no.json"), /^2 .*no\.json is no JSON: /);
    await writeFile(join(folder, "no.json"), '{"log":{}}');
    assert.match(await told(...of, "no.json"), /^2 .*is no cassette: make one with trial replay/);
    const cassette = JSON.parse(await readFile(join(folder, "c.json"), "utf8"));
    await writeFile(join(folder, "no.json"), JSON.stringify({ ...cassette, schema_version: 9 }));
    assert.match(await told(...of, "no.json"), /^2 .*schema_version is 9; .* reads version 1/);
    await writeFile(join(folder, "no.json"), JSON.stringify({ ...cassette, exchanges: [{}] }));
    assert.match(await told(...of, "no.json"), /^2 .*body\.cassette\.exchanges\.0: missing field/);
    assert.match(await told("--cassette", "c.json"), /^2 .*needs --project/);
    assert.match(await told(id, ...of, "c.json"), /^2 .*not both/);
    assert.match(await told(), /^2 .*give a trial's id, or --cassette/);
    assert.match(await told(id, "--project", "demo"), /^2 .*--project is for --cassette alone/);
  });

  await t.test("reconciliations are read, and made for a day", async () => {
    const { body } = await call("GET", "traffic/reconciliations");
    assert.ok(Value.Check(ReconciliationReport, body));
    const made = await call("POST", "traffic/reconciliations", { day: "2026-11-19" });
    assert.equal((made.body as ReconciliationReport).rows[0]?.day, "2026-11-19");
    assert.equal((await call("POST", "traffic/reconciliations", { day: "today" })).status, 400);
    const { exit, out } = await autocode("traffic", "reconcile", "--day", "2026-11-19");
    assert.equal(exit, 0);
    assert.match(out, /2026-11-19 +openai +gpt-5 .* ok/);
  });

  await t.test("an alarm is listed with exit status 1, until it is answered", async () => {
    const listed = await call("GET", "traffic/unmatched");
    assert.ok(Value.Check(UnmatchedCallList, listed.body));
    const { exit, out } = await autocode("traffic", "unmatched");
    assert.equal(exit, 1);
    assert.match(out, /api\.openai\.com/);
    const unsaid = await autocode("traffic", "unmatched", "answer", UNMATCHED.id);
    assert.equal(unsaid.exit, 2);
    assert.equal((await autocode("traffic", "unmatched", "forget", UNMATCHED.id)).exit, 2);
    const because = ["--because", "by hand"];
    const answered = await autocode("traffic", "unmatched", "answer", UNMATCHED.id, ...because);
    assert.equal(answered.exit, 0, answered.err);
    assert.equal((await autocode("traffic", "unmatched")).exit, 0);
    assert.match((await autocode("traffic", "unmatched", "--all")).out, /by hand/);
    const path = `traffic/unmatched/${UNMATCHED.id}/answer`;
    assert.equal((await call("POST", path, { because: "again" })).status, 409);
    assert.equal((await call("POST", "traffic/unmatched/x/answer", { because: "x" })).status, 404);
    assert.equal((await call("POST", path, {})).status, 400);
    assert.ok(Value.Check(UnmatchedCall, UNMATCHED));
  });
});
