/**
 * Goal: an agent is installed whole or not at all, once, whoever else installs it, whatever was
 * left behind; and under our own Node, readable by the agent's user.
 *
 * Method: the real npm installs a package of this test's own from a registry on loopback.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { InstallProgress } from "../../orchestrator/contract/agents.ts";
import type { Agent } from "../../worker-agent/agents/agent.ts";
import { codex } from "../../worker-agent/agents/codex.ts";
import {
  installAgent,
  installDirOf,
  installedVersion,
  verifyInstalled,
} from "../../worker-agent/install.ts";
import { InstallError } from "../../worker-agent/install-error.ts";
import { findPython } from "../../worker-agent/install-tools.ts";
import { openRegistry, type TestPackage } from "./npm-registry.ts";

const NAME = "autocode-test-agent";

const AGENT: Agent = {
  ...codex,
  facts: { ...codex.facts, name: "test-agent", package_name: NAME, version: "1.2.3" },
  binary: { path: "node_modules/.bin/test-agent", args: [] },
  executableGlobs: [`node_modules/${NAME}/vendor/*/tool`],
};

const PACKAGE: TestPackage = {
  name: NAME,
  version: "1.2.3",
  manifest: { bin: { "test-agent": "cli.js" } },
  files: {
    "cli.js": '#!/usr/bin/env node\nconsole.log("test-agent 1.2.3 on", process.version);\n',
    "vendor/any/tool": "#!/bin/sh\n",
  },
};

test("a package is installed once, whole, and readable by everyone", async (t) => {
  await using fixture = await openFixture(PACKAGE);
  const { agentsDir, install, registry } = fixture;
  const umask = process.umask(0o077);
  t.after(() => process.umask(umask));
  assert.equal(await installedVersion(AGENT, agentsDir), null);

  const first = await install();
  assert.equal(first.installDir, installDirOf(AGENT, agentsDir));
  assert.deepEqual(stepsOf(first.progress), ["installing", "checking", "installed"]);
  assert.equal(await installedVersion(AGENT, agentsDir), "1.2.3");
  const { env } = fixture;
  assert.equal(await verifyInstalled(AGENT, { agentsDir, env }), "1.2.3");
  assert.deepEqual(await readdir(join(agentsDir, "test-agent")), ["1.2.3"]);
  const packageDir = join(first.installDir, "node_modules", NAME);
  for (const path of [
    agentsDir,
    first.installDir,
    packageDir,
    join(packageDir, "vendor/any/tool"),
  ]) {
    assert.equal((await stat(path)).mode & 0o755, 0o755, path);
  }
  assert.equal((await stat(join(packageDir, "package.json"))).mode & 0o444, 0o444);

  const asked = registry.requests.length;
  const second = await install();
  assert.deepEqual(stepsOf(second.progress), ["already_installed"]);
  assert.equal(registry.requests.length, asked);
});

test("npm and the package run under our own Node, whatever comes first on PATH", async () => {
  await using fixture = await openFixture(PACKAGE);
  const oldNode = join(fixture.agentsDir, "../old");
  await mkdir(oldNode);
  await writeFile(join(oldNode, "node"), "#!/bin/sh\necho this is an old node >&2\nexit 9\n");
  await chmod(join(oldNode, "node"), 0o755);
  const env = { ...fixture.env, PATH: `${oldNode}:${fixture.env["PATH"]}` };
  await fixture.install({ env });
  assert.equal(await installedVersion(AGENT, fixture.agentsDir), "1.2.3");
});

test("of two installers at once, one installs and the other finds it", async () => {
  await using fixture = await openFixture(PACKAGE);
  const both = await Promise.all([fixture.install(), fixture.install()]);
  const last = both.map(({ progress }) => stepsOf(progress).at(-1)).sort();
  assert.deepEqual(last, ["already_installed", "installed"]);
  assert.equal(fixture.registry.requests.filter((path) => path === "/package.tgz").length, 1);
});

test("what a killed installer left is no installation, and is taken over", async () => {
  await using fixture = await openFixture(PACKAGE);
  const agentDir = join(fixture.agentsDir, "test-agent");
  const { pid } = spawnSync(process.execPath, ["--version"]);
  await mkdir(join(agentDir, `.lock-${pid}-1-abcdef`), { recursive: true });
  // Our own number, but of a process that started at another time.
  await mkdir(join(agentDir, `.lock-${process.pid}-1-abcdef`), { recursive: true });
  await mkdir(join(agentDir, ".staging-abcdef/node_modules"), { recursive: true });
  await mkdir(join(agentDir, "1.2.3/node_modules"), { recursive: true });
  assert.equal(await installedVersion(AGENT, fixture.agentsDir), null);

  await fixture.install();
  assert.deepEqual(await readdir(agentDir), ["1.2.3"]);
  assert.equal(await installedVersion(AGENT, fixture.agentsDir), "1.2.3");
});

test("a package that says another version is not installed", async () => {
  const files = { "cli.js": '#!/usr/bin/env node\nconsole.log("9.9.9");\n' };
  await using fixture = await openFixture({ ...PACKAGE, files });
  const error = await fixture.fault();
  assert.equal(error.message, "test-agent --version said 9.9.9, not 1.2.3");
  assert.deepEqual(stepsOf(fixture.progress), ["installing", "checking", "failed"]);
  assert.deepEqual(await readdir(join(fixture.agentsDir, "test-agent")), []);
});

test("a version that there is not leaves nothing, and its fault is one line", async () => {
  await using fixture = await openFixture({ ...PACKAGE, version: "1.0.0" });
  const error = await fixture.fault();
  assert.match(error.message, /^npm install failed: .*autocode-test-agent@1\.2\.3/);
  assert.ok(!error.message.includes("\n"));
  assert.deepEqual(await readdir(join(fixture.agentsDir, "test-agent")), []);
  const { agentsDir, env } = fixture;
  await assert.rejects(verifyInstalled(AGENT, { agentsDir, env }), {
    message: 'test-agent is not installed: run "autocode agent install test-agent"',
  });
});

test("an installation that is stopped leaves nothing", async () => {
  await using fixture = await openFixture({ ...PACKAGE, isStuck: true });
  const stop = new AbortController();
  const installing = fixture.install({ signal: stop.signal });
  await fixture.registry.firstRequest;
  // A second one waits for the lock, and can be stopped there too.
  const waiting = fixture.install({ signal: stop.signal });
  stop.abort();
  const ends = await Promise.allSettled([installing, waiting]);
  assert.deepEqual(
    ends.map((end) => end.status === "rejected" && end.reason.name),
    ["AbortError", "AbortError"],
  );
  assert.deepEqual(await readdir(join(fixture.agentsDir, "test-agent")), []);
});

test("a missing npm says what is missing", async () => {
  await using fixture = await openFixture(PACKAGE);
  const env = { ...fixture.env, PATH: join(fixture.agentsDir, "nothing") };
  const error = await fixture.fault({ env });
  assert.equal(error.message, "npm is missing: install it, then try again");
});

test("a Python is taken that fits, and one that everyone reaches before another", async () => {
  await using fixture = await openFixture(PACKAGE);
  const folder = join(fixture.agentsDir, "..");
  const priv = join(folder, "private");
  await mkdir(priv, { mode: 0o700 });
  await makePython("too-new", 14, folder);
  await makePython("private-fit", 12, priv);
  await makePython("public-fit", 11, folder);
  const env = { ...fixture.env, PATH: `${folder}:/usr/bin:/bin` };
  const find = (...names: string[]) => findPython(env, undefined, names);

  assert.equal(
    await find("too-new", "private-fit", "public-fit"),
    join(folder, "python-public-fit"),
  );
  assert.equal(await find("none", "private-fit"), join(priv, "python-private-fit"));
  await assert.rejects(find("none", "too-new"), {
    message:
      "Aider needs Python 3.10, 3.11 or 3.12 with its venv module: " +
      "install it (Debian, Ubuntu: apt-get install python3-venv), then try again",
  });

  /** Answers as Python would to the question that is put to it. */
  async function makePython(name: string, minor: number, prefix: string): Promise<void> {
    await writeFile(join(prefix, `python-${name}`), "", { mode: 0o755 });
    const lines = `#!/bin/sh\necho ${minor}\necho ${prefix}/python-${name}\necho ${prefix}\n`;
    await writeFile(join(folder, name), lines, { mode: 0o755 });
  }
});

interface InstallRun {
  readonly installDir: string;
  readonly progress: readonly InstallProgress[];
}

interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal;
}

async function openFixture(served: TestPackage) {
  const registry = await openRegistry(served);
  const folder = await mkdtemp(join(tmpdir(), "autocode-install-"));
  await chmod(folder, 0o755);
  const agentsDir = join(folder, "agents");
  const env: Record<string, string | undefined> = {
    PATH: process.env["PATH"],
    HOME: folder,
    npm_config_registry: registry.url,
    npm_config_cache: join(folder, "cache"),
    npm_config_fetch_retries: "0",
  };
  const seen: InstallProgress[] = [];
  return { registry, agentsDir, env, progress: seen, install, fault, [Symbol.asyncDispose]: close };

  async function install(options: RunOptions = {}): Promise<InstallRun> {
    const progress: InstallProgress[] = [];
    const onProgress = (line: InstallProgress) => {
      progress.push(line);
      seen.push(line);
    };
    const installDir = await installAgent(AGENT, { agentsDir, env, onProgress, ...options });
    return { installDir, progress };
  }

  async function fault(options: RunOptions = {}): Promise<InstallError> {
    try {
      await install(options);
    } catch (error) {
      assert.ok(error instanceof InstallError, String(error));
      return error;
    }
    throw new assert.AssertionError({ message: "it was installed" });
  }

  async function close(): Promise<void> {
    await registry[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Steps without repeats: `installing` is told with every tenth download. */
function stepsOf(progress: readonly InstallProgress[]): string[] {
  const steps = progress.map(({ step }) => step);
  return steps.filter((step, index) => step !== steps[index - 1]);
}
