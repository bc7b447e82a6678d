/**
 * Goal (S13): what a repository, a task or an agent brings along runs nothing, leads nowhere and is
 * shown as text, wherever it is met.
 *
 * Method: `PROVEN` names each attack and the test that makes it, wherever that lies, and fails when
 * one is gone; the tests below make those that belong to no other room, by a real worker-agent.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pack } from "tar-stream";
import { unpack } from "../../worker-agent/unpack.ts";
import { openWorkerOrchestrator } from "../support/worker-orchestrator.ts";
import {
  agentSpec,
  fakeAgent,
  makeRepository,
  openFolder,
  runInProcess,
  verifySpec,
} from "../support/worker-world.ts";

const ROOT = join(import.meta.dirname, "../..");
const REAL_CLI = "test/worker-agent/agents/real-cli.test.ts";
const PROVEN: Readonly<Record<string, readonly [file: string, test: string]>> = {
  "settings that name another server or model, for each CLI": [
    REAL_CLI,
    "is led nowhere else by the repository's own settings",
  ],
  "settings that name programs: hooks, key helpers, MCP servers, plugins, linters": [
    REAL_CLI,
    "runs no program that the repository's own settings name",
  ],
  "hooks, filters, textconv and fsmonitor that the agent leaves in .git": [
    "test/worker-agent/run-agent.test.ts",
    "what an agent does to its repository's git runs nothing when its changes are taken",
  ],
  "hooks, filters and monitors of a repository that is imported": [
    "test/orchestrator/tasks/hostile.test.ts",
    "a repository's filters, hooks and monitors do not run",
  ],
  "a partial clone that fetches by a command": [
    "test/orchestrator/tasks/hostile.test.ts",
    "a partial clone's command for fetching what it lacks does not run",
  ],
  "a link out of the work tree in the agent's changes": [
    "test/worker-agent/run-agent.test.ts",
    "symbolic links that leave the work tree and files that are too large are left out",
  ],
  "a link that leads a later phase's files outside": [
    "test/worker-agent/run-agent.test.ts",
    "a link that an earlier phase left does not lead a later phase's files outside",
  ],
  "a link among the hidden tests": [
    "test/orchestrator/tasks/snapshot.test.ts",
    "a link among the tests is refused by its name, and the archive is closed",
  ],
  "links in the archive of a session": [
    "test/worker-agent/session-files.test.ts",
    "links and other people's files are no part of it",
  ],
  "a forged checkpoint that leaves the checkout": [
    "test/worker-agent/checkpoint-tree.test.ts",
    "a forged manifest writes nothing outside of the checkout, nor through its links",
  ],
  "escape codes in a terminal's recording": [
    "test/worker-agent/terminal.test.ts",
    "escape codes and control characters go, colours and line ends stay",
  ],
  "escape codes in what the command line prints": [
    "test/orchestrator/cli/text.test.ts",
    "hostile text loses its escape sequences, and its words stay",
  ],
  "escape codes and changes of direction in the dashboard": [
    "test/dashboards/web/event-text.test.ts",
    "escape codes and changes of direction are made visible",
  ],
  "HTML and scripts in the dashboard": [
    "test/dashboards/web/pages.browser.test.ts",
    "what an agent wrote is text wherever it stands",
  ],
  "formulas in an export": [
    "test/orchestrator/ledger/focus.test.ts",
    "nothing runs as a formula, and no field breaks its line",
  ],
};

for (const [attack, [file, name]] of Object.entries(PROVEN)) {
  test(`${attack}: proven by ${file}`, () => {
    assert.ok(readFileSync(join(ROOT, file), "utf8").includes(name), `no test "${name}"`);
  });
}

/** A repository's own files that git, or what works with it, could be led by. */
function hostileFiles(trace: string): Record<string, string> {
  const touch = `touch ${trace}/file-name`;
  return {
    "src/sum.js": "one\n",
    ".gitattributes": "* filter=evil diff=evil merge=evil\n",
    ".gitmodules": [
      `[submodule "a"]\n\tpath = a\n\turl = ext::sh -c "touch ${trace}/ext"`,
      `[submodule "b"]\n\tpath = b\n\turl = --upload-pack=touch ${trace}/upload-pack`,
      `[submodule "c"]\n\tpath = c\n\turl = file:///etc\n\tupdate = !touch ${trace}/update\n`,
    ].join("\n"),
    ".lfsconfig": `[lfs]\n\turl = http://127.0.0.1:1\n`,
    [`$(${touch.replaceAll("/", "∕")}) \`id\`;&|"'.txt`]: "a name\n",
    "-rf": "an option\n",
    "--upload-pack=x": "an option\n",
  };
}

test("submodules, ext:: addresses and hostile names in a repository run nothing", async () => {
  using folder = openFolder();
  const trace = join(folder.path, "trace");
  mkdirSync(trace);
  const instruction = `$(touch ${trace}/instruction) \`touch ${trace}/ticks\`; touch ${trace}/semi`;
  const source = makeRepository(folder.path, hostileFiles(trace));
  const spec = agentSpec(source.baseCommit, { instruction });
  let patch: Buffer;
  {
    await using orchestrator = await openWorkerOrchestrator({ spec, bundle: source.bundle });
    const steps = [
      // A link in the tree's index to a commit that is elsewhere: a submodule.
      { run: `git update-index --add --cacheinfo 160000,${source.baseCommit},a` },
      { write: "src/sum.js", content: "two\n" },
      { write: "`touch x`.js", content: "a name\n" },
    ];
    await runInProcess(orchestrator, {
      folder: folder.path,
      agent: fakeAgent({ execute: steps }),
    });
    const [report] = orchestrator.reports;
    assert.equal(report?.purpose === "agent" && report.outcome, "finished");
    patch = orchestrator.artefactBytes("changes.patch");
    assert.match(patch.toString(), /\+two/);
  }
  const command = 'test "$(cat src/sum.js)" = two && test -f "\\`touch x\\`.js" && test -f ./-rf';
  const test = { kind: "command", command } as const;
  const verified = verifySpec(source.baseCommit, { test });
  await using orchestrator = await openWorkerOrchestrator({
    spec: verified,
    bundle: source.bundle,
    patch,
  });
  using elsewhere = openFolder();
  await runInProcess(orchestrator, { folder: elsewhere.path });
  const [report] = orchestrator.reports;
  assert.ok(report?.purpose === "verify");
  assert.deepEqual([report.verdict, report.detail], ["passed", "ended with 0"]);
  assert.deepEqual(readdirSync(trace), []);
});

test("the repository's traps are live for whoever runs git as it is", () => {
  using folder = openFolder();
  const trace = join(folder.path, "trace");
  mkdirSync(trace);
  const dir = join(folder.path, "plain");
  execFileSync("git", ["init", "-q", dir]);
  const env = { ...process.env, GIT_ALLOW_PROTOCOL: "ext" };
  const remote = `ext::sh -c touch% ${trace}/ext`;
  try {
    execFileSync("git", ["-C", dir, "ls-remote", remote], { env, stdio: "ignore" });
  } catch {
    // It has run, and said nothing that git understands.
  }
  assert.deepEqual(readdirSync(trace), ["ext"]);
});

/** Entries of an archive that would be written elsewhere, or be something else than a file. */
const ENTRIES = [
  { name: "../canary" },
  { name: "a/../../canary" },
  { name: "/canary" },
  { name: "a\\..\\canary" },
  { name: "link", type: "symlink", linkname: "../canary" },
  { name: "link", type: "link", linkname: "../canary" },
  { name: "device", type: "character-device" },
  { name: "pipe", type: "fifo" },
] as const;

test("an archive of hidden tests writes nothing outside of its folder", async () => {
  using folder = openFolder();
  for (const [index, entry] of ENTRIES.entries()) {
    const archive = pack();
    archive.entry({ ...entry }, "type" in entry ? "" : "theirs");
    archive.finalize();
    const chunks: Buffer[] = [];
    for await (const chunk of archive) chunks.push(chunk as Buffer);
    const file = join(folder.path, `${index}.tar`);
    writeFileSync(file, Buffer.concat(chunks));
    const dir = join(folder.path, `out-${index}`);
    await assert.rejects(unpack(file, dir), { name: "UnsafeArchive" }, entry.name);
    assert.deepEqual(readdirSync(dir), []);
  }
  assert.equal(existsSync(join(folder.path, "canary")), false);
});
