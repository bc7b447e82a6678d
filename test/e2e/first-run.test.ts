/**
 * Goal: what a person meets in the first minutes: the example's verdicts, the link, Ctrl-C that
 * leaves nothing running, and a second start that does not repeat the first.
 *
 * Method: the real program in an empty home, with the real agent.
 */
import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import type { Experiment } from "../../orchestrator/contract/trials.ts";
import { eventually } from "../support/eventually.ts";
import { openInstallation, whyNoAgents } from "../support/installation.ts";

const FIRST_VERDICT_MS = 60_000;
const LINK = /Open (http:\/\/127\.0\.0\.1:\d+)\/login\?secret=\S+/;
const skip = await whyNoAgents("qwen-code");

test("the first start runs the example to its verdicts, the second does not", {
  skip,
}, async (t) => {
  await using installation = await openInstallation({ example: "on" });
  const startedMs = performance.now();
  installation.begin();
  await installation.ready();

  await t.test("the first verdict comes within a minute", async () => {
    const ofExperiment = async () => {
      const { experiments } = await installation.get<{ experiments: { id: string }[] }>(
        "experiments",
      );
      const [first] = experiments;
      if (first === undefined) return [];
      return (await installation.get<Experiment>(`experiments/${first.id}`)).trials;
    };
    const hasVerdict = (trials: { verdict: unknown }[]) =>
      trials.some(({ verdict }) => verdict !== null);
    await eventually(ofExperiment, hasVerdict, FIRST_VERDICT_MS);
    const tookMs = performance.now() - startedMs;
    t.diagnostic(`first verdict after ${Math.round(tookMs)} ms`);
    assert.ok(tookMs < FIRST_VERDICT_MS, `${tookMs} ms`);
  });

  await t.test("progress, a table, and a link are printed", async () => {
    await eventually(() => LINK.test(installation.output()), Boolean, 120_000);
    const text = installation.output();
    assert.match(text, /First start: the example project runs qwen-code on 3 tasks/);
    assert.match(text, /[1-3]\/3 trials ended · \d+\.\d+ CAD · [\d.]+ /);
    // Progress goes to another stream, which may be read in between.
    const lines = text.split("\n").filter((line) => !/^\d\/3 trials ended/.test(line));
    const head = lines.findIndex((line) => /^agent +pair +.*verdict/.test(line));
    const words = lines[head]?.split(/\s+/) ?? [];
    for (const title of ["agent", "pair", "verdict", "in", "out", "cost", "time"]) {
      assert.ok(words.includes(title), `${title} in ${words}`);
    }
    const rows = lines.slice(head + 1, head + 4);
    for (const row of rows) assert.match(row, /^qwen-code +scripted .* 0\.\d+ CAD +[\d.]+ ?m?s/);
    assert.equal(rows.filter((row) => row.includes("passed")).length, 2, text);
    assert.match(text, /^qwen-code +scripted +2\/3 /m);
    for (const line of lines.slice(head, head + 4)) assert.ok(line.length <= 80, line);
  });

  await t.test("doctor finds nothing amiss", async () => {
    const { exit, out, err } = await installation.cli("doctor");
    assert.match(out, /postgres/i);
    assert.match(out, /qwen-code/);
    assert.ok(exit === 0 || /missing/.test(out), err);
  });

  await t.test("the data lies where it is said to lie", async () => {
    assert.deepEqual(await readdir(installation.home), ["projects", "shared"]);
    const shared = await readdir(join(installation.home, "shared"));
    assert.deepEqual(shared, [
      "agents",
      "allocations",
      "configs",
      "engines",
      "logs",
      "orchestrators",
      "postgres",
      "spool",
      "vault-secrets",
    ]);
    const allocations = await readdir(join(installation.home, "shared/allocations"));
    assert.deepEqual(allocations, ["compiled", "ended-logs"]);
    const endpoint = join(installation.home, "shared/configs/endpoint.json");
    assert.equal((await stat(endpoint)).mode & 0o777, 0o600);
    const [project = ""] = await readdir(join(installation.home, "projects"));
    assert.match(project, /^project_/);
    const trials = await readdir(join(installation.home, "projects", project, "worker-artifacts"));
    assert.equal(trials.length, 3);
    const log = await readFile(join(installation.home, "shared/logs/orchestrator.log"), "utf8");
    assert.doesNotMatch(log, /"level":(50|60)/);
    assert.doesNotMatch(log, new RegExp(installation.token()));
  });

  await t.test("Ctrl-C ends everything, PostgreSQL included", async () => {
    await installation.stop();
    assert.match(installation.output(), /autocode: stopped\n$/);
  });

  await t.test("the second start runs nothing again", async () => {
    await installation.start();
    await eventually(() => LINK.test(installation.output()), Boolean, 20_000);
    assert.doesNotMatch(installation.output(), /First start/);
    const page = await installation.get<{ trials: unknown[] }>("trials");
    assert.equal(page.trials.length, 3);
    await installation.stop();
  });
});
