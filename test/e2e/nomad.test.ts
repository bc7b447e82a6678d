/**
 * Goal: with NOMAD_ADDR alone, a whole installation runs trials on Nomad to their verdicts, also
 * while Nomad is away for a while, and says in `doctor` where it stands.
 *
 * Method: the real program against the strict stub, whose node runs real worker-agents.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import type { DoctorReport } from "../../orchestrator/contract/system.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { eventually } from "../support/eventually.ts";
import {
  type Installation,
  makeProject,
  openInstallation,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";
import { type NomadNode, openNomadNode } from "../support/nomad-node.ts";

const skip = await whyNoAgents("qwen-code");
const WITHIN_MS = 120_000;
const RECONCILED_MS = 30_000;

test("a whole installation on Nomad", { skip }, async (t) => {
  await using installation = await openInstallation();
  const place = {
    agentsDir: () => join(installation.home, "shared/agents"),
    apiUrl: () => installation.url(),
  };
  await using nomad = await openNomadNode(place);
  const { stub } = nomad;
  await installation.start({ NOMAD_ADDR: stub.address });
  await makeProject(installation, "example", ["agents: [qwen-code]"]);

  await t.test("a trial is dispatched twice, for its agent and its tests, and passes", async () => {
    const trial = await begin(installation);
    const ended = await installation.untilState(trial.id, TERMINAL, WITHIN_MS);
    assert.deepEqual([ended.state, ended.verdict, ended.tries], ["succeeded", "passed", 1]);
    const children = [...stub.state.jobs.values()].filter(({ ParentID }) => ParentID !== "");
    assert.equal(children.length, 2);
    assert.equal(new Set(children.map(({ payload }) => payload)).size, 2);
    for (const { spec, ParentID } of children) {
      // A variant: the task says what it needs.
      assert.match(ParentID, /^autocode-trial-[0-9a-f]{8}$/);
      assert.equal(spec["Meta"].trial_id, trial.id);
      assert.equal(spec["Meta"].api_url, installation.url());
    }
  });

  await t.test("a trial that is running does not mind Nomad's absence", async () => {
    const trial = await begin(installation);
    await installation.untilState(trial.id, ["running"], WITHIN_MS);
    await stub.goAway();
    await eventually(
      async () => (await finding(installation)).status,
      (status) => status === "missing",
      30_000,
    );
    await stub.comeBack();
    const ended = await installation.untilState(trial.id, TERMINAL, WITHIN_MS);
    assert.deepEqual([ended.state, ended.verdict, ended.tries], ["succeeded", "passed", 1]);
  });

  await t.test(
    "R9: dispatched twice, its answers lost, Nomad away: one effective run",
    async () => {
      const before = new Set(stub.state.jobs.keys());
      stub.dispatchTwice(2);
      stub.dropAnswers(/dispatch$/);
      const trial = await begin(installation);
      await installation.untilState(trial.id, ["running"], WITHIN_MS);
      await stub.goAway();
      // Its agent is done; what is next needs Nomad.
      await installation.untilState(trial.id, ["verifying"], WITHIN_MS);
      await stub.comeBack();
      const backMs = performance.now();
      const children = () =>
        [...stub.state.jobs.values()].filter(
          ({ ID, ParentID }) => !before.has(ID) && ParentID !== "",
        );
      await eventually(children, ({ length }) => length > 2, RECONCILED_MS);
      t.diagnostic(`reconciled ${Math.round(performance.now() - backMs)} ms after its return`);
      const ended = await installation.untilState(trial.id, TERMINAL, WITHIN_MS);
      assert.deepEqual([ended.state, ended.verdict], ["succeeded", "passed"]);
      const events = await installation.events(trial.id);
      const ends = events.filter(({ data }) => TERMINAL.some((state) => state === data["to"]));
      assert.equal(ends.length, 1);
      // Of two children of one allocation one has run to its end: the agent's, and the tests'.
      await eventually(
        () => children().filter(({ ID }) => hasEndedWell(stub, ID)).length,
        (good) => good === 2,
      );
      const calls = await installation.calls(trial.id);
      assert.equal(new Set(calls.map(({ id }) => id)).size, calls.length);
    },
  );

  await t.test("doctor tells Nomad's address, version, rights and why it is in force", async () => {
    const said = await eventually(
      () => finding(installation),
      ({ status }) => status === "ok",
    );
    assert.match(said.detail, new RegExp(`^nomad at ${stub.address}, namespace default;`));
    assert.match(said.detail, /NOMAD_ADDR is set; version 2\.0\.5; access control is off/);
    assert.match(said.detail, /1 of 1 nodes ready$/);
  });
});

async function begin(installation: Installation): Promise<Trial> {
  const cell = ["-a", "qwen-code", "-m", "scripted", "--task", "fix-median"];
  return installation.json<Trial>("trial", "run", "--project", "example", ...cell, "--detach");
}

function hasEndedWell({ state }: NomadNode["stub"], jobId: string): boolean {
  const mine = [...state.allocations.values()].filter(({ JobID }) => JobID === jobId);
  return mine.some(({ exitCode }) => exitCode === 0);
}

async function finding(installation: Installation) {
  const { findings } = await installation.get<DoctorReport>("doctor");
  const found = findings.find(({ part }) => part === "scheduler");
  assert.ok(found !== undefined);
  return found;
}
