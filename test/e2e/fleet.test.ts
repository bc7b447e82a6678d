/**
 * Goal: an installation whose trials run on hosts of their own loses none of them, nor charges
 * anything twice, when a host dies, or is away and comes back late.
 *
 * Method: the real orchestrator, two real host programs and a real agent; kill -9 and SIGSTOP of
 * all that a host runs.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { env } from "node:process";
import test from "node:test";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import type { JoinToken, WorkerDetail, WorkerList } from "../../orchestrator/contract/workers.ts";
import { eventually } from "../support/eventually.ts";
import {
  cleanEnvironment,
  type Installation,
  makeProject,
  openFolder,
  processesOf,
  ROOT,
  runToEnd,
  startInstallation,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";

const skip = await whyNoAgents("claude-code", "qwen-code");
const LEASE_MS = 4_000;
const SCRIPT = `match: slowly mended
plan: [[{ say: Write it. }]]
steps:
  - - write: { path: mended.txt, content: "yes\\n" }
  - - shell: sleep 6.28
  - - say: It is mended.
delay_ms_per_event: 20
`;

test("a fleet of two hosts", { skip, timeout: 580_000 }, async (t) => {
  await using scripts = await openFolder();
  const examples = join(ROOT, "examples/scripts");
  await runToEnd("cp", ["-r", `${examples}/.`, scripts.path]);
  await writeFile(join(scripts.path, "slow.yaml"), SCRIPT);
  await using installation = await startInstallation({
    agents: false,
    env: {
      AUTOCODE_SCHEDULER: "fleet",
      AUTOCODE_WORKER_LEASE_MS: String(LEASE_MS),
      AUTOCODE_SCRIPTS: scripts.path,
    },
  });
  await using hosts = createHosts(installation);
  await makeProject(installation, "example", ["workers: { pool: big }"]);
  const repository = await makeRepository(installation);

  await t.test("a trial that no host could run says so, and runs once there is one", async () => {
    const { id } = await installation.json<Trial>(
      ...["trial", "run", "--task", "fix-median", "--project", "example", "-a", "qwen-code"],
      ...["-m", "scripted", "--detach"],
    );
    const waits = (reason: RegExp) =>
      eventually(
        () => installation.get<Trial>(`trials/${id}`),
        (trial) => trial.state === "queued" && reason.test(trial.reason ?? ""),
        20_000,
      );
    await waits(/waits for a worker: none has joined yet/);
    await hosts.start("small", "other");
    await waits(/no known worker has the pool big; of the nearest, small: it is in the pool other/);
    await hosts.start("one", "big");
    await hosts.start("two", "big");
    const trial = await installation.untilState(id, TERMINAL, 120_000);
    assert.equal(trial.verdict, "passed", trial.reason ?? "");
    const notes = (await installation.events(id)).filter(({ type }) => type === "trial.note");
    const asUs = notes.filter(({ data }) => /runs as the/.test(String(data["message"])));
    assert.deepEqual(asUs, [], "each agent has a user of its own");
    await hosts.end("small");
  });

  await t.test("kill -9 of a host at work: the trial is tried again on the other", async () => {
    const id = await begin(installation, repository);
    const busy = await hosts.untilWorking("sleep 6.28");
    await hosts.kill(busy);
    const trial = await installation.untilState(id, TERMINAL, 120_000);
    assert.equal(trial.verdict, "passed", trial.reason ?? "");
    assert.equal(trial.tries, 2);
    const events = await installation.events(id);
    const retry = events.find(({ type }) => type === "trial.retry");
    assert.equal(retry?.data["failure_class"], "worker_lost");
    await chargedOnce(installation, trial);
    const list = await installation.json<WorkerList>("worker", "ls");
    assert.equal(list.workers.find(({ name }) => name === busy)?.status, "down");
    assert.ok((list.availability ?? 1) < 1);
    // It comes back with the token that it kept.
    await hosts.start(busy, "big");
    await eventually(
      () => installation.json<WorkerDetail>("worker", "show", busy),
      ({ worker }) => worker.status === "ready",
      30_000,
    );
  });

  await t.test("R10: a host that was away comes back late: its report is refused", async () => {
    const id = await begin(installation, repository);
    const busy = await hosts.untilWorking("sleep 6.28");
    await hosts.signal(busy, "SIGSTOP");
    const ended = await installation.untilState(id, TERMINAL, 120_000);
    assert.equal(ended.verdict, "passed", ended.reason ?? "");
    assert.equal(ended.tries, 2);
    const before = await installation.events(id);
    const calls = await installation.calls(id);

    await hosts.signal(busy, "SIGCONT");
    await eventually(
      async () => (await processesOf(hosts.dir(busy))).map(({ command }) => command),
      (commands) => !commands.some((command) => /worker-agent\/main|sleep/.test(command)),
      60_000,
    );
    assert.deepEqual(await installation.events(id), before, "what it said late was not heard");
    assert.deepEqual(await installation.calls(id), calls, "nor could it spend");
    const after = await installation.get<Trial>(`trials/${id}`);
    assert.deepEqual(after, ended);
    await chargedOnce(installation, after);
    await eventually(
      () => installation.json<WorkerDetail>("worker", "show", busy),
      ({ worker, outages }) => worker.status === "ready" && outages.every((o) => o.ended_at),
      30_000,
    );
  });

  await t.test("a drained host takes nothing, and one told to go leaves", async () => {
    const drained = await installation.json<WorkerDetail>("worker", "drain", "one");
    assert.equal(drained.worker.status, "draining");
    const undone = await installation.json<WorkerDetail>("worker", "drain", "one", "--undo");
    assert.equal(undone.worker.status, "ready");
    await hosts.end("one");
    await hosts.end("two");
    const { workers } = await installation.json<WorkerList>("worker", "ls");
    assert.deepEqual(workers, []);
  });
});

function createHosts(installation: Installation) {
  const running = new Map<string, { child: ChildProcess; output: () => string }>();
  const dir = (name: string) => join(installation.folder, name);
  return { dir, start, end, kill, signal, untilWorking, [Symbol.asyncDispose]: dispose };

  async function start(name: string, pool: string): Promise<void> {
    const { token } = await installation.json<JoinToken>("worker", "token", "--pool", pool);
    const { url } = JSON.parse(
      (await runToEnd("cat", [join(installation.home, "shared/configs/endpoint.json")])).out,
    ) as { url: string };
    await mkdir(dir(name), { recursive: true, mode: 0o711 });
    const agents = resolve(env["AUTOCODE_TEST_AGENTS_DIR"] ?? "");
    await symlink(agents, join(dir(name), "agents")).catch(() => {});
    // As our own systemd units start it: what agents' users pass through and read is told apart.
    const program = [process.execPath, join(ROOT, "worker-agent/host/main.ts")];
    const child = spawn("sh", ["-c", 'umask 0077; exec "$@"', "sh", ...program], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...cleanEnvironment(),
        AUTOCODE_API_URL: url,
        AUTOCODE_JOIN_TOKEN: token,
        AUTOCODE_WORKER_NAME: name,
        AUTOCODE_WORKER_SLOTS: "2",
        AUTOCODE_WORKER_DIR: dir(name),
      },
    });
    let output = "";
    child.stderr?.on("data", (bytes: Buffer) => {
      output += bytes;
    });
    running.set(name, { child, output: () => output });
    await eventually(() => output.includes('"joined"') || hasEnded(child), Boolean, 30_000);
    assert.ok(!hasEnded(child), output);
  }

  async function end(name: string): Promise<void> {
    const host = running.get(name);
    assert.ok(host !== undefined);
    host.child.kill("SIGTERM");
    await eventually(() => hasEnded(host.child), Boolean, 60_000);
    assert.equal(host.child.exitCode, 0, host.output());
  }

  /** As a machine dies: all that the host runs, at once. */
  async function kill(name: string): Promise<void> {
    await signal(name, "SIGKILL");
  }

  async function signal(name: string, which: NodeJS.Signals): Promise<void> {
    const own = (await processesOf(dir(name))).map(({ pid }) => pid);
    for (const pid of own) {
      try {
        process.kill(pid, which);
      } catch {
        // It ended by itself in between.
      }
    }
  }

  /** The host that runs what matches. */
  function untilWorking(command: string): Promise<string> {
    return eventually(
      async () => {
        for (const name of running.keys()) {
          const own = await processesOf(dir(name));
          if (own.some((each) => each.command.includes(command))) return name;
        }
        return "";
      },
      (name) => name !== "",
      90_000,
    );
  }

  async function dispose(): Promise<void> {
    for (const name of running.keys()) {
      await signal(name, "SIGCONT");
      await signal(name, "SIGKILL");
    }
  }
}

/** The trial's budget holds nothing back, and its cost is that of its calls. */
async function chargedOnce(installation: Installation, trial: Trial): Promise<void> {
  const settled = () => installation.get<Trial>(`trials/${trial.id}`);
  const { budget } = await eventually(settled, (now) => now.budget?.reserved_nanos === "0", 60_000);
  const calls = await installation.calls(trial.id);
  const cost = calls.reduce((sum, call) => sum + BigInt(call.cost_nanos ?? "0"), 0n);
  assert.equal(budget?.spent_nanos, String(cost));
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
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

async function begin(installation: Installation, repository: string): Promise<string> {
  const task = ["-p", repository, "--instruction", "It is to be slowly mended"];
  const decides = ["--test", "test -f mended.txt"];
  const what = ["--project", "example", "-a", "claude-code", "-m", "scripted", "--detach"];
  return (await installation.json<Trial>("trial", "run", ...task, ...decides, ...what)).id;
}
