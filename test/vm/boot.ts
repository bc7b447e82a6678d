/**
 * Goal: a VM of our templates becomes a worker by itself, keeps what runs on it in its place (S15),
 * and finishes a trial while `vm follow` keeps it with the trial's checkpoints: `npm run test:vm`.
 *
 * Method: debootstrap makes a small Debian image (kept in .engines/vm), `autocode vm build` makes
 * a VM of it, qemu boots that (by KVM where it works, else emulated) with our cloud-init on its
 * seed disk. Its network is qemu's own, to this machine's loopback. The orchestrator, the agent
 * (Qwen Code) and PostgreSQL are real, the model is the scripted one. Slow: minutes.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { env } from "node:process";
import test, { type TestContext } from "node:test";
import type { Trial } from "../../orchestrator/contract/trials.ts";
import type { JoinToken, WorkerList } from "../../orchestrator/contract/workers.ts";
import { isThere, runTool } from "../../vm-templates/tools.ts";
import { eventually } from "../support/eventually.ts";
import {
  type Installation,
  makeProject,
  openFolder,
  ROOT,
  runToEnd,
  startInstallation,
  TERMINAL,
  whyNoAgents,
} from "../support/installation.ts";

const BASE_DIR = join(ROOT, ".engines/vm/base");
const TEMPLATES = join(import.meta.dirname, "templates");
const AGENT = "qwen-code";
/** What the VM said when it was last booted. */
const LOG = join(ROOT, ".engines/vm/boot.log");
/** How many things the probe tries that must be denied. */
const PROBED = 19;
const KVM_MS = 20_000;
const JOIN_MS = 1_500_000;
const TRIAL_MS = 1_500_000;
/** Over what an emulated VM stands still for while its memory is written on a busy machine. */
const LEASE_MS = 600_000;

test("a VM of our templates joins the fleet, contains its agents, and finishes a trial", {
  skip: await whyNot(),
  timeout: 5_400_000,
}, async (t) => {
  await using folder = await openFolder("autocode-vm-");
  await using installation = await startInstallation({
    env: { AUTOCODE_SCHEDULER: "fleet", AUTOCODE_WORKER_LEASE_MS: String(LEASE_MS) },
  });
  const took = stopwatch(t);
  await makeBase(installation);
  took("base image");
  const vmDir = join(folder.path, "vm");
  const { token } = await joinToken(installation);
  await buildVm(installation, vmDir, token);
  const agents = join(folder.path, "agents.img");
  await packAgent(agents);
  took("VM built");

  const args = await accelerator(t);
  const drive = `file=${agents},if=virtio,format=raw,readonly=on`;
  await using vm = startVm(vmDir, [...args, "-drive", drive, "-no-reboot"]);
  const joined = await eventually(
    async () => {
      assert.ok(vm.isRunning(), `the VM ended: ${vm.output().slice(-2000)}`);
      return (await installation.get<WorkerList>("workers")).workers[0];
    },
    (worker) => worker?.status === "ready",
    JOIN_MS,
  );
  took("booted and joined");
  assert.equal(joined?.capabilities?.vm_template, "boot");
  assert.deepEqual([joined?.capabilities?.cpus, joined?.slots], [1, 1]);
  judgeProbes(t, vm.output());

  const tasks = await slowerTask(installation.folder);
  await makeProject(installation, "in-a-vm", [`agents: [${AGENT}]`, `tasks: [${tasks}]`]);
  const what = ["--project", "in-a-vm", "--task", "fix-median", "--wall-ms", String(TRIAL_MS)];
  await using follow = startFollow(installation, vmDir, joined?.name ?? "");
  const { id } = await installation.json<Trial>("trial", "run", ...what, "--detach");
  const trial = await installation.untilState(id, TERMINAL, TRIAL_MS);
  took("trial finished");
  assert.equal(trial.state, "succeeded", JSON.stringify(trial));
  assert.equal(trial.verdict, "passed");
  await judgeIsolation(t, installation, id);
  await follow.end();
  t.diagnostic(`vm follow: ${follow.output().trimEnd()}`);
  const kept = new RegExp(
    `^took checkpoint_\\w+\\.${id}; the VM stood still for [1-9]\\d* ms$`,
    "m",
  );
  assert.match(follow.output(), kept);
  await goBack(installation, vmDir, id);
  took("put back");
});

/** The example's task, with time for its tests where no KVM is: up to two minutes were seen. */
async function slowerTask(folder: string): Promise<string> {
  const task = join(folder, "fix-median");
  await cp(join(ROOT, "examples/tasks/fix-median"), task, { recursive: true });
  const file = join(task, "task.toml");
  const text = await readFile(file, "utf8");
  await writeFile(file, text.replaceAll("timeout_sec = 60\n", "timeout_sec = 600\n"));
  return task;
}

async function whyNot(): Promise<string | false> {
  const programs = ["debootstrap", "qemu-img", "qemu-system-x86_64", "xorriso", "mke2fs"];
  const there = await Promise.all(
    programs.map((each) => runTool(each, each === "mke2fs" ? ["-V"] : ["--version"])),
  );
  const absent = programs.filter((_, index) => there[index] === null);
  const reason =
    process.getuid?.() !== 0
      ? "debootstrap needs root"
      : absent.length > 0
        ? `${absent.join(", ")} not installed`
        : await whyNoAgents(AGENT);
  if (reason !== false) assert.notEqual(env["AUTOCODE_REQUIRE_ENGINES"], "all", reason);
  return reason;
}

/** Says how long each step took, since the one before. */
function stopwatch(t: TestContext): (step: string) => void {
  let lastMs = performance.now();
  return (step) => {
    const nowMs = performance.now();
    t.diagnostic(`${step}: ${((nowMs - lastMs) / 1000).toFixed(0)} s`);
    lastMs = nowMs;
  };
}

/** An image of this machine's own release, from the mirror of its apt; kept for the next run. */
async function makeBase(installation: Installation): Promise<void> {
  if (await isThere(join(BASE_DIR, "disk.qcow2"))) return;
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(await readFile("/etc/os-release", "utf8"))?.[1];
  assert.ok(release !== undefined, "/etc/os-release names no release");
  const what = ["base", "--debootstrap", release, "--out", BASE_DIR, "--set", "disk_gib=4"];
  const { exit, err } = await installation.cli("vm", "build", ...what);
  assert.equal(exit, 0, err);
}

async function joinToken(installation: Installation): Promise<JoinToken> {
  const response = await fetch(`${installation.url()}/api/v1/workers/tokens`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${installation.token()}`,
      "content-type": "application/json",
    },
    body: JSON.stringify({ pool: "default", uses: 1, ttl_ms: 7_200_000 }),
  });
  assert.ok(response.ok, await response.clone().text());
  return (await response.json()) as JoinToken;
}

async function buildVm(installation: Installation, out: string, token: string): Promise<void> {
  const gateway = /gateway at http:\/\/[^:\s]+:(\d+)/.exec(installation.output())?.[1];
  assert.ok(gateway !== undefined, installation.output());
  const { port: api } = new URL(installation.url());
  const bin = join(ROOT, "bin/autocode.mjs");
  const what = ["boot", "--templates", TEMPLATES, "--base", BASE_DIR, "--out", out];
  const set = [
    `orchestrator_url=http://127.0.0.1:${api}`,
    `nomad_meta=api=${api},gateway=${gateway}`,
  ];
  const args = [...what, ...set.flatMap((setting) => ["--set", setting])];
  const built = await runToEnd(process.execPath, [bin, "vm", "build", ...args], {
    cwd: installation.folder,
    env: { ...installation.environment, AUTOCODE_VM_JOIN_TOKEN: token },
  });
  assert.equal(built.exit, 0, built.err);
}

/** A file system of the agent's package, as the VM has no registry to install it from. */
async function packAgent(image: string): Promise<void> {
  const agentsDir = join(env["AUTOCODE_TEST_AGENTS_DIR"] ?? "", AGENT);
  const args = ["-q", "-t", "ext4", "-L", "agents", "-m", "0", "-d", agentsDir, image, "1G"];
  const ended = await runTool("mke2fs", args);
  assert.equal(ended?.exit, 0, ended?.output);
}

/**
 * qemu's arguments for KVM where a kernel says a word under it, else for software emulation: that a
 * /dev/kvm exists and opens says nothing on a nested machine.
 */
async function accelerator(t: TestContext): Promise<string[]> {
  const signal = AbortSignal.timeout(KVM_MS);
  let hasSpoken = false;
  const done = new AbortController();
  const kernel = ["-kernel", join(BASE_DIR, "vmlinuz"), "-append", "console=ttyS0 panic=-1"];
  const machine = ["-machine", "q35,accel=kvm", "-cpu", "max", "-m", "256", "-no-reboot"];
  try {
    await runTool("qemu-system-x86_64", [...machine, ...kernel, "-nographic"], {
      signal: AbortSignal.any([signal, done.signal]),
      onLine: (line) => {
        hasSpoken ||= /Linux version/.test(line);
        if (hasSpoken) done.abort();
      },
    });
  } catch {
    // Silence, or the words that were waited for: either way it was ended.
  }
  t.diagnostic(hasSpoken ? "accelerated by KVM" : "KVM does not run a kernel here: emulated");
  return hasSpoken ? [] : ["-machine", "accel=tcg"];
}

function startVm(dir: string, args: readonly string[]) {
  let output = "";
  const child: ChildProcess = spawn("nice", ["-n", "10", "sh", join(dir, "run.sh"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => {
      output += bytes;
    });
  }
  const ended = new Promise<void>((done) => child.once("close", () => done()));
  return {
    output: () => output,
    isRunning: () => child.exitCode === null && child.signalCode === null,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
      await writeFile(LOG, output);
    },
  };
}

/** The unit's own umask closes no folder to the agent's user (S15). */
async function judgeIsolation(t: TestContext, installation: Installation, id: string) {
  const events = await installation.events(id);
  const notes = events.filter(({ type }) => type === "trial.note").map(({ data }) => data);
  assert.deepEqual(
    notes.filter(({ message }) => /runs as the orchestrator's own user/.test(String(message))),
    [],
  );
  const isolation = events.find(({ type }) => type === "egress.isolation");
  t.diagnostic(`egress: ${JSON.stringify(isolation?.data)}`);
}

/** `vm follow`, as a person leaves it running beside the VM. */
function startFollow(installation: Installation, vmDir: string, worker: string) {
  let output = "";
  const args = ["vm", "follow", vmDir, "--worker", worker, "--keep", "1"];
  const child = spawn(process.execPath, [join(ROOT, "bin/autocode.mjs"), ...args], {
    cwd: installation.folder,
    env: installation.environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      output += bytes;
    });
  }
  const ended = new Promise<number | null>((done) => child.once("close", done));
  return {
    output: () => output,
    /** Ctrl-C; a snapshot that is under way is finished first. */
    async end() {
      child.kill("SIGINT");
      assert.equal(await ended, 0, output);
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGINT");
      await ended;
    },
  };
}

/** Back in the midst of a trial that is over: the worker is there again, the trial stays over. */
async function goBack(installation: Installation, vmDir: string, id: string): Promise<void> {
  const snapshots = await installation.json<{ name: string; trial_id: string | null }[]>(
    ...["vm", "snapshot", "ls", vmDir],
  );
  assert.deepEqual(
    snapshots.map(({ trial_id: owner }) => owner),
    [id],
  );
  const { exit, err } = await installation.cli("vm", "restore", vmDir, snapshots[0]?.name ?? "");
  assert.equal(exit, 0, err);
  const restoredAt = new Date().toISOString();
  const { workers } = await eventually(
    () => installation.get<WorkerList>("workers"),
    ({ workers: [worker] }) => (worker?.heartbeat_at ?? "") > restoredAt && worker?.used === 0,
    JOIN_MS,
  );
  assert.deepEqual(
    workers.map(({ status }) => status),
    ["ready"],
  );
  const { state, verdict } = await installation.trial(id);
  assert.deepEqual([state, verdict], ["succeeded", "passed"]);
}

/** Everything that the probe tried in the worker's sandbox was denied, and the machine goes on. */
function judgeProbes(t: TestContext, output: string): void {
  const found = [...output.matchAll(/PROBE (.+?)\r?$/gm)].map(([, what = ""]) => what);
  const denied = found.filter((what) => what.endsWith(" denied"));
  assert.deepEqual(
    found.filter((what) => what.endsWith(" ALLOWED")),
    [],
  );
  const said = found.filter((what) => !what.endsWith(" denied"));
  assert.deepEqual(said, ["the probe itself runs", "root still has room", "done"]);
  assert.equal(denied.length, PROBED, denied.join(", "));
  t.diagnostic(`denied in the VM: ${denied.map((what) => what.replace(" denied", "")).join(", ")}`);
}
