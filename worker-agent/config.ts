/**
 * What the scheduler tells a worker-agent: the only reader of the environment.
 *
 * Invariant: the enrolment token leaves the environment when it is read, and no variable of ours
 * reaches a child.
 */
import { dirname, isAbsolute, resolve } from "node:path";

export interface RunAs {
  readonly uid: number;
  readonly gid: number;
}

export interface Config {
  readonly apiUrl: string;
  readonly enrolmentToken: string;
  /** This allocation's own folder. */
  readonly allocationDir: string;
  readonly agentsDir: string;
  /** The user that runs the agent and the tests; null: our own. */
  readonly runAs: RunAs | null;
  /** How long to go on without the orchestrator. */
  readonly orphanMs: number;
  /** The PATH of every child, our own Node first: some CLIs are `env node` scripts. */
  readonly path: string;
  /** The environment of package installers: registry, proxy and certificate settings. */
  readonly installEnv: Readonly<Record<string, string>>;
}

const ORPHAN_MS = 120_000;
const DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin";

/**
 * Reads the configuration, and takes the enrolment token out of the environment.
 *
 * @throws Error naming each variable that is missing or malformed.
 */
export function readConfig(
  env: Record<string, string | undefined> = process.env,
  { execPath, isRoot } = { execPath: process.execPath, isRoot: process.getuid?.() === 0 },
): Config {
  const faults: string[] = [];
  const apiUrl = required("AUTOCODE_API_URL");
  const enrolmentToken = required("AUTOCODE_ENROLMENT_TOKEN");
  const allocationDir = resolve(required("AUTOCODE_ALLOCATION_DIR"));
  const agentsDir = resolve(required("AUTOCODE_AGENTS_DIR"));
  delete env["AUTOCODE_ENROLMENT_TOKEN"];

  if (apiUrl !== "" && !/^https?:\/\//.test(apiUrl)) {
    faults.push("AUTOCODE_API_URL must be an http or https address");
  }
  const orphanText = env["AUTOCODE_ORPHAN_MS"] ?? String(ORPHAN_MS);
  const orphanMs = Number(orphanText);
  if (!Number.isSafeInteger(orphanMs) || orphanMs < 0) {
    faults.push("AUTOCODE_ORPHAN_MS must be a whole number of milliseconds");
  }
  const runAsText = env["AUTOCODE_RUN_AS"];
  const runAs = runAsText === undefined || runAsText === "" ? null : parseRunAs(runAsText);
  if (runAs === undefined) faults.push("AUTOCODE_RUN_AS must be uid:gid, neither of them 0");
  if (faults.length > 0) throw new Error(faults.join("; "));

  return Object.freeze({
    apiUrl: apiUrl.replace(/\/+$/, ""),
    enrolmentToken,
    allocationDir,
    agentsDir,
    // Only root can become another user.
    runAs: isRoot ? (runAs ?? null) : null,
    orphanMs,
    path: childPath(execPath, env["PATH"]),
    installEnv: installEnvironment(env),
  });

  function required(name: string): string {
    const value = env[name];
    if (value === undefined || value === "") faults.push(`${name} is not set`);
    return value ?? "";
  }
}

function parseRunAs(text: string): RunAs | undefined {
  const [, uid, gid] = /^([1-9][0-9]{0,9}):([1-9][0-9]{0,9})$/.exec(text) ?? [];
  if (uid === undefined || gid === undefined) return undefined;
  return { uid: Number(uid), gid: Number(gid) };
}

/** Absolute folders only: a relative one would be looked up in the agent's checkout. */
function childPath(execPath: string, path = DEFAULT_PATH): string {
  const folders = path
    .split(":")
    .filter((folder) => isAbsolute(folder) && !folder.includes("/node_modules/"));
  return [dirname(execPath), ...folders].join(":");
}

function installEnvironment(env: Record<string, string | undefined>): Record<string, string> {
  const entries = Object.entries(env).flatMap(([name, value]): [string, string][] =>
    value === undefined || name.startsWith("AUTOCODE_") ? [] : [[name, value]],
  );
  return Object.fromEntries(entries);
}
