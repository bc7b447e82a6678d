/**
 * Goal: each agent, as its makers publish it, does a task with both models of a pair, is paid for
 * to the nano, calls nobody at home, and leaves what a reader needs and no process.
 *
 * Method: `autocode trial run` with the real CLI of each, all at once.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import {
  type Installation,
  makeProject,
  startInstallation,
  whyNoAgents,
} from "../support/installation.ts";

const AGENTS = ["qwen-code", "claude-code", "aider", "codex", "opencode"];
/** Asks for its list of models at a host of its maker, whatever it is told. */
const CALLS_HOME = new Set(["opencode"]);

interface AtifStep {
  step_id: number;
  source: string;
  tool_calls?: { function_name: string }[];
  llm_call_count?: number;
}

test("every agent passes the example with both models", { concurrency: true }, async (t) => {
  await using installation = await startInstallation();
  await makeProject(installation, "example");
  await Promise.all(
    AGENTS.map(async (agent) =>
      t.test(agent, { skip: await whyNoAgents(agent) }, () => passes(installation, agent)),
    ),
  );
  await t.test("no process of an allocation is left", async () => {
    const workers = (await installation.processes()).filter(({ command }) =>
      /allocations|worker-agent/.test(command),
    );
    assert.deepEqual(workers, []);
  });
});

async function passes(installation: Installation, agent: string): Promise<void> {
  const what = ["--project", "example", "--task", "fix-median", "-a", agent, "-m", "scripted"];
  const { exit, out, err } = await installation.cli("trial", "run", ...what, "--json");
  assert.equal(exit, 0, `${out}${err}`);
  const trial = JSON.parse(out) as Trial;
  assert.equal(trial.state, "succeeded");
  assert.equal(trial.verdict, "passed");
  assert.deepEqual(trial.flags, []);
  assert.equal(trial.is_scripted, true);

  const calls = await installation.calls(trial.id);
  assert.equal(calls.length, trial.call_count);
  assert.deepEqual([...new Set(calls.map(({ side }) => side))].sort(), ["normal", "thinking"]);
  const cost = calls.reduce((sum, call) => sum + BigInt(call.cost_nanos), 0n);
  assert.equal(trial.budget?.spent_nanos, String(cost));
  assert.equal(trial.budget?.reserved_nanos, "0");
  assert.ok(cost > 0n);

  const events = await installation.events(trial.id);
  if (!CALLS_HOME.has(agent)) {
    assert.deepEqual(
      events.filter(({ type }) => type === "egress.refused"),
      [],
    );
  }
  if (process.getuid?.() === 0) {
    const isolated = events.filter(({ type }) => type === "egress.isolation");
    // The agent's allocation and the verifier's.
    assert.deepEqual(
      isolated.map(({ data }) => data["kind"]),
      ["namespace", "namespace"],
    );
  }
  const settled = events.filter(({ type }) => type === "call.settled");
  assert.deepEqual(
    settled.map(({ data }) => data["call_id"]).sort(),
    calls
      .filter(({ status }) => status === 200)
      .map(({ id }) => id)
      .sort(),
  );

  await leavesRecords(installation, agent, trial.id);
}

async function leavesRecords(installation: Installation, agent: string, id: string) {
  const trajectory = await installation.get<{ schema_version: string; steps: AtifStep[] }>(
    `trials/${id}/trajectory`,
  );
  assert.match(trajectory.schema_version, /^ATIF-v1/);
  const { steps } = trajectory;
  assert.deepEqual(
    steps.map((step) => step.step_id),
    steps.map((_, index) => index + 1),
  );
  const asked = steps.filter((step) => step.source === "agent" && step.llm_call_count === 1);
  assert.ok(asked.length >= 2, `${asked.length} steps of the agent`);
  // Aider has no tools: it reads edits out of the text.
  const tools = steps.flatMap((step) => step.tool_calls ?? []);
  if (agent !== "aider") assert.ok(tools.length >= 2, JSON.stringify(tools));

  const diff = await installation.cli("trial", "diff", id);
  assert.deepEqual(diff.out.match(/^diff --git .*$/gm), [
    "diff --git a/src/statistics.js b/src/statistics.js",
  ]);

  const { artefacts } = await installation.get<{ artefacts: { name: string }[] }>(
    `trials/${id}/artefacts`,
  );
  assert.ok(artefacts.some(({ name }) => name === "terminal.cast"));
  const response = await fetch(
    `${installation.url()}/api/v1/trials/${id}/artefacts/terminal.cast`,
    { headers: { authorization: `Bearer ${installation.token()}` } },
  );
  const [head = "", ...frames] = (await response.text()).trimEnd().split("\n");
  const { version, width, height } = JSON.parse(head) as Record<string, number>;
  assert.equal(version, 2);
  assert.ok((width ?? 0) > 0 && (height ?? 0) > 0);
  const parsed = frames.map((frame) => JSON.parse(frame) as [number, string, string]);
  assert.ok(parsed.length > 0, "an empty recording");
  for (const [index, [at, kind, text]] of parsed.entries()) {
    assert.ok(at >= (parsed[index - 1]?.[0] ?? 0), "time runs backwards");
    assert.match(kind, /^[oir]$/);
    assert.equal(typeof text, "string");
  }
}
