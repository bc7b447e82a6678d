/**
 * Goal (R19): a backup that is taken while trials run is restored into another installation, on
 * another kind of PostgreSQL, with the same ledger; there a paused trial is resumed, and one that
 * ran is brought to its end.
 *
 * Method: the real command line on an installation at work with the real CLI of an agent; first
 * into a server's database while trials run, then, when all is quiet, into an embedded one, whose
 * books must be the same to the last row.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Approval } from "../../orchestrator/contract/approvals.ts";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import { openEmptyDatabase } from "../support/database.ts";
import {
  type Installation,
  makeProject,
  openFolder,
  openInstallation,
  runToEnd,
  startInstallation,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";

const skip = await whyNoAgents("claude-code");
const WITHIN_MS = 240_000;
const LONG_PLAN = Array.from({ length: 150 }, (_, at) => `Think about step ${at + 1}.`);
/** Its context grows, so that a small budget ends in the middle. */
const GROWING = `match: It is to be costly
plan: [[{ say: "${LONG_PLAN.join(" ")}" }]]
steps:
  - - write: { path: mended.txt, content: "yes\\n" }
  - - shell: seq 10000 14000
  - - shell: seq 20000 24000
  - - shell: seq 30000 34000
  - - shell: seq 40000 44000
  - - shell: seq 50000 54000
  - - shell: seq 60000 64000
  - - say: It is mended.
`;
const SLOW = `match: It is to be slowly mended
plan: [[{ say: Write it. }]]
steps:
  - - write: { path: mended.txt, content: "yes\\n" }
  - - shell: sleep 20
  - - say: It is mended.
`;

test("backup under load, restore elsewhere: one ledger, and the work goes on", {
  skip,
}, async (t) => {
  await using scripts = await openFolder();
  await writeFile(join(scripts.path, "growing.yaml"), GROWING);
  await writeFile(join(scripts.path, "slow.yaml"), SLOW);
  const env = { AUTOCODE_SCRIPTS: scripts.path };
  await using source = await startInstallation({ env });
  await makeProject(source, "example", ["budget: { total: 25, per_trial: 5 }"]);
  const repository = await makeRepository(source);
  const paused = await begin(source, repository, "It is to be costly", ["--budget", "0.035"]);
  await source.untilState(paused, ["paused"], WITHIN_MS);
  const running = await begin(source, repository, "It is to be slowly mended", []);
  await source.untilState(running, ["running"], WITHIN_MS);

  const file = join(source.folder, "under-load.backup");
  const passphrase = join(source.folder, "passphrase");
  await writeFile(passphrase, "correct horse\n");
  const sealing = ["--passphrase-file", passphrase];
  const written = await source.json<{ byte_count: number }>("backup", file, ...sealing);
  assert.ok(written.byte_count > 1_000);
  const before = await source.trial(paused);

  await t.test("into a server's database, where the work goes on", async () => {
    await using database = await openEmptyDatabase();
    await using target = await openInstallation({ env: { ...env, DATABASE_URL: database.url } });
    const restored = await target.json<{ requeued: number; missing: string[] }>(
      ...["restore", file, ...sealing],
    );
    assert.equal(restored.requeued, 1);
    assert.deepEqual(restored.missing, []);
    await target.start();
    assert.equal((await target.cli("ledger", "verify")).exit, 0);
    const there = await target.trial(paused);
    assert.deepEqual([there.state, there.budget], [before.state, before.budget]);
    const { approvals } = await target.get<{ approvals: Approval[] }>("approvals?state=open");
    const approval = approvals.find(({ trial_id: trial }) => trial === paused);
    const approved = await target.cli("approval", "approve", approval?.id ?? "", "--amount", "2");
    assert.equal(approved.exit, 0, approved.err);
    for (const id of [paused, running]) {
      const ended = await target.untilState(id, TERMINAL, WITHIN_MS);
      assert.equal(ended.state, "succeeded", ended.reason ?? "");
    }
    assert.equal((await target.cli("ledger", "verify")).exit, 0);
    await target.stop();
  });

  await t.test("into an embedded one, with books that are the same to the last row", async () => {
    await source.untilState(running, TERMINAL, WITHIN_MS);
    const quiet = join(source.folder, "quiet.backup");
    assert.equal((await source.cli("backup", quiet)).exit, 0);
    await using target = await openInstallation({ env });
    const restored = await target.cli("restore", quiet);
    assert.equal(restored.exit, 0, restored.err);
    await target.start();
    assert.deepEqual(await books(target), await books(source));
    const same = (await target.json<{ is_intact: boolean }>("ledger", "verify")).is_intact;
    assert.equal(same, true);
    await target.stop();
  });
});

/** Accounts and transfers as the journal's export has them, signatures left out. */
async function books(installation: Installation): Promise<string[]> {
  const { out, exit, err } = await installation.cli("ledger", "export");
  assert.equal(exit, 0, err);
  const lines = out.split("\n").filter((line) => /"type":"(account|transfer)"/.test(line));
  assert.ok(lines.length > 10);
  return lines;
}

async function begin(
  installation: Installation,
  repository: string,
  instruction: string,
  more: readonly string[],
): Promise<string> {
  const task = ["-p", repository, "--instruction", instruction, "--test", "test -f mended.txt"];
  const what = ["--project", "example", "-a", "claude-code", "-m", "scripted", "--detach"];
  return (await installation.json<Trial>("trial", "run", ...task, ...what, ...more)).id;
}

async function makeRepository(installation: Installation): Promise<string> {
  const path = join(installation.folder, "repository");
  const git = (...args: string[]) =>
    runToEnd("git", ["-c", "user.name=a", "-c", "user.email=a@example.org", ...args]);
  await git("init", "-q", path);
  await writeFile(join(path, "README"), "To be mended.\n");
  await git("-C", path, "add", ".");
  assert.equal((await git("-C", path, "commit", "-qm", "start")).exit, 0);
  return path;
}
