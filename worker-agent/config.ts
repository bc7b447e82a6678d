/**
 * What the scheduler tells a worker-agent: the only reader of the environment. What Nomad sets by
 * itself (its runtime environment's NOMAD_ALLOC_ID, NOMAD_ALLOC_DIR, NOMAD_TASK_DIR) stands in for
 * what nobody set.
 *
 * Invariant: the enrolment token leaves the environment, or its file the disk, when it is read, and
 * neither a variable of ours nor one that sounds like a secret reaches a child.
 */
import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { type Limits, readLimits } from "./limits.ts";

export interface RunAs {
  readonly uid: number;
  readonly gid: number;
}

export interface Config {
  /** Several with commas between them, where there are several orchestrators. */
  readonly apiUrl: string;
  readonly enrolmentToken: string;
  /** This allocation's own folder. */
  readonly allocationDir: string;
  /** Whether we remove it when we end: nobody else does before its engine collects garbage. */
  readonly removesAllocationDir: boolean;
  readonly agentsDir: string;
  /** What an isolated allocation sees nothing of, but for its own rooms and the agents. */
  readonly hiddenDirs: readonly string[];
  /** The user that runs the agent and the tests; null: our own. */
  readonly runAs: RunAs | null;
  /** What it all may take of the host. */
  readonly limits: Limits;
  /** How long to go on without the orchestrator. */
  readonly orphanMs: number;
  /** The PATH of every child, our own Node first: some CLIs are `env node` scripts. */
  readonly path: string;
  /** The environment of package installers: registry, proxy and certificate settings. */
  readonly installEnv: Readonly<Record<string, string>>;
}

const ORPHAN_MS = 120_000;
const TOKEN_BYTES_MAX = 16_384;
/** Of our own making: far from people's and from those of the local scheduler. */
const ALLOCATION_UIDS = { first: 2 ** 30, count: 2 ** 30 };
/** Ours, what sounds like a secret, and the folder that our own compiled code is taken from. */
const NOT_FOR_INSTALLERS =
  /^(AUTOCODE|NOMAD|VAULT)_|^NODE_COMPILE_CACHE$|auth|token|password|secret|_(key|otp)$/i;
const DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin";

/**
 * Reads the configuration, and takes the enrolment token out of the environment or off the disk.
 *
 * @throws Error naming each variable that is missing or malformed.
 */
export function readConfig(
  env: Record<string, string | undefined> = process.env,
  { execPath, isRoot } = { execPath: process.execPath, isRoot: process.getuid?.() === 0 },
): Config {
  const faults: string[] = [];
  const apiUrl = required("AUTOCODE_API_URL");
  const enrolmentToken = takeToken();
  const ownDir = text("NOMAD_TASK_DIR", "trial");
  const allocationDir = resolve(required("AUTOCODE_ALLOCATION_DIR", ownDir));
  const agentsDir = resolve(
    required("AUTOCODE_AGENTS_DIR", text("NOMAD_ALLOC_DIR", "data", "agents")),
  );

  if (apiUrl !== "" && !apiUrl.split(",").every((url) => /^https?:\/\//.test(url))) {
    faults.push("AUTOCODE_API_URL must be an http or https address, or several with commas");
  }
  const orphanText = env["AUTOCODE_ORPHAN_MS"] ?? String(ORPHAN_MS);
  const orphanMs = Number(orphanText);
  if (!Number.isSafeInteger(orphanMs) || orphanMs < 0) {
    faults.push("AUTOCODE_ORPHAN_MS must be a whole number of milliseconds");
  }
  const runAs = parseRunAs(env["AUTOCODE_RUN_AS"], env["NOMAD_ALLOC_ID"]);
  if (runAs === undefined) {
    faults.push(
      "AUTOCODE_RUN_AS must be uid:gid, neither of them 0, or allocation where Nomad starts us",
    );
  }
  const limits = readLimits(env, faults);
  if (faults.length > 0) throw new Error(faults.join("; "));

  return Object.freeze({
    apiUrl: apiUrl.replace(/\/+$/, ""),
    enrolmentToken,
    allocationDir,
    removesAllocationDir: allocationDir === ownDir,
    agentsDir,
    hiddenDirs: hiddenDirs(allocationDir, agentsDir),
    // Only root can become another user.
    runAs: isRoot ? (runAs ?? null) : null,
    limits,
    orphanMs,
    path: childPath(execPath, env["PATH"]),
    installEnv: installEnvironment(env),
  });

  /** What the scheduler names, other allocations, and what they have in common with the agents. */
  function hiddenDirs(...own: [allocation: string, agents: string]): string[] {
    const named = (env["AUTOCODE_HIDDEN_DIRS"] ?? "").split(":").filter(isAbsolute);
    return [...new Set([...named, dirname(own[0]), commonFolder(...own)])];
  }

  function required(name: string, fallback = ""): string {
    const value = env[name] || fallback;
    if (value === "") faults.push(`${name} is not set`);
    return value;
  }

  /** A path below the folder that a variable names; nothing where it is not set. */
  function text(name: string, ...below: string[]): string {
    const folder = env[name] ?? "";
    return folder === "" ? "" : join(folder, ...below);
  }

  function takeToken(): string {
    const file = env["AUTOCODE_ENROLMENT_TOKEN_FILE"] ?? "";
    const token = file === "" ? required("AUTOCODE_ENROLMENT_TOKEN") : readToken(file, faults);
    delete env["AUTOCODE_ENROLMENT_TOKEN"];
    delete env["AUTOCODE_ENROLMENT_TOKEN_FILE"];
    return token;
  }
}

function commonFolder(one: string, other: string): string {
  const parts = other.split("/");
  const end = one.split("/").findIndex((part, at) => part !== parts[at]);
  return one.split("/").slice(0, end).join("/");
}

/** The file's one line; it is gone afterwards. */
function readToken(path: string, faults: string[]): string {
  try {
    const text = readFileSync(path, "utf8");
    rmSync(path);
    const token = text.trim();
    if (/^\S+$/.test(token) && token.length <= TOKEN_BYTES_MAX) return token;
    faults.push("AUTOCODE_ENROLMENT_TOKEN_FILE: the file must hold one token and nothing else");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    faults.push(
      `AUTOCODE_ENROLMENT_TOKEN_FILE: ${path} cannot be read and removed (${code}): a token is ` +
        "good for one start, the next one needs a new allocation",
    );
  }
  return "";
}

/**
 * Null: nobody in particular. `allocation`: a user of this Nomad allocation's own, from a hash of
 * its id, so that two allocations on one host cannot read each other's files. Undefined: not valid.
 */
function parseRunAs(text = "", allocId = ""): RunAs | null | undefined {
  if (text === "") return null;
  if (text === "allocation" && allocId !== "") {
    const drawn = createHash("sha256").update(allocId).digest().readUInt32BE(0);
    const uid = ALLOCATION_UIDS.first + (drawn % ALLOCATION_UIDS.count);
    return { uid, gid: uid };
  }
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

/** What of our environment an installer of packages may have. */
export function installEnvironment(
  env: Record<string, string | undefined>,
): Record<string, string> {
  const entries = Object.entries(env).flatMap(([name, value]): [string, string][] =>
    value === undefined || NOT_FOR_INSTALLERS.test(name) ? [] : [[name, value]],
  );
  return Object.fromEntries(entries);
}
