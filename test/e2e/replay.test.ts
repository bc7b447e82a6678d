/**
 * Goal: a trial that was recorded runs again to the same verdict with nobody there to answer it,
 * and for nothing; what its record has not is told; what is gone of a record is named.
 *
 * Method: real CLIs against the scripted model as a provider of the project's own, which is ended
 * before the replays; the database is asked what was reserved.
 */
import assert from "node:assert/strict";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "node:test";
import { sql } from "drizzle-orm";
import { Value } from "typebox/value";
import { parseScript } from "../../models/scripted/script.ts";
import { createScriptedModel } from "../../models/scripted/server.ts";
import { Cassette } from "../../orchestrator/contract/cassettes.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { rows } from "../../orchestrator/db/rows.ts";
import { openTestDatabase } from "../support/database.ts";
import { eventually } from "../support/eventually.ts";
import {
  type Installation,
  makeProject,
  ROOT,
  startInstallation,
  whyNoAgents,
} from "../support/installation.ts";

const AGENTS = ["aider", "claude-code", "qwen-code", "codex", "opencode"];
const skips = new Map(
  await Promise.all(AGENTS.map(async (agent) => [agent, await whyNoAgents(agent)] as const)),
);
const there = AGENTS.filter((agent) => skips.get(agent) === false);

test("recorded trials run again, offline and free", {
  skip: there.length > 0 ? false : (skips.get("aider") ?? false),
}, async (t) => {
  await using database = await openTestDatabase();
  const model = createScriptedModel({ scriptsDir: join(ROOT, "examples/scripts") });
  await using _ = { [Symbol.asyncDispose]: () => model.close() };
  const { url } = await model.listen();
  await using installation = await startInstallation({ env: { DATABASE_URL: database.url } });
  const wires = "[openai.chat, openai.responses, anthropic.messages]";
  const side = (name: string) =>
    `${name}: { model: scripted-${name}, base_url: "${url}", wires: ${wires}, ` +
    `price: { input: "1", output: "2" } }`;
  const models = `models: { mine: { ${side("normal")}, ${side("thinking")} } }`;
  await makeProject(installation, "own", ["pairs: [mine]", models]);
  const recorded = new Map<string, Trial>();
  for (const agent of there) {
    const what = ["--project", "own", "--task", "fix-median", "-a", agent, "--seed", "7"];
    const trial = await installation.json<Trial>("trial", "run", ...what);
    assert.deepEqual([agent, trial.verdict], [agent, "passed"]);
    recorded.set(agent, trial);
    await untilRecorded(installation, trial.id);
  }
  await model.close();

  for (const agent of AGENTS) {
    await t.test(`${agent}: the same verdict`, { skip: skips.get(agent) ?? false }, async () => {
      const trial = recorded.get(agent);
      assert.ok(trial !== undefined);
      const before = await transfers();
      const { out, err } = await installation.cli("trial", "replay", trial.id, "--json");
      const replay = JSON.parse(out) as Trial;
      const told = (await installation.cli("trial", "show", replay.id)).out;
      assert.deepEqual([replay.verdict, replay.flags], ["passed", []], `${err}\n${told}`);
      assert.deepEqual(
        [replay.replay_of, replay.agent, replay.pair, replay.seed, replay.task],
        [trial.id, trial.agent, trial.pair, 7, trial.task],
      );
      assert.deepEqual([replay.call_count, replay.budget?.spent_nanos], [0, "0"]);
      assert.equal(replay.budget?.funded_nanos, "0");
      assert.equal(await transfers(), before, "money moved");
      assert.match(told, new RegExp(`replay of ${trial.id}: its record answered everything`));
      assert.equal(await diffOf(replay.id), await diffOf(trial.id));
    });
  }

  const [agentOfFirst = ""] = there;
  const first = recorded.get(agentOfFirst);
  assert.ok(first !== undefined);

  await t.test("reports leave replays out", async () => {
    const report = await installation.get<{ rows: { agent: string | null; trials: number }[] }>(
      "budgets/own/profit",
    );
    const counted = report.rows.filter(({ agent }) => agent !== null);
    assert.deepEqual(
      counted.map(({ trials }) => trials),
      there.map(() => 1),
    );
  });

  await t.test("a cassette and a script are written, and hold what they should", async () => {
    const files = ["--export-cassette", "c.json", "--export-script", "s.yaml"];
    const { exit, err } = await installation.cli("trial", "replay", first.id, ...files);
    assert.equal(exit, 0, err);
    const text = await readFile(join(installation.folder, "c.json"), "utf8");
    const cassette = JSON.parse(text) as Cassette;
    assert.ok(Value.Check(Cassette, cassette));
    assert.equal(cassette.trial.id, first.id);
    assert.ok(cassette.exchanges.length >= first.call_count);
    const yaml = await readFile(join(installation.folder, "s.yaml"), "utf8");
    const script = parseScript("s", "s.yaml", yaml);
    assert.deepEqual(
      script.edits.map(({ path }) => path),
      ["src/statistics.js"],
    );
  });

  await t.test("the cassette is a regression test: it answers its like from the file", async () => {
    const from = ["--cassette", "c.json", "--project", "own", "--json"];
    const { exit, out, err } = await installation.cli("trial", "replay", ...from);
    assert.equal(exit, 0, err);
    const replay = JSON.parse(out) as Trial;
    assert.deepEqual([replay.verdict, replay.flags], ["passed", []], err);
    assert.deepEqual([replay.call_count, replay.budget?.spent_nanos], [0, "0"]);
    assert.equal(await diffOf(replay.id), await diffOf(first.id));
  });

  await t.test("the scripted model plays the recorded trial's script to the same end", async () => {
    const scriptsDir = join(installation.folder, "scripts");
    await mkdir(scriptsDir);
    await copyFile(join(installation.folder, "s.yaml"), join(scriptsDir, "recorded.yaml"));
    const again = createScriptedModel({ scriptsDir });
    await using _again = { [Symbol.asyncDispose]: () => again.close() };
    await again.listen(Number(new URL(url).port));
    const what = ["--project", "own", "--task", "fix-median", "-a", agentOfFirst, "--seed", "7"];
    const trial = await installation.json<Trial>("trial", "run", ...what);
    assert.deepEqual([trial.verdict, trial.replay_of], ["passed", null]);
    assert.ok(trial.call_count > 0);
    assert.equal(await diffOf(trial.id), await diffOf(first.id));
  });

  await t.test("another instruction diverges at the first exchange, and is told", async () => {
    await database.sql.execute(sql`
      update task set instruction = 'PLEASE! ' || instruction where name = 'fix-median'`);
    const { exit, out } = await installation.cli("trial", "replay", first.id, "--json");
    assert.equal(exit, 1);
    const replay = JSON.parse(out) as Trial;
    assert.deepEqual(
      [replay.replay_of, replay.flags.includes("replay_diverged")],
      [first.id, true],
    );
    const events = await installation.events(replay.id);
    const diverged = events.filter(({ type }) => type === "replay.diverged");
    assert.deepEqual(
      diverged.map(({ data }) => data["position"]),
      [1],
    );
    assert.match(String(diverged[0]?.data["asked"]), /PLEASE!/);
    const { out: told } = await installation.cli("trial", "show", replay.id);
    assert.match(told, /which it left at exchange 1\n +recorded +.*\n +asked +.*PLEASE!/);
  });

  await t.test("what retention took is named, and refused", async () => {
    await database.sql.execute(sql`delete from flow_body`);
    const { exit, err } = await installation.cli("trial", "replay", first.id);
    assert.equal(exit, 1);
    assert.match(err, /cannot be replayed.*flow_[0-9a-z]{26} \(POST [^)]*\).*body is gone/);
  });

  async function transfers(): Promise<number> {
    const [found] = await rows<{ count: number }>(
      database.sql,
      sql`select count(*)::int as count from transfer`,
    );
    return found?.count ?? -1;
  }

  async function diffOf(id: string): Promise<string> {
    const { exit, out, err } = await installation.cli("trial", "diff", id);
    assert.equal(exit, 0, err);
    return out;
  }
});

/** Every call of it has its record. */
async function untilRecorded(installation: Installation, id: string): Promise<void> {
  const look = () => installation.cli("trial", "replay", id, "--export-cassette", "look.json");
  const { exit, err } = await eventually(look, (ended) => ended.exit === 0, 20_000);
  assert.equal(exit, 0, err);
}
