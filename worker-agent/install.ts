/**
 * Installs agents' packages, one folder for each pinned version: `<agentsDir>/<name>/<version>/`.
 *
 * Invariant: that folder exists only when it is whole and was seen to answer `--version`. A
 * package is installed beside it and renamed into place last, so that a killed installer leaves
 * nothing that a later one would take for an installation. Its files are readable by everyone,
 * since the agent runs as another user than its installer.
 */
import {
  chmod,
  glob,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { InstallProgress } from "../orchestrator/contract/agents.ts";
import { type Agent, binaryPath } from "./agents/agent.ts";
import { InstallError } from "./install-error.ts";
import { takeInstallLock } from "./install-lock.ts";
import { type Environment, findPython, pathWithNode, runTool } from "./install-tools.ts";

const MARKER = ".autocode-install.json";
const STAGING_PREFIX = ".staging-";

export interface InstallOptions {
  readonly agentsDir: string;
  /** The environment of npm and pip: their registry, proxy and certificate settings are in it. */
  readonly env: Environment;
  readonly onProgress: (progress: InstallProgress) => void;
  readonly signal?: AbortSignal;
}

/** Where the pinned version of an agent is, or will be. */
export function installDirOf(agent: Agent, agentsDir: string): string {
  return join(agentsDir, agent.facts.name, agent.facts.version);
}

/** The version that is installed and ready to run, or null. Only the pinned one counts. */
export async function installedVersion(agent: Agent, agentsDir: string): Promise<string | null> {
  if (agent.facts.package_source === "builtin") return agent.facts.version;
  try {
    const text = await readFile(join(installDirOf(agent, agentsDir), MARKER), "utf8");
    const marker: { version?: unknown } = JSON.parse(text);
    return marker.version === agent.facts.version ? agent.facts.version : null;
  } catch {
    return null;
  }
}

/**
 * Makes sure that the pinned version is installed and answers its folder. Idempotent; two
 * installers of one agent wait for each other.
 *
 * @throws InstallError when the package cannot be installed; nothing is left behind.
 */
export async function installAgent(agent: Agent, options: InstallOptions): Promise<string> {
  const { name, version, package_source: source } = agent.facts;
  const { agentsDir, signal } = options;
  const installDir = installDirOf(agent, agentsDir);
  if (await installedVersion(agent, agentsDir)) return alreadyInstalled();

  const agentDir = join(agentsDir, name);
  await makeWorldReadableDirs(agentsDir, agentDir);
  const releaseLock = await takeInstallLock(agentDir, signal);
  try {
    if (await installedVersion(agent, agentsDir)) return alreadyInstalled();
    await removeLeftovers(agentDir);
    const staging = await mkdtemp(join(agentDir, STAGING_PREFIX));
    try {
      progress("installing", `${agent.facts.package_name} ${version} from ${source}`);
      await (source === "npm" ? installFromNpm : installFromPypi)(agent, staging, options);
      await fixModes(agent, staging);
      progress("checking", `${name} --version`);
      await checkVersion(agent, staging, options);
      await writeFile(join(staging, MARKER), `${JSON.stringify({ name, version })}\n`);
      // A folder without its marker is no installation, whoever made it.
      await rm(installDir, { recursive: true, force: true });
      await rename(staging, installDir);
    } catch (error) {
      await rm(staging, { recursive: true, force: true });
      throw error;
    }
  } catch (error) {
    progress("failed", error instanceof Error ? error.message : String(error));
    throw error;
  } finally {
    await releaseLock();
  }
  progress("installed", `${name} ${version}`);
  return installDir;

  function alreadyInstalled(): string {
    progress("already_installed", `${name} ${version}`);
    return installDir;
  }

  function progress(step: InstallProgress["step"], detail: string): void {
    options.onProgress({ agent: name, step, detail });
  }
}

/**
 * Runs the installed CLI's `--version`.
 *
 * @throws InstallError when it is missing, does not start, or is another version.
 */
export async function verifyInstalled(
  agent: Agent,
  options: Pick<InstallOptions, "agentsDir" | "env" | "signal">,
): Promise<string> {
  const { name } = agent.facts;
  if (!(await installedVersion(agent, options.agentsDir))) {
    throw new InstallError(`${name} is not installed: run "autocode agent install ${name}"`);
  }
  return checkVersion(agent, installDirOf(agent, options.agentsDir), options);
}

async function checkVersion(
  agent: Agent,
  installDir: string,
  { env, signal }: Pick<InstallOptions, "env" | "signal">,
): Promise<string> {
  const { name, version } = agent.facts;
  const home = await mkdtemp(join(tmpdir(), "autocode-version-"));
  try {
    const file = binaryPath(agent, installDir);
    const said = await runTool(file, [...agent.binary.args, "--version"], {
      cwd: home,
      // Port 9 refuses: a version check must not call home either.
      env: {
        PATH: pathWithNode(env),
        HOME: home,
        TMPDIR: home,
        LANG: "C.UTF-8",
        HTTP_PROXY: "http://127.0.0.1:9",
        HTTPS_PROXY: "http://127.0.0.1:9",
        LITELLM_LOCAL_MODEL_COST_MAP: "True",
        DISABLE_AUTOUPDATER: "1",
      },
      ...(signal && { signal }),
    });
    const found = /\d+\.\d+\.\d+/.exec(said)?.[0];
    if (found === version) return version;
    throw new InstallError(`${name} --version said ${found ?? "nothing"}, not ${version}`);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function installFromNpm(agent: Agent, staging: string, options: InstallOptions) {
  const { name, package_name: packageName, version } = agent.facts;
  const spec = `${packageName}@${version}`;
  // Only this package's own install script may run, not those of what it depends on.
  const manifest = { private: true, allowScripts: { [spec]: true } };
  await writeFile(join(staging, "package.json"), JSON.stringify(manifest));
  let fetched = 0;
  // npm must run under our Node: under an older one it silently takes an older version of the
  // package, whose `engines` fit.
  const args = ["install", "--save-exact", "--no-audit", "--no-fund", "--global=false"];
  args.push("--ignore-scripts=false", "--include=optional", "--loglevel=http", spec);
  await runTool("npm", args, {
    cwd: staging,
    env: { ...withoutNpmRun(options.env), PATH: pathWithNode(options.env) },
    onLine: (line) => {
      if (!/^npm http (fetch|cache)/.test(line)) return;
      fetched += 1;
      const detail = `${fetched} downloads`;
      if (fetched % 10 === 0) options.onProgress({ agent: name, step: "installing", detail });
    },
    ...(options.signal && { signal: options.signal }),
  });
}

/** What `npm start` put into our environment describes our package, not the one to install. */
function withoutNpmRun(env: Environment): Environment {
  const own = /^(npm_package_|npm_lifecycle_|npm_command$|npm_config_(prefix|local_prefix|omit)$)/;
  return Object.fromEntries(Object.entries(env).filter(([key]) => !own.test(key)));
}

async function installFromPypi(agent: Agent, staging: string, options: InstallOptions) {
  const { name, package_name: packageName, version } = agent.facts;
  const { env, onProgress, signal } = options;
  const python = await findPython(env, signal);
  const shared = { cwd: staging, env, ...(signal && { signal }) };
  await runTool(python, ["-m", "venv", staging], shared);
  const args = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check"];
  args.push("--progress-bar=off", `${packageName}==${version}`);
  await runTool(join(staging, "bin/python"), args, {
    ...shared,
    onLine: (line) => {
      const step = /^(?:Collecting|Installing collected packages)[: ]*\S+/.exec(line.trim())?.[0];
      if (step) onProgress({ agent: name, step: "installing", detail: step });
    },
  });
}

async function makeWorldReadableDirs(...dirs: readonly string[]): Promise<void> {
  for (const dir of dirs) {
    await mkdir(dir, { recursive: true });
    await chmod(dir, 0o755);
  }
}

/** Everything readable by all, and executable by all where it is by its owner. */
async function fixModes(agent: Agent, staging: string): Promise<void> {
  for (const pattern of agent.executableGlobs) {
    for await (const file of glob(pattern, { cwd: staging }))
      await chmod(join(staging, file), 0o755);
  }
  await runTool("chmod", ["-R", "a+rX", "."], { cwd: staging, env: {} });
}

/** Staging folders of installers that were killed; the lock is held, so nobody uses them. */
async function removeLeftovers(agentDir: string): Promise<void> {
  for (const entry of await readdir(agentDir)) {
    if (!entry.startsWith(STAGING_PREFIX)) continue;
    await rm(join(agentDir, entry), { recursive: true, force: true });
  }
}
