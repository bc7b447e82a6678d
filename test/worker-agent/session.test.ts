/**
 * Goal: a CLI that was stopped for its budget goes on in its conversation, in another folder; its
 * agent sees what it may use as that changes; and nothing of this can cost the work itself.
 *
 * Method: two allocations of one worker each, over real HTTP, with a CLI that writes a session.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { NewCheckpoint } from "../../orchestrator/contract/checkpoints.ts";
import type { AgentReport, Allowance } from "../../orchestrator/contract/worker.ts";
import { goOnFrom } from "../support/worker-checkpoints.ts";
import { openWorkerOrchestrator } from "../support/worker-orchestrator.ts";
import {
  agentSpec,
  type FakeScript,
  fakeAgent,
  makeRepository,
  openFolder,
  type Repository,
  runInProcess,
  VIRTUAL_KEY,
} from "../support/worker-world.ts";

const WAIT = { sleepMs: 60_000 };
const SESSION = ".fake/session";

interface Paused {
  readonly report: AgentReport;
  readonly kept: NewCheckpoint;
  readonly blobs: Map<string, Buffer>;
  readonly source: Repository;
}

/** Runs until the CLI has said "ready", then stops it for its budget. */
async function pause(script: FakeScript, folder: string): Promise<Paused> {
  const source = makeRepository(folder, { "a.txt": "a\n" });
  const { bundle, baseCommit } = source;
  await using orchestrator = await openWorkerOrchestrator({ spec: agentSpec(baseCommit), bundle });
  const ending = runInProcess(orchestrator, { folder, agent: fakeAgent(script) });
  await orchestrator.until("the CLI works", () =>
    orchestrator.eventsOf("agent.message").some(({ text }) => text === "ready"),
  );
  orchestrator.direct({ action: "stop", reason: "budget" });
  assert.equal(await ending, "reported");
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "agent");
  const { made, blobs } = orchestrator.checkpoints;
  const kept = made.at(-1);
  assert.equal(kept?.cause, "pause");
  return { report, kept, blobs, source };
}

/** A second allocation, in another folder. */
async function goOn(script: FakeScript, { kept, blobs, source }: Omit<Paused, "report">) {
  const folder = openFolder();
  try {
    const { bundle, baseCommit } = source;
    const { resume, checkpoint } = await goOnFrom({ blobs }, kept);
    const spec = agentSpec(baseCommit, { resume });
    await using orchestrator = await openWorkerOrchestrator({ spec, bundle, checkpoint });
    const agent = fakeAgent(script);
    assert.equal(await runInProcess(orchestrator, { folder: folder.path, agent }), "reported");
    const said = orchestrator.eventsOf("agent.message").map(({ text }) => String(text));
    const notes = orchestrator.eventsOf("trial.note").map(({ message }) => String(message));
    const steps = orchestrator.eventsOf("worker.step").map(({ step }) => String(step));
    return { said, notes, steps, folder: folder.path, report: orchestrator.reports[0] };
  } finally {
    folder[Symbol.dispose]();
  }
}

test("what was stopped in its execution goes on there, its session in the new folder", async () => {
  using first = openFolder();
  const paused = await pause(
    {
      plan: [{ say: "the plan" }],
      execute: [
        { run: `mkdir -p $HOME/.fake/session; echo "in $PWD with $FAKE_KEY" > $HOME/${SESSION}/a` },
        { say: "ready" },
        WAIT,
      ],
    },
    first.path,
  );
  assert.equal(paused.report.outcome, "budget");
  assert.deepEqual(paused.report.completed_phases, ["plan"]);
  assert.deepEqual(paused.kept.resume.session, { id: null, phase: "execute" });
  for (const content of paused.blobs.values()) assert.ok(!content.includes(VIRTUAL_KEY));

  const { said, steps, folder, report } = await goOn(
    {
      execute: [{ say: "begun anew" }],
      resumed: [
        {
          run: `node -e 'console.log(JSON.stringify({text: require("fs")
        .readFileSync(process.env.HOME + "/${SESSION}/a", "utf8")}))'`,
        },
      ],
    },
    paused,
  );
  const key = "x".repeat(VIRTUAL_KEY.length);
  assert.deepEqual(said, [`in ${join(folder, "allocation/workspace")} with ${key}\n`]);
  assert.ok(steps.includes("session_restored"));
  assert.ok(report?.purpose === "agent" && report.outcome === "finished");
});

test("a database among its files is moved by the agent's own user", async () => {
  using first = openFolder();
  const make = `node -e 'const { DatabaseSync } = require("node:sqlite");
    const db = new DatabaseSync(process.env.HOME + "/${SESSION}/state.db");
    db.exec("create table s (cwd text)");
    db.prepare("insert into s values (?)").run(process.cwd());'`;
  const paused = await pause(
    {
      execute: [{ run: `mkdir -p $HOME/.fake/session; ${make}` }, { say: "ready" }, WAIT],
    },
    first.path,
  );
  const read = `node -e 'const { DatabaseSync } = require("node:sqlite");
    const db = new DatabaseSync(process.env.HOME + "/${SESSION}/state.db");
    console.log(JSON.stringify({ text: db.prepare("select cwd from s").get().cwd }))'`;
  const { said, folder } = await goOn({ execute: [], resumed: [{ run: read }] }, paused);
  assert.deepEqual(said, [join(folder, "allocation/workspace")]);
});

test("a session that the CLI cannot go on with is begun anew, with the plan", async () => {
  using first = openFolder();
  const script: FakeScript = {
    execute: [{ run: `mkdir -p $HOME/.fake && echo 1 > $HOME/${SESSION}` }, { say: "ready" }, WAIT],
  };
  const paused = await pause(script, first.path);
  const fresh: FakeScript = { execute: [{ say: "begun anew" }], resumed: [{ exit: 1 }] };
  const failed = await goOn(fresh, paused);
  assert.deepEqual(failed.said, ["begun anew"]);
  assert.match(failed.notes.join("\n"), /could not go on in its session/);

  // One whose files are none of this agent's.
  const { session } = paused.kept.manifest;
  assert.ok(session !== null);
  const files = session.files.map((file) => ({ ...file, path: `.ssh/${file.path}` }));
  const manifest = { ...paused.kept.manifest, session: { ...session, files } };
  const foreign = await goOn(fresh, { ...paused, kept: { ...paused.kept, manifest } });
  assert.deepEqual(foreign.said, ["begun anew"]);
  assert.match(foreign.notes.join("\n"), /could not be restored: the session holds \.ssh/);

  // One that worked with its model and failed then is judged as any other.
  const late: FakeScript = { execute: [{ say: "no" }], resumed: [{ say: "went on" }, { exit: 1 }] };
  const tried = await goOn(late, paused);
  assert.deepEqual(tried.said, ["went on"]);
  assert.ok(tried.report?.purpose === "agent" && tried.report.outcome === "crash");
});

test("a CLI that left no session is paused without one", async () => {
  using first = openFolder();
  const { kept } = await pause({ execute: [{ say: "ready" }, WAIT] }, first.path);
  assert.deepEqual([kept.resume.session, kept.manifest.session], [undefined, null]);
});

test("the agent's file follows what the orchestrator says, and marks are told of once", async () => {
  using folder = openFolder();
  const { bundle, baseCommit } = makeRepository(folder.path, { "a.txt": "a\n" });
  const spec = agentSpec(baseCommit);
  await using orchestrator = await openWorkerOrchestrator({ spec, bundle });
  const wait = (mark: string) =>
    `until grep -q '"percent_used": ${mark}' $FAKE_ALLOWANCE; do sleep 0.05; done`;
  const agent = fakeAgent({
    execute: [
      { sayEnv: ["AUTOCODE_ALLOWANCE_FILE", "FAKE_ALLOWANCE"] },
      { say: "ready" },
      { run: wait("81") },
      { say: "at 81" },
      { run: wait("96") },
      { run: "test ! -e a.txt.allowance && git status --short > $HOME/status" },
      { say: "at 96" },
    ],
  });
  const ending = runInProcess(orchestrator, { folder: folder.path, agent });
  const said = (text: string) => () =>
    orchestrator.eventsOf("agent.message").some((message) => message["text"] === text);
  const tell = (percent_used: number): void => {
    const allowance: Allowance = { ...spec.allowance, percent_used };
    orchestrator.direct({ action: "continue", allowance });
  };
  await orchestrator.until("the CLI works", said("ready"));
  tell(81);
  await orchestrator.until("the file says 81", said("at 81"));
  tell(82);
  tell(96);
  await orchestrator.until("the file says 96", said("at 96"));
  assert.equal(await ending, "reported");

  const path = join(folder.path, "allocation/side/allowance.json");
  assert.equal(
    orchestrator.eventsOf("agent.message")[0]?.["text"],
    JSON.stringify({ AUTOCODE_ALLOWANCE_FILE: path, FAKE_ALLOWANCE: path }),
  );
  const told = orchestrator
    .eventsOf("worker.step")
    .filter(({ step }) => step === "allowance_told")
    .map(({ detail }) => detail);
  assert.deepEqual(told, ["80 % used", "95 % used"]);
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "agent");
  assert.equal(report.diff.files_changed, 0, "the file is no part of the work");
});
