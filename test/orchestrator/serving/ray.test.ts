/**
 * Goal: engines on Ray Serve come and go and are told of as any others, nothing of anybody else's
 * is touched by it, and each way in which a Ray can be wrong has its own words.
 *
 * Method: the port's suite, and cases of its own, against a strict stub of Ray's REST API; the same
 * suite runs on Ray itself by `npm run test:ray`.
 */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { test } from "node:test";
import { Problem } from "../../../orchestrator/problem.ts";
import { rfc3339 } from "../../../orchestrator/runtime/clock.ts";
import { readEngineMetrics } from "../../../orchestrator/serving/engine-metrics.ts";
import { lastLines } from "../../../orchestrator/serving/ray-api.ts";
import { createRayEngineClient } from "../../../orchestrator/serving/ray-client.ts";
import type { EngineSpec } from "../../../orchestrator/serving/serving.ts";
import { addCounted, readCounted } from "../../../orchestrator/traffic/counted.ts";
import { openTestDatabase } from "../../support/database.ts";
import { eventually } from "../../support/eventually.ts";
import { openRayLauncher, PLAN } from "../../support/ray-launcher.ts";
import { openRayStub } from "../../support/ray-stub.ts";
import { testLauncher } from "./conformance.ts";

const NOON_MS = Date.UTC(2026, 10, 20, 12);
const OTHER = {
  name: "theirs",
  route_prefix: "/",
  import_path: "theirs:app",
  runtime_env: { env_vars: { THEIR_SECRET: "kept as it was" } },
};

async function openStubbed(options: { token?: string } = {}) {
  const stub = await openRayStub(options);
  const world = openRayLauncher({ url: stub.url, ingressUrl: stub.url, ...options });
  return {
    ...world,
    stub,
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await stub[Symbol.asyncDispose]();
    },
  };
}

testLauncher("ray (a stub)", openStubbed);

test("what others deployed stays as it was, by configuration or by code", async () => {
  await using world = await openStubbed();
  const { stub, launcher, api } = world;
  await api.put({ http_options: { host: "0.0.0.0", port: 9000 }, applications: [OTHER] });
  stub.run("by-code");
  await Promise.all([world.start("p.normal"), world.start("p.thinking")]);
  const names = () => [...stub.applications.keys()].sort();
  assert.deepEqual(names(), ["autocode-p.normal", "autocode-p.thinking", "by-code", "theirs"]);
  await launcher.stop("p.normal");
  assert.deepEqual(names(), ["autocode-p.thinking", "by-code", "theirs"]);
  for (const put of stub.puts.slice(1)) {
    assert.deepEqual((put["applications"] as object[])[0], OTHER);
    assert.deepEqual(put["http_options"], { host: "0.0.0.0", port: 9000 });
  }
  assert.equal(stub.applications.get("by-code")?.status, "RUNNING");
});

test("what is struck out for browsers is never written back", async () => {
  await using world = await openStubbed();
  const struck = { ...OTHER, runtime_env: { env_vars: { THEIR_SECRET: "<redacted>" } } };
  await world.api.put({ applications: [struck] });
  await assert.rejects(world.start("p.normal"), /strikes values out of the configurations/);
  assert.equal(world.stub.puts.length, 1);
});

test("an engine that falls ill later has ended, and says why", async () => {
  await using world = await openStubbed();
  const spec = await world.start("p.normal");
  await eventually(() => world.answers(spec), Boolean);
  world.stub.fail("autocode-p.normal", "The deployments ['Engine'] are UNHEALTHY.");
  assert.equal(await world.answers(spec), false);
  const condition = await world.launcher.condition("p.normal");
  assert.ok(condition.state === "ended");
  assert.equal(condition.exit, "Ray says UNHEALTHY");
  assert.match(condition.lastLines[0] ?? "", /are UNHEALTHY/);
});

test("an ingress that answers before its engine is loaded does not answer", async () => {
  await using world = await openStubbed();
  const spec = await world.start("p.normal");
  const listed = await fetch(`${spec.baseUrl}/models`);
  assert.equal(listed.status, 200);
  assert.equal(await world.answers(spec), false);
  await eventually(() => world.answers(spec), Boolean);
});

test("an engine's figures are its own alone, and it is not put to sleep", async () => {
  await using world = await openStubbed();
  const { client } = world;
  const spec = await world.start("p.normal");
  assert.equal(await client.metrics(spec.baseUrl), null);
  // It serves the same model, with the same figures.
  await world.start("p.thinking");
  await eventually(() => world.answers(spec), Boolean);
  const figures = readEngineMetrics((await client.metrics(spec.baseUrl)) ?? "", 0, null);
  assert.equal(figures?.running, 3);
  const { signal } = new AbortController();
  await assert.rejects(client.sleep(spec.baseUrl, signal), /puts no engine to sleep/);
});

test("what engines count stays right, whatever Ray is told of others", async () => {
  await using db = await openTestDatabase();
  await using world = await openStubbed();
  const { launcher, stub } = world;
  let nowMs = 0;
  const client = createRayEngineClient(world.api, () => (nowMs += 10_000));
  const answers = ({ baseUrl, model }: EngineSpec) => client.answers(baseUrl, model);
  const specs = [await world.start("p.normal"), await world.start("p.thinking")];
  for (const spec of specs) await eventually(() => answers(spec), Boolean);
  const look = async (tokens: number | null) => {
    if (tokens !== null) stub.count("autocode-p.normal", tokens);
    for (const spec of specs) {
      if (!(await answers(spec))) continue;
      const condition = await launcher.condition(spec.id);
      assert.ok(condition.state === "running");
      const { startedAtMs } = condition;
      assert.ok(Number.isInteger(startedAtMs));
      const figures = readEngineMetrics((await client.metrics(spec.baseUrl)) ?? "", 0, null);
      assert.ok(figures !== null);
      const inputTokens = figures.prompt_tokens_total;
      const counters = { provider: spec.id, model: "m", inputTokens, outputTokens: 0, startedAtMs };
      await addCounted(db, counters, NOON_MS);
    }
    const counted = (id: string) => readCounted(db, id, rfc3339(NOON_MS).slice(0, 10));
    const [own, other] = [await counted("p.normal"), await counted("p.thinking")];
    return [own?.[0]?.inputTokens, other?.[0]?.inputTokens];
  };
  assert.deepEqual(await look(1_000), [undefined, undefined]);
  assert.deepEqual(await look(1_500), [500, 0]);
  for (const again of [1_500, null]) assert.deepEqual(await look(again), [500, 0]);
  // Each PUT is a deployment of all that it names.
  await launcher.stop("p.thinking");
  assert.deepEqual(await look(1_600), [600, 0]);
  await world.start("p.thinking");
  assert.deepEqual(await look(null), [600, 0]);
  stub.recover();
  assert.deepEqual(await look(1_700), [700, 0]);
  stub.replace("autocode-p.normal");
  assert.deepEqual(await look(2_000), [2_700, 0]);
});

test("a log that is followed is fetched whole once, and nothing of it comes twice", async () => {
  await using world = await openStubbed();
  const { launcher, stub } = world;
  const spec = await world.start("p.normal");
  await eventually(() => world.answers(spec), Boolean);
  const deployed = stub.applications.get("autocode-p.normal");
  assert.ok(deployed !== undefined);
  const lines = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, index) => `line ${from + index}: größer\n`).join("");
  deployed.log = lines(0, 3_000);
  const ended = new AbortController();
  const followed = await launcher.logs("p.normal", { isFollowed: true, signal: ended.signal });
  assert.ok(followed !== null);
  const chunks: Uint8Array[] = [];
  const reading = (async () => {
    for await (const chunk of followed) chunks.push(chunk);
  })();
  const said = () => Buffer.concat(chunks).toString("utf8");
  let whole = deployed.log;
  // A few, none of a name, half a line and its rest, more than a tail, and a file of its own.
  for (const more of ["a\na\n", "\n\n", "half", " a line\n", lines(3_000, 5_500)]) {
    await eventually(said, (text) => text === whole);
    deployed.log += more;
    whole += more;
  }
  await eventually(said, (text) => text === whole);
  deployed.log = "rotated\n";
  await eventually(said, (text) => text === `${whole}rotated\n`);
  ended.abort();
  await reading;
  assert.deepEqual(
    stub.logLines.filter((asked) => asked === -1),
    [-1],
  );
  assert.ok(stub.logLines.includes(1_000) && stub.logLines.includes(20_000));
});

test("of what is too long, the whole lines at its end are kept", async () => {
  const kept = async (chunks: string[], bytesMax: number) =>
    String(await lastLines(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), bytesMax));
  assert.equal(await kept(["one\ntw", "o\n", "three\n"], Infinity), "one\ntwo\nthree\n");
  assert.equal(await kept(["one\ntw", "o\n", "three\n"], 14), "one\ntwo\nthree\n");
  assert.equal(await kept(["one\ntw", "o\n", "three\n"], 11), "two\nthree\n");
  assert.equal(await kept(["one\ntw", "o\n", "three\n"], 7), "three\n");
});

test("a dashboard that is away ends no engine", async () => {
  const world = await openStubbed();
  await world.start("p.normal");
  const known = await eventually(
    () => world.launcher.condition("p.normal"),
    ({ state }) => state === "running",
  );
  await world.stub.hangUp();
  assert.deepEqual(await world.launcher.condition("p.normal"), known);
  await assert.rejects(world.launcher.stop("p.normal"), isProblem("unavailable", /ECONNREFUSED/));
  await world.launcher[Symbol.asyncDispose]();
});

test("each wrong Ray has its own words", async () => {
  await using guarded = await openRayStub({ token: "right" });
  const wrong = openRayLauncher({ url: guarded.url, token: "wrong" });
  const refusal = isProblem("unavailable", /401.*Missing authentication token.*RAY_AUTH_TOKEN/);
  await assert.rejects(wrong.launcher.addresses(PLAN), refusal);
  const right = openRayLauncher({ url: guarded.url, token: "right" });
  assert.equal((await right.launcher.addresses(PLAN)).length, 2);

  const page = createServer((_request, response) => void response.end("<html>hello</html>"));
  await new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve));
  const address = page.address();
  assert.ok(typeof address === "object" && address !== null);
  const url = `http://127.0.0.1:${address.port}`;
  const another = openRayLauncher({ url });
  await assert.rejects(
    another.launcher.addresses(PLAN),
    isProblem("conflict", /no dashboard of Ray's.*<html>hello.*AUTOCODE_RAY_URL/),
  );
  page.closeAllConnections();
  await new Promise((resolve) => page.close(resolve));
  await assert.rejects(
    openRayLauncher({ url }).launcher.addresses(PLAN),
    isProblem("unavailable", /does not answer \(ECONNREFUSED\).*AUTOCODE_RAY_URL/),
  );

  await using world = await openStubbed();
  const spec = await world.specOf("p.normal", { dies: false });
  const nothing = { kind: "application", application: {} } as const;
  await assert.rejects(
    world.launcher.start({ ...spec, program: nothing }),
    isProblem("conflict", /Ray refuses PUT .*import_path: Field required/),
  );
  const command = { kind: "command", argv: [], env: {} } as const;
  await assert.rejects(
    world.launcher.start({ ...spec, program: command }),
    isProblem("conflict", /for another launcher/),
  );
});

test("engines of a pair have a path each, and what Ray cannot hold apart is refused", async () => {
  await using world = await openStubbed();
  const { launcher, stub } = world;
  assert.deepEqual(await launcher.addresses(PLAN), [
    `${stub.url}/autocode/p.normal/v1`,
    `${stub.url}/autocode/p.thinking/v1`,
  ]);
  // Without an address of its ingress: at the dashboard's host, and the port that Serve has.
  await world.api.put({ http_options: { host: "0.0.0.0", port: 9000 }, applications: [] });
  const unsaid = openRayLauncher({ url: stub.url });
  assert.equal(
    (await unsaid.launcher.addresses(PLAN))[0],
    "http://127.0.0.1:9000/autocode/p.normal/v1",
  );
  const models = PLAN.models.map((model) => ({ ...model, gpus: [0] })) as typeof PLAN.models;
  const shared = launcher.addresses({ ...PLAN, residency: "together", models });
  await assert.rejects(shared, isProblem("conflict", /p shares GPUs.*AUTOCODE_SERVING=processes/));
  const turns = launcher.addresses({ ...PLAN, residency: "alternate" });
  await assert.rejects(turns, isProblem("conflict", /does not put engines to sleep/));
});

function isProblem(code: Problem["code"], words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, words);
    return true;
  };
}
