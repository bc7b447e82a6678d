/**
 * Goal: a command line changes only on purpose, and never shows the key.
 *
 * Method: every agent of the registry plans the same input: as it is, as root, and resumed after
 * its plan phase. The snapshots are what was tried with the real CLIs.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Phase, type PlanInput, withPlanText } from "../../../worker-agent/agents/agent.ts";
import { AGENTS, findAgent } from "../../../worker-agent/agents/registry.ts";
import { INPUT, inSession, RESUMED } from "./inputs.ts";

const CASES: Readonly<Record<string, PlanInput>> = {
  "as it is": INPUT,
  "as root": { ...INPUT, isRoot: true },
  resumed: RESUMED,
  "stopped in its plan": inSession("plan"),
  "stopped in its execution": inSession("execute"),
};

for (const agent of AGENTS) {
  const { name, pair_mode: pairMode } = agent.facts;

  for (const [what, input] of Object.entries(CASES)) {
    test(`${name}: its phases ${what} are the ones that were tried`, (t) => {
      t.assert.snapshot(agent.plan(input));
    });

    test(`${name}: the key is in no argument ${what}`, () => {
      for (const { args, file, env, files } of agent.plan(input)) {
        assert.deepEqual(
          [file, ...args].filter((arg) => arg.includes(input.virtualKey)),
          [],
        );
        assert.ok(Object.values(env).includes(input.virtualKey));
        for (const { content, mode } of files) {
          assert.ok(!content.includes(input.virtualKey) || mode === 0o600);
        }
      }
    });

    test(`${name}: what it writes ${what} is in its HOME`, () => {
      for (const { files } of agent.plan(input)) {
        for (const { path } of files) assert.ok(path.startsWith(`${input.home}/`), path);
      }
    });

    test(`${name}: the task reaches it ${what} as no option, no command and no NUL`, () => {
      for (const phase of agent.plan(input)) {
        const texts = [...phase.args, ...phase.files.map(({ content }) => content)];
        assert.deepEqual(
          texts.filter((text) => text.includes("\0")),
          [],
        );
        assert.deepEqual(
          phase.args.filter((arg) => arg.startsWith("--version")),
          [],
        );
      }
      // A session that goes on holds the task already; Aider's may have been cut.
      if (input.resume?.session !== undefined && name !== "aider") return;
      assert.ok(taskTexts(agent.plan(input)).includes("The task:\n\n--version"));
      assert.ok(taskTexts(agent.plan(input)).includes("second line with a \u{FFFD} in it"));
    });
  }

  test(`${name}: both models of a pair are used`, () => {
    const phases = agent.plan(INPUT).map(({ name, sides }) => ({ name, sides }));
    assert.deepEqual(
      phases,
      pairMode === "native"
        ? [{ name: "execute", sides: ["thinking", "normal"] }]
        : [
            { name: "plan", sides: ["thinking"] },
            { name: "execute", sides: ["normal"] },
          ],
    );
  });

  test(`${name}: a plan that was made is not made again, and arrives as it was`, () => {
    const phases = agent.plan(RESUMED);
    assert.deepEqual(
      phases.map(({ name }) => name),
      ["execute"],
    );
    assert.ok(taskTexts(phases).includes("1. Change `a`.\n2. Say {{plan}} and $&."));
  });

  test(`${name}: what was stopped goes on in its session, and is told what it may use`, () => {
    const id = "0199c0de-0000-7000-8000-000000000001";
    const resumeArgs = agent.session?.resumeArgs(id) ?? [];
    assert.ok(resumeArgs.length > 0);
    const plan = agent.plan(inSession("plan"));
    const execute = agent.plan(inSession("execute"));
    assert.deepEqual(
      [plan, execute].map((phases) => phases.map((phase) => phase.name)),
      pairMode === "native" ? [["execute"], ["execute"]] : [["plan", "execute"], ["execute"]],
    );
    for (const { args } of [...plan, ...execute]) {
      for (const arg of resumeArgs) assert.ok(args.includes(arg), arg);
    }
    for (const phases of [plan, execute]) {
      assert.ok(taskTexts(phases.slice(0, 1)).includes(INPUT.allowanceText));
    }
  });

  test(`${name}: a plan that was finished before its stop is carried out, not made again`, () => {
    if (pairMode === "native") return;
    const resume = { completedPhases: ["plan"], session: { id: "s", phase: "plan" as const } };
    const phases = agent.plan({ ...INPUT, resume });
    assert.deepEqual(
      phases.map((phase) => phase.name),
      ["execute"],
    );
  });

  test(`${name}: its allowance is told to each process that can ask`, () => {
    const [, file = ""] = INPUT.allowance.server.args;
    const served = agent.plan(INPUT).filter(({ args, env, files }) => {
      const texts = [...args, ...Object.values(env), ...files.map(({ content }) => content)];
      return texts.some((text) => text.includes(file));
    });
    assert.equal(served.length, agent.hasMcp ? agent.plan(INPUT).length : 0);
  });

  test(`${name}: a plan whose text was lost is made again`, () => {
    assert.deepEqual(
      agent.plan({ ...INPUT, resume: { completedPhases: ["plan"] } }),
      agent.plan(INPUT),
    );
  });

  test(`${name}: a plan is cut before an argument is too long for the system`, () => {
    const planText = "é".repeat(100_000);
    const resume = { completedPhases: ["plan"], planText };
    const instruction = "x".repeat(100_000);
    for (const { args } of agent.plan({ ...INPUT, instruction, resume })) {
      for (const arg of args) assert.ok(Buffer.byteLength(arg) < 131_072);
    }
  });
}

test("a placeholder is replaced by the plan as it is", () => {
  const [phase] = findAgent("codex")?.plan(INPUT) ?? [];
  assert.ok(phase);
  const placeholder = "{{plan 5b0f4d50}}";
  const args = ["-m", `Task {{plan}}\n${placeholder}`];
  const filled = withPlanText({ ...phase, args, planPlaceholder: placeholder }, "cost: $& $1");
  assert.deepEqual(filled, { ...phase, args: ["-m", "Task {{plan}}\ncost: $& $1"] });
  assert.equal(withPlanText(phase, "a plan"), phase);
});

test("an agent is found by its name", () => {
  assert.equal(findAgent("aider")?.facts.title, "Aider");
  assert.equal(findAgent("cobol-writer"), null);
  assert.equal(new Set(AGENTS.map(({ facts }) => facts.name)).size, AGENTS.length);
});

function taskTexts(phases: readonly Phase[]): string {
  return phases
    .flatMap(({ args, files }) => [...args, ...files.map(({ content }) => content)])
    .join("\n");
}
